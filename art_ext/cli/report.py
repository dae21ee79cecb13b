"""art-ext report: shards to one report, and any report to pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from art_ext.cli import options
from art_ext.cli.display import show, write
from art_ext.cli.errors import Debug, explained
from art_ext.cli.status import show_partial
from art_ext.cli.terminal import say

if TYPE_CHECKING:
    from art_ext.evaluation import Report


def report(
    files: Annotated[
        list[Path],
        typer.Argument(help="A report.json, those of all shards of one evaluation, or the folder of one evaluation."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for report.json, report.md and report.html.")],
    export: options.Export = None,
    logger: options.Logger = None,
    debug: Debug = False,
) -> None:
    """Merge the reports of shards, write them as JSON, Markdown and HTML with pictures, and print the table.

    Of a folder whose evaluation is not finished, what it leaves so far is printed and written to OUT/partial.md.
    """
    with explained(debug):
        options.logger(logger)
        if len(files) == 1 and files[0].is_dir():
            if not (files[0] / "report.json").is_file():
                show_partial(files[0], out)
                return
            files = [files[0] / "report.json"]
        found = [read(file) for file in files]
        with _sound(files):
            whole = _whole(found)
        if whole is not found[0] and any(file.resolve() == (out / "report.json").resolve() for file in files):
            raise ValueError(f"expected a folder without the shards, got --out {out}, whose report.json is one of them")
        with _sound(files):
            write(whole, out, options.names(export), logger)
            show(whole)
        say(f"written to {out}: report.json, report.md, report.html, manifest.json")


def _whole(found: Sequence[Report]) -> Report:
    from art_ext.evaluation import merged

    sharded = found[0].shard[1] > 1
    return merged(found) if len(found) > 1 or sharded else found[0]


@contextmanager
def _sound(files: Sequence[Path]) -> Iterator[None]:
    """Says of reports that load but hold something else than an evaluation writes which they are."""
    try:
        yield
    except (LookupError, AttributeError, TypeError, ArithmeticError) as error:
        names = ", ".join(map(str, files))
        raise ValueError(
            f"expected reports that art-ext evaluate wrote, got {names}: {type(error).__name__}: {error}"
        ) from error


def read(file: Path) -> Report:
    """The report of a file.

    Raises:
        ValueError: there is no such file, or it is no report.
    """
    from art_ext.evaluation import Report

    if not file.is_file():
        raise ValueError(f"expected a report.json, got {file}, which is not there")
    try:
        return Report.load(file)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ValueError(f"expected a report that art-ext evaluate wrote, got {file}: {error}") from error
