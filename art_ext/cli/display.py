"""Tables in the terminal, and a report as files."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from art_ext.cli.terminal import say, shown

if TYPE_CHECKING:
    from rich.progress import Progress

    from art_ext.evaluation import Report

STYLES = {
    "pass": "green",
    "met": "green",
    "not met": "bold red",
    "not shown": "yellow",
    "warn": "yellow",
    "fail": "bold red",
    "not run": "dim",
    "undetermined": "dim",
}
QUIET = {"pass": "passed", "undetermined": "undetermined (too few images to tell)", "not run": "not run"}
"""Verdicts that ask for nothing, in the terminal's words."""
NAME = 40
"""Characters of a name that stays on one line."""
WIDE = 160
"""Columns where the output is no terminal."""


def console() -> Console:
    """Standard output."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDE
    return Console(width=width, highlight=False)


def progress(unit: str) -> Progress:
    """A bar on standard error with what is done of how much, and the time left; silent where that is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    error = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
    return Progress(*columns, TimeRemainingColumn(), console=error, disable=not error.is_terminal)


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table of plain texts, in which nothing is markup or an escape sequence; verdicts in their colours."""
    made = Table(title=Text(shown(title)), title_justify="left", title_style="bold")
    for i, name in enumerate(header):
        whole = i == 0 and all(len(row[0]) <= NAME for row in rows)
        made.add_column(Text(shown(name)), overflow="fold", no_wrap=whole)
    for row in rows:
        made.add_row(*(Text(shown(cell), style=STYLES.get(cell, "")) for cell in row))
    return made


def show(report: Report) -> None:
    """Prints accuracies, what stands beside them, criteria, the checks that warn or fail, and a headline a model."""
    from art_ext.evaluation.report.criteria import outcomes
    from art_ext.evaluation.report.sentences import sentences
    from art_ext.evaluation.report.tables import more_tables, radius

    out = console()
    out.print(table(f"Accuracy with 95 % intervals, {radius(report)}", *report.table()))
    for title, found, _ in more_tables(report):
        out.print(table(title, *found))
    asked = outcomes(report)
    if asked:
        told = [[str(o.criterion), o.model, o.outcome, o.detail] for o in asked]
        out.print(table("What the defence had to reach", ["criterion", "model", "outcome", "found"], told))
    _show_checks(out, report)
    for note in report.notes:
        say(f"note: {note}")
    for text in sentences(report):
        say(text)


def _show_checks(out: Console, report: Report) -> None:
    """Prints the checks that fail or warn, with what to do, and how many did not; all of them stand in the report."""
    from art_ext.evaluation.report.remedies import remedy

    loud = [v for verdict in ("fail", "warn") for v in report.checks if v.verdict == verdict]
    if loud:
        rows = [[v.check, v.model, v.verdict, f"{v.detail}. {remedy(v)}".removesuffix(". ")] for v in loud]
        out.print(table("Checks that fail or warn", ["check", "model", "verdict", "detail, and what to do"], rows))
    quiet = Counter(v.verdict for v in report.checks if v.verdict not in ("fail", "warn"))
    if quiet:
        counts = ", ".join(f"{count} {QUIET[verdict]}" for verdict, count in quiet.most_common())
        say(f"checks: {counts}; all of them stand in the report")


def write(report: Report, folder: Path, exports: Sequence[str] = (), logger: str | None = None) -> None:
    """Writes report.json, report.md, report.html with pictures, exports, and the manifest of all of them.

    Figures go to a logger of that kind too, below the folder.
    """
    from art_ext.evaluation import save_page
    from art_ext.evaluation.evidence import write_manifest
    from art_ext.evaluation.report.exports import export, log_report
    from art_ext.files import replacing
    from art_ext.plots import figures
    from art_ext.training import finalized, made_logger

    export(report, folder, exports)  # first: refuses unknown names before anything is written
    report.save(folder / "report.json")
    with replacing(folder / "report.md") as temporary:
        temporary.write_text(report.markdown(), "utf-8")
    save_page(report, folder / "report.html", figures(report))
    write_manifest(folder)
    if logger is not None:
        tracker = made_logger(logger, folder / "logs")
        with finalized(tracker):
            log_report(report, tracker)
