"""Purified images on disk, with no more of them in memory than a batch."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from art_ext.cli.display import progress
from art_ext.cli.errors import machine_failed
from art_ext.cli.images import GREY, readable
from art_ext.data import from_arrays
from art_ext.data.folder import SUFFIXES
from art_ext.data.pixels import check_eight_bits
from art_ext.files import replacing
from art_ext.purifiers import Purifier

Failures = dict[Path, str]


class _Picture(NamedTuple):
    file: Path  # relative to the input
    size: tuple[int, int]
    mode: str


def purify_folder(purifier: Purifier, source: Path, target: Path, batch_size: int) -> tuple[int, Failures]:
    """Purifies every image below a folder into PNG files under the same relative names.

    Files whose names differ in the suffix alone keep it: a.jpg becomes a.jpg.png beside a.png.

    Args:
        purifier: in eval mode, on its device.
        source: the input.
        target: the output.
        batch_size: images at once, all of one size.

    Returns:
        How many were written, and why each other file was not.

    Raises:
        ValueError: no images, or none that the purifier takes.
    """
    files = _files(source)
    if not files:
        raise ValueError(f"expected images ({' '.join(SUFFIXES)}), got none in {source}")
    names = _names(files)
    pictures, failures = _headers(source, files, purifier.channels)
    if not pictures:
        file, reason = next(iter(failures.items()))
        raise ValueError(f"expected images that the purifier takes, got none in {source} ({file}: {reason})")
    written = 0
    with progress("images") as bar:
        task = bar.add_task("purify", total=len(pictures))
        for group in _groups(pictures, batch_size):
            images, readable = _decoded(source, group, failures)
            for file, image in zip(readable, _cleaned(purifier, images, readable, failures), strict=False):
                _save(image, target / names[file])
                written += 1
            bar.advance(task, len(group))
    return written, dict(sorted(failures.items()))


def _files(source: Path) -> list[Path]:
    """Relative paths of the images, sorted; hidden files and folders are passed over."""
    found = (f.relative_to(source) for f in source.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file())
    return sorted(f for f in found if not any(part.startswith(".") for part in f.parts))


def _names(files: Sequence[Path]) -> dict[Path, Path]:
    """Where each file goes; no two to the same place."""
    stems: dict[Path, int] = {}
    for file in files:
        stems[file.with_suffix("")] = stems.get(file.with_suffix(""), 0) + 1
    names = {}
    for file in files:
        alone = stems[file.with_suffix("")] == 1 or file.suffix == ".png"
        names[file] = file.with_suffix(".png") if alone else file.with_name(f"{file.name}.png")
    taken: dict[Path, Path] = {}
    for file, name in names.items():
        if name in taken:
            raise ValueError(f"expected files of different names, got {taken[name]} and {file}, both {name} as PNG")
        taken[name] = file
    return names


def _headers(source: Path, files: Sequence[Path], channels: int | None) -> tuple[list[_Picture], Failures]:
    """Size and mode of each file, read without decoding it, and why a file is of no use."""
    pictures, failures = [], {}
    for file in files:
        try:
            with Image.open(source / file) as opened:
                check_eight_bits(opened)
                pictures.append(_Picture(file, opened.size, _mode(opened.mode, channels)))
        except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error and more
            failures[file] = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error)
    return pictures, failures


def _mode(mode: str, channels: int | None) -> str:
    """The mode that the purifier takes, "L" or "RGB"; grey images become RGB, never the other way."""
    grey = mode in GREY
    if channels is None:
        return "L" if grey else "RGB"
    if channels not in (1, 3) or (channels == 1 and not grey):
        raise ValueError(
            f"expected an image with {channels} channel(s), what the purifier takes, got Pillow mode {mode}"
        )
    return "L" if channels == 1 else "RGB"


def _groups(pictures: Sequence[_Picture], batch_size: int) -> Iterator[list[_Picture]]:
    """Batches of one size and mode."""
    group: list[_Picture] = []
    for picture in sorted(pictures, key=lambda p: (p.size, p.mode, p.file)):
        if group and (picture[1:] != group[0][1:] or len(group) == batch_size):
            yield group
            group = []
        group.append(picture)
    if group:
        yield group


def _decoded(source: Path, group: Sequence[_Picture], failures: Failures) -> tuple[Tensor, list[Path]]:
    """The images of a batch that can be decoded (N, C, H, W) in [0, 1], and their files."""
    arrays, files = [], []
    for picture in group:
        try:
            with Image.open(source / picture.file) as opened:
                arrays.append(np.asarray(opened.convert(picture.mode)).reshape(*picture.size[::-1], -1))
            files.append(picture.file)
        except Exception as error:  # as above
            failures[picture.file] = f"{type(error).__name__}: {error}"
    if not arrays:
        return torch.empty(0), []
    return from_arrays(np.stack(arrays), channels_first=False).x, files


def _cleaned(purifier: Purifier, x: Tensor, files: Sequence[Path], failures: Failures) -> Tensor:
    """Purified images on the CPU; none where the purifier refuses this size."""
    if not len(x):
        return x
    try:
        return _purified(purifier, x)
    except Exception as error:  # whatever a user's code raises on images that it does not take
        if machine_failed(error):
            raise
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        failures.update(dict.fromkeys(files, reason))
        return x[:0]


def _purified(purifier: Purifier, x: Tensor) -> Tensor:
    device = next((t.device for t in [*purifier.parameters(), *purifier.buffers()]), torch.device("cpu"))
    with torch.no_grad():
        purified = purifier(x.to(device)).cpu()
    if not bool(purified.isfinite().all()):
        raise ValueError("expected the purifier to give finite images, got NaN or Inf")
    return purified


def _bytes(x: Tensor) -> NDArray[np.uint8]:
    return (x * 255).round().to(torch.uint8).numpy()


def _save(image: Tensor, path: Path) -> None:
    pixels = _bytes(image)
    picture = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG")


def purify_npz(purifier: Purifier, source: Path, target: Path, batch_size: int, key: str = "x") -> int:
    """Purifies the images of an npz into another of the same layout and dtype; other arrays are copied.

    Args:
        purifier: in eval mode, on its device.
        source: the input; the images are uint8 or floating point in [0, 1].
        target: the output, written at once or not at all.
        batch_size: images at once.
        key: name of the images.

    Returns:
        How many.

    Raises:
        TypeError: images of another dtype.
        ValueError: no npz, no such key, images out of range, or channels or sizes that the purifier does not take.
    """
    if not zipfile.is_zipfile(source):
        raise ValueError(f"expected a folder of images or an npz, got {source}, which is neither")
    with readable(source):
        opened = zipfile.ZipFile(source)
    with opened as archive:
        member, members = f"{key}.npy", archive.namelist()
        if member not in members:
            names = ", ".join(m.removesuffix(".npy") for m in members)
            raise ValueError(f"expected key {key!r} in {source}, got keys: {names}")
        shape, dtype = _checked(purifier, archive, member, batch_size)
        with (
            replacing(target) as temporary,
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as out,
            progress("images") as bar,
        ):
            task = bar.add_task("purify", total=shape[0])
            for other in members:
                if other != member:
                    _copy(archive, out, other)
            with out.open(member, "w", force_zip64=True) as file:
                header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                for piece in _pieces(archive, member, batch_size):
                    file.write(_like(piece, _purified(purifier, from_arrays(piece).x)).tobytes())
                    bar.advance(task, len(piece))
    return shape[0]


def _copy(archive: zipfile.ZipFile, out: zipfile.ZipFile, member: str) -> None:
    import shutil

    with readable(archive.filename), archive.open(member) as read, out.open(member, "w", force_zip64=True) as written:
        shutil.copyfileobj(read, written)


def _checked(
    purifier: Purifier, archive: zipfile.ZipFile, member: str, batch_size: int
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of an array of images, all of which have been looked at."""
    from art_ext.cli.trying import check_purifier

    with readable(archive.filename), archive.open(member) as file:
        shape, dtype = _header(file)
    for start, piece in enumerate(_pieces(archive, member, batch_size)):
        x = from_arrays(piece).x
        if start == 0:
            check_purifier(purifier, x[:1].to(next((p.device for p in purifier.parameters()), torch.device("cpu"))))
    return shape, dtype


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject or (dtype != np.uint8 and dtype.kind != "f"):
        raise TypeError(f"expected uint8 or floating-point images, got an array of {dtype}")
    if fortran or len(shape) not in (3, 4) or not shape[0]:
        order = "Fortran" if fortran else "C"
        raise ValueError(
            f"expected images (N, H, W), (N, C, H, W) or (N, H, W, C) in C order, got {shape} in {order} order"
        )
    return shape, dtype


def _pieces(archive: zipfile.ZipFile, member: str, batch_size: int) -> Iterator[NDArray[Any]]:
    """The array in batches, read as it goes."""
    with readable(archive.filename), archive.open(member) as file:
        shape, dtype = _header(file)
        size = int(np.prod(shape[1:])) * dtype.itemsize
        for start in range(0, shape[0], batch_size):
            count = min(batch_size, shape[0] - start)
            data = file.read(count * size)
            if len(data) != count * size:
                raise ValueError(f"expected {shape[0]} images in {member}, got fewer: the file was cut short")
            yield np.frombuffer(data, dtype).reshape(count, *shape[1:])


def _like(piece: NDArray[Any], purified: Tensor) -> NDArray[Any]:
    """Purified images (N, C, H, W) in the layout and dtype of what they were made from."""
    images = _bytes(purified) if piece.dtype == np.uint8 else purified.numpy()
    if piece.ndim == 3:
        images = images[:, 0]
    elif images.shape != piece.shape:
        images = images.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images.astype(piece.dtype))
