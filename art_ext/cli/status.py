"""art-ext status: how far an evaluation is that runs elsewhere, or was interrupted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from art_ext.cli.display import console, table
from art_ext.cli.errors import Debug, explained
from art_ext.cli.terminal import say


def status(
    folder: Annotated[Path, typer.Argument(help="Folder of art-ext evaluate, --out.")], debug: Debug = False
) -> None:
    """Say how far an evaluation is: its units and workers, and the blocks of each attack; it may run on meanwhile."""
    with explained(debug):
        from art_ext.evaluation.report.partial import partial_rows, partial_table

        rows = partial_rows(folder)
        finished = (folder / "report.json").is_file()
        say(f"{folder}: {'finished' if finished else 'not finished'}")
        for line in _progress(folder):
            say(line)
        console().print(table("Blocks of each attack", *partial_table(rows)))


def show_partial(folder: Path, out: Path) -> None:
    """Prints the accuracies of an unfinished evaluation, marked as partial, and writes them to `partial.md`."""
    from art_ext.evaluation.report.partial import MARK, partial_markdown, partial_rows, partial_table
    from art_ext.files import replacing

    rows = partial_rows(folder)
    say(MARK)
    console().print(table("Partial report", *partial_table(rows)))
    with replacing(out / "partial.md") as temporary:
        temporary.write_text(partial_markdown(rows), "utf-8")
    say(f"written to {out}: partial.md")


def _progress(folder: Path) -> list[str]:
    """What the driver last said of its workers; nothing of an evaluation without any."""
    try:
        said: dict[str, Any] = json.loads((folder / "progress.json").read_text("utf-8"))
        left = "unknown" if said["left_s"] is None else f"{said['left_s']:.0f} s"
        return [
            f"{said['done']} of {said['units']} units, {said['workers']} workers, {said['broken']} images broken, "
            f"{left} left (at {said['at']})",
            f"{said['deaths']} workers ended early, {said['redone']} units were handed out again, "
            f"{said['given_up']} given up",
        ]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"expected {folder / 'progress.json'} as this package writes it, got another form") from error
