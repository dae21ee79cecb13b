"""Differences between two models, paired image by image."""

from __future__ import annotations

from itertools import combinations

from art_ext.evaluation.report.data import Findings
from art_ext.evaluation.report.worst import left
from art_ext.evaluation.statistics import paired_difference

PAIRED = ("clean, first minus second", "worst case at R = 1, first minus second")
ALONE = "Each 95 % interval is that of its own pair: of many pairs without a difference, one in twenty excludes 0."


def compared(report: Findings) -> list[str]:
    """The models that are compared with each other: those with a purifier, then adversarially trained ones."""
    found = [m for m in report.models() if report.info(m).defended or report.info(m).robust]
    return sorted(found, key=lambda m: not report.info(m).defended)


def pair_table(report: Findings) -> tuple[list[str], list[list[str]]]:
    """A row a pair of models of one report; no rows where fewer than two are compared."""
    pairs = combinations(compared(report), 2)
    return ["first", "second", *PAIRED], [[a, b, *paired(report, a, report, b)] for a, b in pairs]


def paired(a: Findings, first: str, b: Findings, second: str) -> list[str]:
    """By how many points the first model is better, clean and in the worst case at R = 1.

    Args:
        a: the report of the first.
        first: its name there.
        b: the report of the second, over the same images.
        second: its name there.
    """
    found = []
    chosen = ((a, first), (b, second))
    for cells in ([[r.clean(m)] for r, m in chosen], [r.attacked(m) for r, m in chosen]):
        if all(group and all(c.images for c in group) for group in cells):
            values = [left(group) for group in cells]
            n = min(map(len, values))
            found.append(paired_difference(values[0][:n], values[1][:n]).points)
        else:
            found.append("nothing to pair")
    return found
