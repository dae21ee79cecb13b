"""Single images, as Pillow or a data set object hands them out, as arrays of a common shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

KEPT_MODES = ("L", "RGB", "RGBA")


def check_eight_bits(image: Image.Image) -> None:
    """Refuses deeper images: Pillow would cut them at 255 instead of scaling them.

    Raises:
        ValueError: for 16-bit, 32-bit and floating-point images.
    """
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"expected an image of 8 bits a channel, got Pillow mode {image.mode}")


def pixels(image: object) -> NDArray[Any]:
    """One image as an array: Pillow and numpy images as (H, W) or (H, W, C), tensors as they are.

    Palettes and CMYK become RGB, black-and-white becomes grey.

    Raises:
        TypeError: if it is none of these.
        ValueError: if it is a Pillow image of more than 8 bits a channel.
    """
    if isinstance(image, torch.Tensor):
        return image.detach().cpu().numpy()
    if isinstance(image, np.ndarray):
        return image
    if not isinstance(image, Image.Image):
        raise TypeError(f"expected a Pillow image, a tensor or a numpy array, got {type(image).__name__}")
    check_eight_bits(image)
    if image.mode not in KEPT_MODES:
        image = image.convert("L" if image.mode in ("1", "LA") else "RGB")
    return np.asarray(image)


def stack(images: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Images of one shape as one array (N, ...); without images (0, 0, 0).

    Raises:
        ValueError: if the shapes differ.
    """
    for image in images:
        if image.shape != images[0].shape:
            raise ValueError(f"expected images of one shape, got {images[0].shape} and {image.shape}")
    return np.stack(images) if images else np.zeros((0, 0, 0), dtype=np.uint8)
