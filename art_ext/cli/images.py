"""The images of an npz, of a folder, of CIFAR-10, or of the data set that ships with the package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from art_ext.cli.errors import machine_failed
from art_ext.cli.terminal import say

if TYPE_CHECKING:
    from art_ext.data import Images

SHIPPED, CIFAR10 = "fashion_mnist", "cifar10"
CLASSES = 20
"""Of a folder, whose names are printed."""
GREY = ("1", "L", "LA", "La")
"""Pillow's modes of images without colour."""


def load_images(
    path: Path,
    *,
    split: Literal["train", "test"],
    keys: str = "x,y",
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    labels_needed: bool = True,
) -> Images:
    """Images with labels, in balanced order; those to train on keep theirs, but in a folder.

    Args:
        path: npz, folder, "fashion_mnist" or "cifar10" (see `art_ext.data.cifar10`).
        split: of these two data sets.
        keys: names of the arrays of an npz.
        size: (height, width) to stretch the images of a folder to.
        channels: of the images of a folder.
        labels_needed: refuse images without labels.

    Raises:
        TypeError, ValueError: as the loaders of `art_ext.data`.
        OSError: a file that cannot be read.
    """
    from art_ext import data

    named = str(path) if str(path) in (SHIPPED, CIFAR10) and not path.exists() else ""
    binary = path.is_dir() and path.name == data.CIFAR10_FOLDER
    if path.is_dir() and not binary:
        return _folder(path, size, channels)
    if size is not None or channels is not None:
        raise ValueError(f"expected --size and --channels with a folder of images, got them with {path}")
    if named == SHIPPED:
        return data.fashion_mnist(split)
    if named or binary:
        found = data.cifar10(split, folder=path if binary else None)
        return _balanced(found) if split == "test" else found
    if not path.exists():
        raise ValueError(
            f"expected an npz file, a folder, {SHIPPED} or {CIFAR10} as --data, got {path}, which is not there"
        )
    with readable(path):
        images, labels = _keys(path, keys, labels_needed)
        found = data.from_npz(path, images=images, labels=labels)
    if not len(found.x):
        raise ValueError(f"expected at least one image, got none in {path}")
    return _balanced(found) if split == "test" and found.labels is not None else found


def _balanced(found: Images) -> Images:
    """The images in balanced order."""
    import torch

    from art_ext.data import Images, balanced_order

    order = torch.tensor(balanced_order(found.y))
    return Images(found.x[order], found.y[order], found.classes, order)


@contextmanager
def readable(path: object) -> Iterator[None]:
    """Names a damaged npz: whatever its readers raise inside becomes a ValueError.

    Raises:
        TypeError, ValueError, OSError: as raised inside, or see above.
    """
    try:
        yield
    except (ValueError, TypeError, OSError, GeneratorExit):
        raise
    except Exception as error:  # zipfile, zlib and numpy each raise their own
        if machine_failed(error):
            raise
        raise ValueError(f"expected an npz that can be read, got {path}: {type(error).__name__}: {error}") from error


def _keys(path: Path, keys: str, labels_needed: bool) -> tuple[str, str | None]:
    """Names of the arrays; None for labels that are neither there nor needed."""
    import zipfile

    images, _, labels = (part.strip() for part in keys.partition(","))
    if not images or not labels:
        raise ValueError(f"expected --keys as IMAGES,LABELS, got {keys!r}")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"expected an npz file or a folder, got {path}, which is neither")
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        there = labels_needed or labels in names
    missing = [key for key in (images, labels if there else images) if key not in names]
    if missing:
        raise ValueError(
            f"expected key {missing[0]!r} in {path}, got keys: {', '.join(names)}: say --keys IMAGES,LABELS"
        )
    return images, labels if there else None


def _folder(path: Path, size: tuple[int, int] | None, channels: int | None) -> Images:
    from art_ext.data import image_folder

    if channels not in (None, 1, 3):
        raise ValueError(f"expected --channels 1 or 3, got {channels}")
    found = image_folder(path, size=size, channels=cast(Literal[1, 3], channels or _channels(path)))
    if found.classes:
        names = ", ".join(f"{i} {name}" for i, name in enumerate(found.classes[:CLASSES]))
        more = f" and {len(found.classes) - CLASSES} more" if len(found.classes) > CLASSES else ""
        say(f"classes of {path}, which have to be in the order of the classifier's logits: {names}{more}", err=True)
    return found


def _channels(path: Path) -> int:
    """1 if every image below the path is grey, 3 otherwise; reads headers alone."""
    from PIL import Image

    from art_ext.data.folder import SUFFIXES

    for file in path.rglob("*"):
        if file.suffix.lower() in SUFFIXES and file.is_file():
            try:
                with Image.open(file) as opened:
                    if opened.mode not in GREY:
                        return 3
            except Exception:  # a damaged file is reported by the reader that decodes it
                continue
    return 1
