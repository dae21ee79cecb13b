"""Checks that follow from a report's cells alone, so that anyone can repeat them from its JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import sqrt

from art_ext.evaluation.checks import NO_GRADIENT
from art_ext.evaluation.report import CLEAN, UNDEFENDED, Cell, Report, Verdict, robust
from art_ext.evaluation.statistics import Z95, Interval, paired_difference
from art_ext.evaluation.threat import Knowledge

BLIND, BPDA, FULL, OWN, TRANSFER = (
    k.value for k in (Knowledge.BLIND, Knowledge.BPDA, Knowledge.FULL, Knowledge.OWN, Knowledge.TRANSFER)
)
Found = tuple[str, str]
"""Verdict and detail."""


def judge(report: Report) -> tuple[Verdict, ...]:
    """Every check of this module on every model, in order."""
    return tuple(_judged(report))


def _judged(report: Report) -> Iterator[Verdict]:
    for model in report.models():
        for check, rule in CHECKS.items():
            found = rule(report, model)
            if found is not None:
                yield Verdict(check, model, *found)


def inside_the_threat(report: Report, model: str) -> Found | None:
    """Fails when an attack left the ball or the box or returned NaN; its examples count for nothing."""
    refused = [c for c in report.cells if c.model == model and c.refused and not c.refused.startswith(NO_GRADIENT)]
    if refused:
        return "fail", "; ".join(f"{c.attack} ({c.knowledge}): {c.refused}" for c in refused)
    return ("pass", "every example lies in the ball and in [0, 1]") if report.attacked(model) else None


def knowledge_as_labelled(report: Report, model: str) -> Found | None:
    """Fails when an attacker saw less, or more, of the purifier than the row says.

    A full attacker sends gradients through the purifier (unless the attack uses none), a bpda attacker images, a blind
    one nothing.
    """
    if not _defended(report, model):
        return None
    wrong = []
    cells = [c for c in report.attacked(model) if c.observed.get("forward") and not c.source]
    for c in cells:
        seen, back = c.observed.get("purifier_forward", 0), c.observed.get("purifier_backward", 0)
        if c.knowledge in (BLIND, TRANSFER) and seen:
            wrong.append(f"{c.attack} is labelled {c.knowledge}, and {seen} images went through the purifier")
        elif c.knowledge in (FULL, BPDA) and not seen:
            wrong.append(f"{c.attack} is labelled {c.knowledge}, and no image went through the purifier")
        elif c.knowledge in (FULL, BPDA) and not back and not c.black_box and _right(report, c):
            wrong.append(f"{c.attack} is labelled {c.knowledge}, and no gradient went through the purifier")
    if wrong:
        return "fail", "; ".join(wrong)
    return ("pass", f"{len(cells)} attacks saw what their rows say") if cells else None


def randomness(report: Report, model: str) -> Found | None:
    """Fails when a randomised model was attacked through a single draw only."""
    random = report.provenance.get("randomised", {})
    if model not in random:
        return None
    if not random[model]:
        return "pass", "deterministic: five passes agree"
    seen = [c for c in report.attacked(model) if c.knowledge in (FULL, BPDA, OWN, UNDEFENDED)]
    if not seen:
        return "not run", "randomised, and no attack that knows the defence was asked for"
    draws = max(int(c.parameters.get("draws", 1)) for c in seen)
    detail = f"randomised: the attack that averages most takes {draws} draw(s)"
    return ("pass" if draws > 1 else "fail"), detail


def silent_success(report: Report, model: str) -> Found | None:
    """An iterate was adversarial, the returned example is not: warn above 0, fail from 5 % of the images watched."""
    cells = [c for c in report.attacked(model) if c.observed.get("watched")]
    if not cells:
        return None
    worst = max(cells, key=lambda c: c.observed["silent"] / c.observed["watched"])
    silent, watched = worst.observed["silent"], worst.observed["watched"]
    detail = f"{silent} of {watched} images had an adversarial iterate that {worst.attack} ({worst.knowledge}) dropped"
    return ("pass" if not silent else "warn" if silent < 0.05 * watched else "fail"), detail


def undefended_breaks(report: Report, model: str) -> Found | None:
    """The same attacks take the bare classifier to about 0: pass to 5 %, warn to 10 %."""
    if _defended(report, model) or model in report.provenance.get("robust", ()) or not report.attacked(model):
        return None
    worst = report.worst_case(model)
    return ("pass" if worst.mean <= 0.05 else "warn" if worst.mean <= 0.10 else "fail"), f"worst case {worst}"


def static_baseline(report: Report, model: str) -> Found | None:
    """Warns when an adversarially trained network of no defence at inference leaves more, paired."""
    if not _defended(report, model) or not report.attacked(model):
        return None
    robust_models = [m for m in report.provenance.get("robust", ()) if report.attacked(m)]
    if not robust_models:
        return "not run", "no adversarially trained classifier was evaluated beside it"
    gap = _gap(robust(report.attacked(robust_models[0])), robust(report.attacked(model)))
    detail = f"{robust_models[0]} minus {model}, worst cases: {_points(gap)}"
    return ("warn" if gap.low > 0 else "pass"), detail


def black_box_not_stronger(report: Report, model: str) -> Found | None:
    """Fails when blind, transfer or gradient-free attacks break more images than gradient attacks that know all."""
    if not _defended(report, model):
        return None
    cells = report.attacked(model)
    black = [c for c in cells if c.knowledge in (BLIND, TRANSFER) or c.black_box]
    white = [c for c in cells if c.knowledge in (FULL, OWN) and not c.black_box]
    if not black or not white:
        return "not run", "needs a black-box and a full attack"
    gap = _gap(robust(white), robust(black))
    return ("fail" if gap.low > 0 else "pass"), f"full minus black-box accuracy {_points(gap)}"


def iterative_not_weaker(report: Report, model: str) -> Found | None:
    """Fails when PGD breaks fewer images than FGSM, paired."""
    base, once = _probe(report, model, "base"), _probe(report, model, "fgsm")
    if base is None or once is None:
        return None
    gap = _gap(base.survived, once.survived)
    return ("fail" if gap.low > 0 else "pass"), f"accuracy under {base.attack} minus under FGSM {_points(gap)}"


def budget_monotone(report: Report, model: str) -> Found | None:
    """Fails when a larger budget leaves more images, paired."""
    cells = sorted(_probes(report, model, "eps"), key=lambda c: float(c.parameters["eps"]))
    if len(cells) < 2:
        return None
    pairs = [(a, b, _gap(b.survived, a.survived)) for i, a in enumerate(cells) for b in cells[i + 1 :]]
    a, b, gap = max(pairs, key=lambda pair: (pair[2].low > 0, pair[2].mean))
    detail = f"largest rise: eps {a.parameters['eps']:g} to {b.parameters['eps']:g}, {_points(gap)}"
    return ("fail" if gap.low > 0 else "pass"), detail


def reaches_chance(report: Report, model: str) -> Found | None:
    """Fails when accuracy stays above chance although every image may be turned into the same grey one."""
    cell = _probe(report, model, "chance")
    if cell is None:
        return None
    chance = 1 / int(report.provenance["classes"])
    detail = f"{cell.accuracy} at eps {cell.parameters['eps']:g}, chance is {100 * chance:.1f} %"
    return ("fail" if cell.accuracy.low > chance else "pass"), detail


def converged(report: Report, model: str) -> Found | None:
    """Warns when twice the steps, another start or twice the draws lower the accuracy by a standard error or more."""
    base, more = _probe(report, model, "base"), _probes(report, model, "more")
    if base is None or not more:
        return None
    mean, n = base.accuracy.mean, base.images
    error = max(sqrt(mean * (1 - mean) / n), (base.accuracy.high - base.accuracy.low) / (4 * Z95))
    gains = []
    for c in more:
        kept = robust([base, c]) if "start" in c.probe else c.survived  # another start adds to the first
        before = robust([base]) if "start" in c.probe else base.survived
        gains.append((_gap([float(v) for v in before], [float(v) for v in kept]).mean, c))
    most, c = max(gains, key=lambda pair: pair[0])
    what = "another start" if "start" in c.probe else f"{c.attack} with {c.parameters['draws']} draw(s)"
    detail = f"{what} lowers {base.accuracy} by {100 * most:.1f} points; a standard error is {100 * error:.1f}"
    return ("pass" if most < error else "warn"), detail


def frozen_randomness(report: Report, model: str) -> Found | None:
    """What is left once attacker and defence share one draw; warns when part of the accuracy is only randomness."""
    base, frozen = _probe(report, model, "base"), _probe(report, model, "frozen")
    if base is None or frozen is None:
        return None
    gap = _gap(base.survived, frozen.survived)
    detail = f"frozen {frozen.accuracy}; owed to randomness: {_points(gap)}"
    return ("warn" if gap.low > 0 else "pass"), detail


def clamp_hides_nothing(report: Report, model: str) -> Found | None:
    """Fails when PGD that passes the purifier's final clamp breaks more images, paired."""
    base, relaxed = _probe(report, model, "base"), _probe(report, model, "clamp")
    if base is None or relaxed is None:
        return None
    gap = _gap(base.survived, relaxed.survived)
    return ("fail" if gap.low > 0 else "pass"), f"hidden by the clamp: {_points(gap)}"


def seeds(report: Report, model: str) -> Found | None:
    """Accuracy under the same attack from several seeds; warns when they differ by more than the interval."""
    found = [c.accuracy for c in _probes(report, model, "seed")]
    if len(found) < 3:
        return ("not run", "needs three seeds") if found else None
    means = [i.mean for i in found]
    detail = f"{len(means)} seeds: " + ", ".join(f"{100 * m:.1f}" for m in means) + f" % n={found[0].n}"
    return ("warn" if max(means) - min(means) > found[0].high - found[0].low else "pass"), detail


def clean_cost(report: Report, model: str) -> Found | None:
    """How much clean accuracy the defence costs, paired; never fails, always said."""
    bare = report.undefended()
    if bare is None or not _defended(report, model):
        return None
    gap = _gap(*(report.cell(m, CLEAN, "none").survived for m in (bare, model)))
    return "pass", f"{100 * gap.mean:.1f} points lost [{100 * gap.low:.1f}, {100 * gap.high:.1f}] n={gap.n}"


CHECKS: dict[str, Callable[[Report, str], Found | None]] = {
    "inside the threat": inside_the_threat,
    "knowledge as labelled": knowledge_as_labelled,
    "randomness": randomness,
    "silent success": silent_success,
    "undefended breaks": undefended_breaks,
    "static baseline": static_baseline,
    "black-box not stronger": black_box_not_stronger,
    "iterative not weaker": iterative_not_weaker,
    "budget monotone": budget_monotone,
    "reaches chance": reaches_chance,
    "converged": converged,
    "frozen randomness": frozen_randomness,
    "clamp hides nothing": clamp_hides_nothing,
    "seeds": seeds,
    "clean accuracy cost": clean_cost,
}


def _defended(report: Report, model: str) -> bool:
    return model in report.provenance.get("defended", ())


def _right(report: Report, cell: Cell) -> bool:
    """Whether any image of the cell was right before the attack: else there was nothing to attack."""
    clean = report.cell(cell.model, CLEAN, "none").survived
    return any(clean[: cell.images])


def _probes(report: Report, model: str, tag: str) -> list[Cell]:
    return [c for c in report.probes if c.model == model and c.images and tag in c.probe.split(", ")]


def _probe(report: Report, model: str, tag: str) -> Cell | None:
    return next(iter(_probes(report, model, tag)), None)


def _gap(a: Sequence[float], b: Sequence[float]) -> Interval:
    """Mean of a - b over the images that both saw."""
    n = min(len(a), len(b))
    return paired_difference([float(v) for v in a[:n]], [float(v) for v in b[:n]])


def _points(gap: Interval) -> str:
    return f"{100 * gap.mean:.1f} points [{100 * gap.low:.1f}, {100 * gap.high:.1f}] n={gap.n}"
