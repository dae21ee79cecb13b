"""Checks on the numbers that are claimed: do all attacks count, and is the model better than chance?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from art_ext.evaluation.judge.rules import HIDDEN, WARN, Found
from art_ext.evaluation.report import Cell, Refusal, Report
from art_ext.evaluation.report.data import Said
from art_ext.evaluation.report.tables import bare_of
from art_ext.evaluation.statistics import Interval, above, below, paired_difference

COST = 0.05
"""Clean accuracy that a defence may cost without a warning."""


def inside_the_threat(report: Report, model: str) -> Found | None:
    """Fails when an attack left the ball or the box or returned NaN; its examples count for nothing."""
    bad = [c for c in report.cells if c.model == model and c.refusal is Refusal.LEFT_THREAT]
    if bad:
        return "fail", _listed(bad)
    return ("pass", "every example lies in the ball and in [0, 1]") if report.attacked(model) else None


def attacks_ran(report: Report, model: str) -> Found | None:
    """Fails when an attack or the model raised, or memory did not suffice: the row is missing from the headline."""
    kinds = (Refusal.ERROR, Refusal.OUT_OF_MEMORY)
    bad = [c for c in (*report.cells, *report.probes) if c.model == model and c.refusal in kinds]
    if bad:
        return "fail", _listed(bad)
    shown = report.shown(model)
    return ("pass", f"{len(shown)} attacks ran to their end") if shown else None


def _listed(cells: Sequence[Cell]) -> str:
    return "; ".join(f"{c.attack} ({c.knowledge}): {c.refused}" for c in cells)


def clean_accuracy(report: Report, model: str) -> Found:
    """Fails where clean accuracy is surely below the share of the most frequent label: labels, range or weights.

    Of a defended model also where it is not surely above, and the defence surely takes more than half of what its
    classifier has above that share. Passes where it is surely above.
    """
    clean = report.clean(model)
    if not clean.images or not report.labels:
        return "not run", "no labels in the report" if clean.images else "no clean images"
    right = sum(clean.once)
    labels = [report.labels[i] for i in clean.indices or range(clean.images)]
    label, count = Counter(labels).most_common(1)[0]
    text = f"{right} of {clean.images} images are right; always saying {label} would be right on {count}"
    constant = count / len(labels)
    if constant == 1:
        return "not run", f"{text}: labels of one class say nothing"
    if below(right, clean.images, constant) <= WARN:
        return "fail", text
    if right == clean.images or above(right, clean.images, constant) <= HIDDEN:
        return "pass", text
    lost = _lost(report, model)
    if lost is not None and lost.low > max(0.0, right / clean.images + lost.mean - constant) / 2:
        return "fail", f"{text}: hardly anything is left; the defence costs {lost.points}"
    return "undetermined", f"{text}: neither surely more nor surely fewer"


def clean_accuracy_cost(report: Report, model: str) -> Found | None:
    """How much clean accuracy the defence costs, paired; warns where that is surely more than 5 points."""
    if report.undefended() is None or not report.info(model).defended:
        return None
    lost = _lost(report, model)
    if lost is None:
        return "not run", "its classifier alone was not evaluated"
    said: Said = "warn" if lost.low > COST else "pass" if lost.high <= COST else "undetermined"
    return said, f"{lost.points} lost"


def _lost(report: Report, model: str) -> Interval | None:
    """Clean accuracy of its classifier alone minus that of a defended model, None where one was not evaluated."""
    bare = bare_of(report, model) if report.info(model).defended else None
    if bare is None:
        return None
    before, after = (report.clean(m).survived for m in (bare, model))
    n = min(len(before), len(after))
    return paired_difference(before[:n], after[:n])
