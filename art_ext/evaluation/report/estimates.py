"""What a report estimates beyond what was run: the worst case of fewer repeats, and of more images."""

from __future__ import annotations

from collections.abc import Sequence

from art_ext.evaluation.report.data import Cell, Findings
from art_ext.evaluation.report.worst import right_together, worst_of
from art_ext.evaluation.statistics import Interval, double_sampling, mean_interval, right_in_all

REPEATS = (1, 2, 3, 5, 10, 20)
"""Numbers of repeats that a table shows."""


def curve_over_repeats(report: Findings) -> tuple[list[str], list[list[str]]]:
    """Worst case of each randomised model, over all attacks, for growing numbers of repeats; header and rows.

    What fewer repeats than were made would have left is estimated without bias, see `Findings.repeat_curve`.
    """
    found = {m: dict(report.repeat_curve(m)) for m in report.models() if report.attacked(m)}
    found = {m: curve for m, curve in found.items() if len(curve) > 1}
    shown = [r for r in REPEATS if any(r in curve for curve in found.values())]
    rows = [[m, *(str(curve[r]) if r in curve else "" for r in shown)] for m, curve in found.items()]
    return ["model", *(f"R = {r}" for r in shown)], rows


def clean_of(report: Findings, model: str, n: int, repeats: int) -> Interval:
    """Share of the first n clean images that a model answers rightly in r repeats, or in all if they are fewer."""
    counts, most = right_together([report.clean(model)])
    r = min(repeats, most)
    return mean_interval(right_in_all(counts[:n], most, r), r)


def estimate_table(report: Findings) -> tuple[list[str], list[list[str]]]:
    """What all attacks would leave of all images, where some saw but a part of them; header and rows.

    By `double_sampling`, a row a model and a knowledge, at R = 1. The attack that helps is that which leaves the fewest
    of the part, out of those that saw the most images.
    """
    rows = []
    for model in report.models():
        attacked = report.attacked(model)
        for knowledge in dict.fromkeys(c.knowledge for c in attacked):
            cells = [c for c in attacked if c.knowledge == knowledge]
            counts, repeats = right_together(cells)
            helping = _helping(cells, len(counts))
            if helping is not None:
                estimate = double_sampling(right_in_all(counts, repeats, 1), helping.survived)
                rows.append([model, knowledge, str(worst_of(cells, 1)), str(estimate), helping.attack])
    return ["model", "knowledge", "worst case on m", "estimated on N", "with the help of"], rows


def _helping(cells: Sequence[Cell], m: int) -> Cell | None:
    """The attack that stands for the others on the images that not all of them saw; None where all saw the same."""
    alone = [c for c in cells if not c.skipped]  # what a sequence left is known only where all of it was run
    most = max((c.images for c in alone), default=0)
    if not 2 <= m < most:
        return None
    return min((c for c in alone if c.images == most), key=lambda c: sum(c.survived[:m]))
