"""Augmentations by name, as in options."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from art_ext.data.augment import shift_and_flip
from art_ext.nn.modes import seeded

Augmentation = Callable[[Tensor], Tensor]
"""Images (N, C, H, W) in [0, 1] to as many, of one size."""


def random_crop(height: int, width: int) -> Augmentation:
    """A function that cuts a window of its own out of each image (N, C, H, W) of a batch.

    The place is uniform; the draws come from the ambient torch generator of the images' device.

    Args:
        height: of the window, in pixels.
        width: likewise.

    Raises:
        ValueError: a side below 1.
    """
    if height < 1 or width < 1:
        raise ValueError(f"expected a window of at least 1 x 1 pixels, got {height} x {width}")
    return partial(_random_crop, height=height, width=width)


def _random_crop(x: Tensor, height: int, width: int) -> Tensor:
    count, _, *sides = x.shape
    if height > sides[0] or width > sides[1]:
        raise ValueError(f"expected images of at least {height} x {width} pixels to crop, got {sides[0]} x {sides[1]}")
    top = torch.randint(sides[0] - height + 1, (count, 1), device=x.device)
    left = torch.randint(sides[1] - width + 1, (count, 1), device=x.device)
    rows, columns = top + torch.arange(height, device=x.device), left + torch.arange(width, device=x.device)
    image = torch.arange(count, device=x.device)[:, None, None]
    return x[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


NAMES: dict[str, tuple[Callable[..., Augmentation], str]] = {
    "shift_and_flip": (shift_and_flip, "shift_and_flip:2, of pixels"),
    "crop": (lambda height, width=None: random_crop(height, width or height), "crop:32 or crop:32x24"),
}


def augmentation_of(said: str | Augmentation | None) -> Augmentation | None:
    """What a text such as shift_and_flip:2 or crop:32 means; a function, or None, as it is.

    Raises:
        TypeError: neither.
        ValueError: no such augmentation.
    """
    if said is None or callable(said):
        return said
    if not isinstance(said, str):
        raise TypeError(f"expected an augmentation as a text or a function, got {type(said).__name__}")
    name, _, sizes = said.partition(":")
    spellings = ", ".join(spelling for _, spelling in NAMES.values())
    numbers = sizes.split("x") if sizes else []
    most = 2 if name == "crop" else 1
    if (
        name not in NAMES
        or not all(n.isdecimal() for n in numbers)
        or len(numbers) > most
        or (most, numbers) == (2, [])
    ):
        raise ValueError(f"expected an augmentation as {spellings}, got {said!r}")
    return NAMES[name][0](*map(int, numbers))


def check_augmentation(augment: Augmentation | None, x: Tensor) -> Tensor:
    """What an augmentation makes of images (N, C, H, W), with a seed of its own.

    Raises:
        ValueError: it gives something else than as many images in [0, 1].
    """
    if augment is None:
        return x
    with seeded(0):
        found = augment(x.clone())
    shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    if not isinstance(found, Tensor) or found.ndim != 4 or found.shape[:2] != x.shape[:2]:
        raise ValueError(f"expected {len(x)} images of {x.shape[1]} channels from the augmentation, got {shape}")
    if not bool(((found >= 0) & (found <= 1)).all()):
        raise ValueError("expected images in [0, 1] from the augmentation, got others")
    return found
