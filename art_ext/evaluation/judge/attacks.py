"""Checks that follow from the cells and probes of a report, so that anyone can repeat them from its JSON."""

from __future__ import annotations

from math import sqrt

from art_ext.evaluation.judge.headline import WHITE, gap
from art_ext.evaluation.judge.models import Found
from art_ext.evaluation.report import Cell, Report, robust
from art_ext.evaluation.statistics import Z95, Interval
from art_ext.evaluation.tags import Tag
from art_ext.evaluation.threat import Knowledge

BLIND, BPDA, FULL, ADAPTIVE, TRANSFER = (
    k.value for k in (Knowledge.BLIND, Knowledge.BPDA, Knowledge.FULL, Knowledge.ADAPTIVE, Knowledge.TRANSFER)
)


def knowledge_as_labelled(report: Report, model: str) -> Found | None:
    """Fails when an attacker saw less, or more, of the purifier than the row says.

    A full attacker sends gradients through the purifier (unless the attack uses none), a bpda attacker images, a blind
    one nothing.
    """
    if not report.info(model).defended:
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
    if cells:
        return "pass", f"{len(cells)} attacks saw what their rows say"
    return ("not run", "no pass of the model was seen") if report.attacked(model) else None


def randomness(report: Report, model: str) -> Found | None:
    """Fails when a randomised model was attacked through a single draw only, or was found to be one too late."""
    info, attacked = report.info(model), report.attacked(model)
    if not info.random:
        late = [c for c in attacked if c.observed.get("varied")]
        if late:
            return "fail", (
                f"deterministic at first, and two answers to {late[0].observed['varied']} examples of "
                f"{late[0].attack} ({late[0].knowledge}) differ: EOT was not used"
            )
        return "pass", "deterministic: five passes agree on clean images, in the ball, and after an attack"
    seen = [c for c in attacked if c.knowledge in WHITE]
    if not seen:
        return "not run", "randomised, and no attack that knows the defence was asked for"
    samples = max(int(c.parameters.get("eot_samples", 1)) for c in seen)
    text = f"randomised on {info.randomised.value}: the attack that averages most takes {samples} EOT sample(s)"
    return ("pass" if samples > 1 else "fail"), text


def silent_success(report: Report, model: str) -> Found | None:
    """An iterate was adversarial, the returned example is not: warn above 0, fail from 5 % of the images watched."""
    attacked = report.attacked(model)
    cells = [c for c in attacked if c.observed.get("watched")]
    if not cells:
        return ("not run", "no pass of a deterministic model was watched") if attacked else None
    worst = max(cells, key=lambda c: c.observed["silent"] / c.observed["watched"])
    silent, watched = worst.observed["silent"], worst.observed["watched"]
    detail = f"{silent} of {watched} images had an adversarial iterate that {worst.attack} ({worst.knowledge}) dropped"
    return ("pass" if not silent else "warn" if silent < 0.05 * watched else "fail"), detail


def undefended_breaks(report: Report, model: str) -> Found | None:
    """The same attacks take the bare classifier to about 0: pass to 5 %, warn to 10 %."""
    if report.info(model).defended or report.info(model).robust or not report.attacked(model):
        return None
    worst = report.worst_case(model)
    return ("pass" if worst.mean <= 0.05 else "warn" if worst.mean <= 0.10 else "fail"), f"worst case {worst}"


def static_baseline(report: Report, model: str) -> Found | None:
    """Warns when an adversarially trained network of no defence at inference leaves more, paired."""
    if not report.info(model).defended or not report.attacked(model):
        return None
    robust_models = [m.name for m in report.inspected if m.robust and report.attacked(m.name)]
    if not robust_models:
        return "not run", "no adversarially trained classifier was evaluated beside it"
    apart = gap(robust(report.attacked(robust_models[0])), robust(report.attacked(model)))
    detail = f"{robust_models[0]} minus {model}, worst cases: {_points(apart)}"
    return ("warn" if apart.low > 0 else "pass"), detail


def black_box_not_stronger(report: Report, model: str) -> Found | None:
    """Fails when blind, transfer or gradient-free attacks break more images than gradient attacks that know all."""
    if not report.info(model).defended:
        return None
    cells = report.attacked(model)
    black = [c for c in cells if c.knowledge in (BLIND, TRANSFER) or c.black_box]
    white = [c for c in cells if c.knowledge in (FULL, ADAPTIVE) and not c.black_box]
    if not black or not white:
        return "not run", "needs a black-box and a full attack"
    apart = gap(robust(white), robust(black))
    return ("fail" if apart.low > 0 else "pass"), f"full minus black-box accuracy {_points(apart)}"


def iterative_not_weaker(report: Report, model: str) -> Found | None:
    """Fails when PGD breaks fewer images than FGSM, paired."""
    base, once = _probe(report, model, Tag.BASE), _probe(report, model, Tag.FGSM)
    if base is None or once is None:
        return None
    apart = gap(base.survived, once.survived)
    return ("fail" if apart.low > 0 else "pass"), f"accuracy under {base.attack} minus under FGSM {_points(apart)}"


def budget_monotone(report: Report, model: str) -> Found | None:
    """Fails when a larger budget leaves more images, paired."""
    cells = sorted(report.probed(model, Tag.EPS), key=lambda c: float(c.parameters["eps"]))
    if len(cells) < 2:
        return None
    pairs = [(a, b, gap(b.survived, a.survived)) for i, a in enumerate(cells) for b in cells[i + 1 :]]
    a, b, apart = max(pairs, key=lambda pair: (pair[2].low > 0, pair[2].mean))
    detail = f"largest rise: eps {a.parameters['eps']:g} to {b.parameters['eps']:g}, {_points(apart)}"
    return ("fail" if apart.low > 0 else "pass"), detail


def reaches_chance(report: Report, model: str) -> Found | None:
    """Fails when accuracy stays above chance although every image may be turned into the same grey one."""
    cell = _probe(report, model, Tag.CHANCE)
    if cell is None:
        return None
    chance = 1 / report.info(model).classes
    detail = f"{cell.accuracy} at eps {cell.parameters['eps']:g}, chance is {100 * chance:.1f} %"
    return ("fail" if cell.accuracy.low > chance else "pass"), detail


def converged(report: Report, model: str) -> Found | None:
    """Warns when twice the steps or EOT samples, or another start, lower the accuracy by a standard error or more."""
    base, more = _probe(report, model, Tag.BASE), report.probed(model, Tag.MORE)
    if base is None or not more:
        return None
    mean, n = base.accuracy.mean, base.images
    error = max(sqrt(mean * (1 - mean) / n), (base.accuracy.high - base.accuracy.low) / (4 * Z95))
    gains = []
    for c in more:
        kept = robust([base, c]) if Tag.START in c.tags else c.survived  # another start adds to the first
        before = robust([base]) if Tag.START in c.tags else base.survived
        gains.append((gap([float(v) for v in before], [float(v) for v in kept]).mean, c))
    most, c = max(gains, key=lambda pair: pair[0])
    what = "another start" if Tag.START in c.tags else f"{c.attack} with {c.parameters['eot_samples']} EOT sample(s)"
    detail = f"{what} lowers {base.accuracy} by {100 * most:.1f} points; a standard error is {100 * error:.1f}"
    return ("pass" if most < error else "warn"), detail


def frozen_randomness(report: Report, model: str) -> Found | None:
    """What is left once attacker and defence share one draw; warns when part of the accuracy is only randomness."""
    base, frozen = _probe(report, model, Tag.BASE), _probe(report, model, Tag.FROZEN)
    if base is None or frozen is None:
        return None
    apart = gap(base.survived, frozen.survived)
    detail = f"frozen {frozen.accuracy}; owed to randomness: {_points(apart)}"
    return ("warn" if apart.low > 0 else "pass"), detail


def clamp_hides_nothing(report: Report, model: str) -> Found | None:
    """Fails when PGD that passes the purifier's final clamp breaks more images, paired."""
    base, relaxed = _probe(report, model, Tag.BASE), _probe(report, model, Tag.CLAMP)
    if base is None or relaxed is None:
        return None
    apart = gap(base.survived, relaxed.survived)
    return ("fail" if apart.low > 0 else "pass"), f"hidden by the clamp: {_points(apart)}"


def seeds(report: Report, model: str) -> Found | None:
    """Accuracy under the same attack from several seeds; warns when they differ by more than the interval."""
    found = [c.accuracy for c in report.probed(model, Tag.SEED)]
    if len(found) < 3:
        return ("not run", "needs three seeds") if found else None
    means = [i.mean for i in found]
    detail = f"{len(means)} seeds: " + ", ".join(f"{100 * m:.1f}" for m in means) + f" % n={found[0].n}"
    return ("warn" if max(means) - min(means) > found[0].high - found[0].low else "pass"), detail


def _right(report: Report, cell: Cell) -> bool:
    """Whether any image of the cell was right before the attack: else there was nothing to attack."""
    clean = report.clean(cell.model).survived
    return any(clean[: cell.images])


def _probe(report: Report, model: str, tag: Tag) -> Cell | None:
    return next(iter(report.probed(model, tag)), None)


def _points(apart: Interval) -> str:
    return f"{100 * apart.mean:.1f} points [{100 * apart.low:.1f}, {100 * apart.high:.1f}] n={apart.n}"
