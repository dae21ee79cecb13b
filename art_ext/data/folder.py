"""A folder of image files, one subfolder a class."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from art_ext.data.arrays import Images, from_arrays
from art_ext.data.order import balanced_order
from art_ext.data.pixels import check_eight_bits

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def image_folder(
    path: str | PathLike[str], *, size: int | tuple[int, int] | None = None, channels: Literal[1, 3] = 3
) -> Images:
    """The images below `path`, each labelled with its subfolder, in balanced order.

    The first n images hold the classes as evenly as possible (`balanced_order`), each class ordered by file name;
    `order` says where each image is in the list of all files, class by class.

    The sorted names of the subfolders are `classes`; their own subfolders are searched too. Hidden subfolders
    and files without the suffix of an image are passed over. Transparency is dropped; EXIF rotation is not
    applied.

    Args:
        path: the folder with one subfolder a class.
        size: (height, width) in pixels to stretch each image to, or one number for both; None to leave it.
        channels: 3 for RGB, 1 for grey.

    Raises:
        ValueError: if there are no subfolders, one has no image, a file cannot be decoded, or sizes differ
            and `size` is None.
    """
    if channels not in (1, 3):
        raise ValueError(f"expected channels 1 or 3, got {channels}")
    folders = sorted(d for d in Path(path).iterdir() if d.is_dir() and not d.name.startswith("."))
    if not folders:
        raise ValueError(f"expected a folder with one subfolder a class, got no subfolders in {path}")
    labelled = [(file, label) for label, folder in enumerate(folders) for file in _image_files(folder)]
    height_width = (size, size) if isinstance(size, int) else size
    decoded = [_decode(file, height_width, channels) for file, _ in labelled]
    for (file, _), image in zip(labelled, decoded, strict=True):
        if image.shape != decoded[0].shape:
            first = f"{_size(decoded[0])} in {labelled[0][0]}"
            raise ValueError(
                f"expected images of one size, got {first} and {_size(image)} in {file}: say size=, "
                "on the command line --size"
            )
    order = balanced_order([label for _, label in labelled])
    labels = np.array([labelled[i][1] for i in order])
    images = from_arrays(np.stack([decoded[i] for i in order]), labels, channels_first=False)
    return Images(images.x, images.labels, tuple(folder.name for folder in folders), torch.tensor(order))


def _image_files(folder: Path) -> list[Path]:
    found = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    if not found:
        raise ValueError(f"expected images ({' '.join(SUFFIXES)}), got none in {folder}")
    return found


def _decode(file: Path, height_width: tuple[int, int] | None, channels: int) -> NDArray[Any]:
    """The image as (H, W, C) in [0, 255]."""
    try:
        with Image.open(file) as opened:
            check_eight_bits(opened)
            image = opened.convert("RGB" if channels == 3 else "L")
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error and more
        raise ValueError(f"expected an image that can be decoded, got {file}: {error}") from error
    if height_width is not None:
        image = image.resize(height_width[::-1], Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(image.height, image.width, channels)


def _size(image: NDArray[Any]) -> str:
    return f"{image.shape[0]} x {image.shape[1]}"
