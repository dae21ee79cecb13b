"""art-ext verify and art-ext compare: whether a report still is what was written, and several side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from art_ext.cli.errors import CHECK_FAILED, Debug, explained
from art_ext.cli.terminal import say

if TYPE_CHECKING:
    from art_ext.evaluation import Report


def verify(
    folder: Annotated[Path, typer.Argument(help="Folder that art-ext evaluate or art-ext report wrote.")],
    debug: Debug = False,
) -> None:
    """Hold every file of a report against its hash, and compute all numbers and verdicts anew from its answers.

    Exit codes: 0 all fits together, 1 it could not be read, 3 something does not fit; each such thing is a line.
    """
    with explained(debug):
        from art_ext.evaluation.evidence import verify as problems

        found = problems(folder)
        for text in found:
            say(f"does not fit: {text}")
        if not found:
            say(f"{folder}: every file is as it was written, and every number follows from the answers")
    if found:
        raise typer.Exit(CHECK_FAILED)


def compare(
    reports: Annotated[
        list[Path],
        typer.Argument(help="Folders of reports, or report.json files; one is enough if it has several models."),
    ],
    against: Annotated[
        str | None, typer.Option(help="A model's name: each other one minus this. Default: all pairs.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Markdown file to write both tables to.")] = None,
    debug: Debug = False,
) -> None:
    """Put models of one report or of several side by side, with paired differences where the images are the same."""
    with explained(debug):
        from art_ext.cli.display import console, table
        from art_ext.evaluation.report import compare as side
        from art_ext.evaluation.report.pairs import ALONE
        from art_ext.files import replacing

        found = _named(reports)
        header, rows = side.differences(found, against)
        console().print(table("Accuracy with 95 % intervals", *side.side_by_side(found)))
        if rows:
            console().print(table("Paired differences on the same images", header, rows))
            say(ALONE)
        if out is not None:
            with replacing(out) as temporary:
                temporary.write_text(side.markdown(found, against), "utf-8")
            say(f"written to {out}")


def _named(paths: list[Path]) -> dict[str, Report]:
    """The reports by the shortest ends of their paths that tell them apart."""
    from art_ext.cli.report import read

    files = [path / "report.json" if path.is_dir() else path for path in paths]
    whole = [file.resolve() for file in files]
    if len({*whole}) < len(whole):
        raise ValueError(f"expected each report once, got {', '.join(map(str, paths))}")
    places = [file.parent if file.name == "report.json" else file for file in whole]
    deepest = max(len(place.parts) for place in places)
    depth = next(d for d in range(1, deepest + 1) if len({p.parts[-d:] for p in places}) == len(places))
    return {str(Path(*p.parts[-depth:])): read(file) for p, file in zip(places, files, strict=True)}
