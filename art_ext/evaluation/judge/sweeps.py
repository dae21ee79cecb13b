"""Checks on the probes: does more effort, a larger budget or another start give what it should?"""

from __future__ import annotations

from statistics import mean, stdev

from art_ext.evaluation.judge.rules import MARGIN, Found, Gain, gain, surely_stronger, too_many
from art_ext.evaluation.report import Cell, Report
from art_ext.evaluation.tags import Tag

WORKS = 0.02
"""Share that an attack may leave where every image can become every other one of its half of the box."""
STUCK = 0.1
"""Share left there from which the attack does not work, whatever the number of classes."""


def iterative_not_weaker(report: Report, model: str) -> Found | None:
    """Fails when FGSM surely breaks more images than PGD."""
    base, once = probe(report, model, Tag.BASE), probe(report, model, Tag.FGSM)
    if base is None or once is None:
        return None
    return surely_stronger([gain(once.once, base.once, f"broken by FGSM minus by {base.attack}")])


def budget_monotone(report: Report, model: str) -> Found | None:
    """Fails when a smaller budget surely breaks more images, over all pairs of budgets together."""
    cells = sorted(report.probed(model, Tag.EPS), key=_eps)
    pairs = [(a, b) for i, a in enumerate(cells) for b in cells[i + 1 :]]
    if not pairs:
        return None
    return surely_stronger([gain(a.once, b.once, f"broken at eps {_eps(a):g} minus at {_eps(b):g}") for a, b in pairs])


def reaches_chance(report: Report, model: str) -> Found | None:
    """Accuracy under PGD at a radius at which every image can become the same grey one: nearly 0 if it works.

    Fails where that is surely above 10 %, warns where it is surely above 2 %, for any number of classes.
    """
    cell = probe(report, model, Tag.CHANCE)
    if cell is None:
        return None
    right, chance = sum(cell.once), 100 / report.info(model).classes
    text = f"{right} of {cell.images} images are left at eps {_eps(cell):g}; chance is {chance:.1f} %"
    return too_many(right, cell.images, fail=STUCK, warn=WORKS, text=text, margin=STUCK)


def converged(report: Report, model: str) -> Found | None:
    """Warns when twice the steps or EOT samples, or another start, surely break more images, and 5 points more may be.

    Another start adds to the first: it cannot break fewer.
    """
    base = probe(report, model, Tag.BASE)
    if base is None:
        return None
    gains = []
    for c in report.probed(model, Tag.MORE):
        if Tag.START in c.tags:
            gains.append(_with_starts(base, [c], "broken from either of two starts minus from one"))
        else:
            gains.append(gain(c.once, base.once, f"broken by {c.attack} minus by {base.attack}"))
    return surely_stronger(gains, "warn", MARGIN) if gains else None


def seeds(report: Report, model: str) -> Found | None:
    """How much of the accuracy is luck of one seed: warns when all seeds together surely break 5 points more or so."""
    found = report.probed(model, Tag.SEED)
    if len(found) < 3:
        return ("not run", "needs three seeds") if found else None
    shares = [100 * mean(c.once) for c in found]
    said, text = surely_stronger(
        [_with_starts(found[0], found[1:], f"broken by {len(found)} seeds together minus by the first")], "warn", MARGIN
    )
    spread = ", ".join(f"{s:.1f}" for s in shares)
    return said, f"{spread} % left, standard deviation {stdev(shares):.1f}; {text}"


def clamp_hides_nothing(report: Report, model: str) -> Found | None:
    """Fails when PGD that passes the purifier's final clamp surely breaks more images."""
    base, relaxed = probe(report, model, Tag.BASE), probe(report, model, Tag.CLAMP)
    if base is None or relaxed is None:
        return None
    return surely_stronger([gain(relaxed.once, base.once, "broken past the clamp minus through it")])


def frozen_randomness(report: Report, model: str) -> Found | None:
    """What is left once attacker and defence share one draw; warns when part of the accuracy is surely randomness."""
    base, frozen = probe(report, model, Tag.BASE), probe(report, model, Tag.FROZEN)
    if base is None or frozen is None:
        return None
    said, text = surely_stronger([gain(frozen.once, base.once, "broken with frozen randomness minus without")], "warn")
    return said, f"frozen {frozen.accuracy}; {text}"


def probe(report: Report, model: str, tag: Tag) -> Cell | None:
    """The first probe of a model with a tag; None where there is none."""
    return next(iter(report.probed(model, tag)), None)


def _with_starts(base: Cell, others: list[Cell], who: str) -> Gain:
    """What other starts of an attack break beside what the first one does."""
    n = min(c.images for c in (base, *others))
    every = [all(c.once[i] for c in (base, *others)) for i in range(n)]
    return gain(every, base.once[:n], who)


def _eps(cell: Cell) -> float:
    return float(cell.parameters["eps"])
