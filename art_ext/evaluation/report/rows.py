"""A report as plain rows, one a cell, for spreadsheets, data frames and other programs."""

from __future__ import annotations

from typing import Any

from art_ext.evaluation.report.data import Cell, Findings
from art_ext.evaluation.report.tables import left_of_row
from art_ext.evaluation.threat import Knowledge

EVADE = "AML.T0015 Evade AI Model"
ATLAS = {
    "white-box": "AML.T0043.000 Craft Adversarial Data: White-Box Optimization",
    "black-box": "AML.T0043.001 Craft Adversarial Data: Black-Box Optimization",
    "transfer": "AML.T0043.002 Craft Adversarial Data: Black-Box Transfer",
}
"""MITRE ATLAS techniques by kind of attack; what they serve is `EVADE`."""
NIST = {
    "white-box": "NIST AI 100-2: white-box evasion attack",
    "black-box": "NIST AI 100-2: black-box evasion attack",
    "transfer": "NIST AI 100-2: black-box evasion attack, transferred",
}


def kind_of(cell: Cell) -> str:
    """Examples made on another network are "transfer", those without gradients "black-box", others "white-box"."""
    if cell.knowledge == Knowledge.TRANSFER.value or cell.source:
        return "transfer"
    return "black-box" if cell.black_box else "white-box"


def rows(report: Findings) -> list[dict[str, Any]]:
    """A dict a cell, clean ones first: plain values, accuracies in [0, 1] with the ends of their 95 % intervals.

    `accuracy` is what the tables show: of an attack in a sequence, what it and those before it left. `worst` is the
    share of images that are right in every repeat. Rows that do not count have a reason in `refused` and no figures.
    """
    found = []
    for cell in report.cells:
        if not cell.images and not cell.refused:
            continue
        row: dict[str, Any] = {
            "model": cell.model, "attack": cell.attack, "knowledge": cell.knowledge, "library": cell.backend,
            "norm": report.threat["norm"], "eps": report.threat["eps"], "own_bound": cell.threat,
            "accuracy": None, "low": None, "high": None, "n": cell.images, "repeats": cell.repeats, "worst": None,
            "steps": cell.steps, "eot_samples": cell.parameters.get("eot_samples"), "seconds": cell.seconds,
            "refused": cell.refused, "atlas": "", "nist": "",
        }  # fmt: skip
        if not cell.is_clean:
            row |= {"atlas": ATLAS[kind_of(cell)], "nist": NIST[kind_of(cell)]}
        if cell.images and not cell.refused:
            left = left_of_row(report, cell)
            row |= {"accuracy": left.mean, "low": left.low, "high": left.high, "worst": cell.worst.mean}
        found.append(row)
    return found


def to_pandas(report: Findings) -> Any:
    """`rows` as a pandas.DataFrame.

    Raises:
        ImportError: pandas is not installed.
    """
    try:
        import pandas  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError("expected pandas for a data frame; it is not installed: pip install pandas") from error
    return pandas.DataFrame(rows(report))
