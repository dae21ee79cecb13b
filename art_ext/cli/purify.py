"""art-ext purify: images of a folder or an npz, batch by batch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from art_ext.cli import options
from art_ext.cli.errors import FAILED, Debug, explained
from art_ext.cli.terminal import say

if TYPE_CHECKING:
    from art_ext.purifiers import Purifier

SHOWN = 20
"""Failures that are printed."""


def purify(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Folder of images, however nested, or an npz.")],
    target: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="Folder for PNG files under the same names, or an npz.")
    ],
    purifier: Annotated[str, typer.Option(help="Preset, folder of art-ext train, or file.py:name (images to images).")],
    method: options.Method = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images purified at once.")] = 64,
    key: Annotated[str, typer.Option(help="Name of the array of images in an npz.")] = "x",
    seed: options.Seed = 0,
    device: options.Device = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write into a folder or over an npz that is there.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Purify images and write them as PNG, or the images of an npz into another one; the input is never changed.

    Images of different sizes are handled one size at a time. Transparency is dropped; EXIF rotation is not applied.
    Files that cannot be read or purified are listed at the end, with exit code 1; the rest is written.
    """
    with explained(debug) as users:
        from art_ext.cli.purified import purify_folder, purify_npz
        from art_ext.cli.purifiers import load_purifier
        from art_ext.nn import seeded

        _check(source, target, overwrite)
        cleaner: Purifier = load_purifier(purifier, device=options.device_of(device), method=method)
        users.add("the purifier", cleaner, purifier)
        with seeded(seed):
            if source.is_dir():
                count, failures = purify_folder(cleaner, source, target, batch_size)
            else:
                count, failures = purify_npz(cleaner, source, target, batch_size, key), {}
    say(f"{count} images purified into {target}")
    if failures:
        for file, reason in list(failures.items())[:SHOWN]:
            say(f"error: {file}: {reason}", err=True)
        more = f", {SHOWN} of them shown" if len(failures) > SHOWN else ""
        say(f"{len(failures)} files could not be purified{more}", err=True)
        raise typer.Exit(FAILED)


def _check(source: Path, target: Path, overwrite: bool) -> None:
    """Refuses an output that is the input, holds it, lies in it, or holds anything else.

    Raises:
        ValueError: see above, or there is no input.
    """
    if not source.exists():
        raise ValueError(f"expected a folder of images or an npz, got {source}, which is not there")
    inside, outside = source.resolve(), target.resolve()
    if inside == outside or (target.exists() and source.samefile(target)):
        raise ValueError(f"expected an output other than the input, got {target} for both")
    if source.is_dir() and (inside in outside.parents or outside in inside.parents):
        raise ValueError(f"expected an output beside the input, got {source} and {target}, one inside the other")
    if source.is_dir() and target.exists() and not target.is_dir():
        raise ValueError(f"expected a folder as output, got the file {target}")
    if not source.is_dir() and (target.suffix != ".npz" or target.is_dir()):
        raise ValueError(f"expected an .npz file as output for {source}, got {target}")
    taken = any(target.iterdir()) if target.is_dir() else target.exists()
    if taken and not overwrite:
        raise ValueError(f"expected an output that is new or empty, got {target}: --overwrite writes into it")
