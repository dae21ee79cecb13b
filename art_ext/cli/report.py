"""art-ext report: shards to one report, and any report to pages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from art_ext.cli.errors import Debug, explained

if TYPE_CHECKING:
    from art_ext.evaluation import Report


def report(
    files: Annotated[list[Path], typer.Argument(help="A report.json, or those of all shards of one evaluation.")],
    out: Annotated[Path, typer.Option(help="Folder for report.json, report.md and report.html.")],
    debug: Debug = False,
) -> None:
    """Merge the reports of shards, write them as JSON, Markdown and HTML with pictures, and print the table."""
    with explained(debug):
        from art_ext.cli.display import show, write
        from art_ext.evaluation import merged

        found = [_read(file) for file in files]
        sharded = found[0].provenance.get("shard", [0, 1])[1] > 1
        whole = merged(found) if len(found) > 1 or sharded else found[0]
        if whole is not found[0] and any(file.resolve() == (out / "report.json").resolve() for file in files):
            raise ValueError(f"expected a folder without the shards, got --out {out}, whose report.json is one of them")
        write(whole, out)
        show(whole)
        typer.echo(f"written to {out}: report.json, report.md, report.html")


def _read(file: Path) -> Report:
    from art_ext.evaluation import Report

    if not file.is_file():
        raise ValueError(f"expected a report.json, got {file}, which is not there")
    try:
        return Report.load(file)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"expected a report that art-ext evaluate wrote, got {file}: {error}") from error
