"""Checks on the numbers that are claimed: the asked attacks against the probe, and the model against chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from art_ext.evaluation.judge.models import Found
from art_ext.evaluation.report import Cell, Refusal, Report
from art_ext.evaluation.statistics import Interval, clopper_pearson, paired_difference, surely_more
from art_ext.evaluation.tags import Tag
from art_ext.evaluation.threat import Knowledge

WHITE = tuple(k.value for k in (Knowledge.FULL, Knowledge.BPDA, Knowledge.ADAPTIVE, Knowledge.UNDEFENDED))
UNMOVED = 0.5
"""Share of the still-right images from which an attack that does not move fails."""
FEW = 3
"""Images that say too little about whether an attack moves."""
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


def asked_attacks(report: Report, model: str) -> Found | None:
    """Fails where the probe surely breaks more of the same images than all asked white-box attacks together.

    At one answer an image, by the exact paired test. Where no white-box attack was asked for, it warns instead: the
    headline then stands on attackers who know less.
    """
    probe = next(iter(report.probed(model, Tag.BASE)), None)
    asked = report.attacked(model)
    if probe is None or not asked:
        return "not run", "needs an attack and a probe"
    white = [c for c in asked if c.knowledge in WHITE]
    left = _left_once(white or asked)
    n = min(len(left), probe.images)
    base = probe.once[:n]
    more = sum(a and not b for a, b in zip(left, base, strict=False))
    less = sum(b and not a for a, b in zip(left, base, strict=False))
    who = "the asked white-box attacks" if white else "the asked attacks, none of them white-box,"
    text = f"of {n} images {who} leave {sum(left[:n])}, the probe ({probe.attack}) {sum(base)}"
    if surely_more(more, less):
        return ("fail" if white else "warn"), text
    return ("pass" if white else "not run"), text


def _left_once(cells: Sequence[Cell]) -> list[bool]:
    """Which images are right in the first repeat of every cell, over the images that all saw."""
    n = min(c.images for c in cells)
    return [all(c.once[i] for c in cells) for i in range(n)]


def attack_moves(report: Report, model: str) -> Found | None:
    """Fails where an attack was never seen on another point of the ball for half of the images that it left right.

    The returned example counts as seen. Where the model's passes were not seen, it was not run.
    """
    cells = [c for c in report.attacked(model) if not c.source]
    if not cells:
        return None
    seen = [c for c in cells if "still" in c.observed]
    if not seen:
        return "not run", "no pass of the model was seen"

    def unmoved(cell: Cell) -> float:
        return cell.observed["unmoved"] / max(1, cell.observed["still"])

    worst = max(seen, key=unmoved)
    still, count = worst.observed["still"], worst.observed["unmoved"]
    text = (
        f"{worst.attack} ({worst.knowledge}) never left the clean image for {count} of the {still} images still right"
    )
    blind = len(cells) - len(seen)
    text += f"; {blind} attacks were not seen" if blind else ""
    return ("fail" if count >= FEW and unmoved(worst) >= UNMOVED else "pass"), text


def clean_accuracy(report: Report, model: str) -> Found:
    """Fails where clean accuracy is surely below the share of the most frequent label: labels, range or weights."""
    clean = report.clean(model)
    if not clean.images or not report.labels:
        return "not run", "no labels in the report" if clean.images else "no clean images"
    exact = clopper_pearson(sum(clean.once), clean.images)
    labels = [report.labels[i] for i in clean.indices or range(clean.images)]
    label, count = Counter(labels).most_common(1)[0]
    constant = count / len(labels)
    text = f"{exact}; always saying {label} would give {100 * constant:.1f} %"
    return ("fail" if exact.high < constant else "pass"), text


def clean_accuracy_cost(report: Report, model: str) -> Found | None:
    """How much clean accuracy the defence costs, paired; warns where that is surely more than 5 points."""
    bare = report.undefended()
    if bare is None or not report.info(model).defended:
        return None
    lost = gap(*(report.clean(m).survived for m in (bare, model)))
    text = f"{100 * lost.mean:.1f} points lost [{100 * lost.low:.1f}, {100 * lost.high:.1f}] n={lost.n}"
    return ("warn" if lost.low > COST else "pass"), text


def gap(a: Sequence[float], b: Sequence[float]) -> Interval:
    """Mean of a - b over the images that both saw."""
    n = min(len(a), len(b))
    return paired_difference([float(v) for v in a[:n]], [float(v) for v in b[:n]])
