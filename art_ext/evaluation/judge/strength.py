"""Checks on the strength of the attacks whose numbers are claimed: against the probes, against each other."""

from __future__ import annotations

from collections.abc import Sequence

from art_ext.evaluation.judge.rules import MARGIN, WARN, Found, Gain, gain, surely_stronger, too_many
from art_ext.evaluation.judge.sweeps import probe
from art_ext.evaluation.report import Cell, Report
from art_ext.evaluation.tags import Tag
from art_ext.evaluation.threat import Knowledge

BLIND, BPDA, FULL, ADAPTIVE, TRANSFER, UNDEFENDED = (
    k.value
    for k in (
        Knowledge.BLIND, Knowledge.BPDA, Knowledge.FULL, Knowledge.ADAPTIVE, Knowledge.TRANSFER, Knowledge.UNDEFENDED,
    )
)  # fmt: skip
WHITE = (FULL, BPDA, ADAPTIVE, UNDEFENDED)
STEPS, SAMPLES, LOSSES = 100, 20, 2
"""Effort that a claim needs: gradient steps, EOT samples where the model is randomised, and different losses."""
BROKEN, LEFT = 0.05, 0.1
"""Share of the images that attacks may leave of a bare classifier without a warning, and without a fail."""


def attack_effort(report: Report, model: str) -> Found | None:
    """Warns where no white-box attacks of 100 steps, with 20 EOT samples if randomised, climbed two losses."""
    attacked = report.attacked(model)
    if not attacked:
        return None
    white = [c for c in attacked if c.knowledge in WHITE and not c.black_box and not c.source]
    random = report.info(model).random
    enough = [c for c in white if (c.steps or 0) >= STEPS and not (random and _samples(c) < SAMPLES)]
    climbed = sorted({loss for c in enough for loss in c.losses})
    wanted = f"{STEPS} steps" + (f" of {SAMPLES} EOT samples" if random else "")
    if len(climbed) >= LOSSES:
        return "pass", f"{len(enough)} white-box attacks of at least {wanted}, on {', '.join(climbed)}"
    if all_broken(attacked):
        return "pass", "no image is left that more effort could break"
    longest = max(white, key=lambda c: (c.steps or 0) * _samples(c), default=None)
    most = (
        "none is white-box"
        if longest is None
        else f"the longest, {longest.attack} ({longest.knowledge}), has {_effort(longest)}"
    )
    return "warn", f"fewer than {LOSSES} losses were climbed for {wanted}: {most}"


def _samples(cell: Cell) -> int:
    return int(cell.parameters.get("eot_samples", 1))


def _effort(cell: Cell) -> str:
    steps = "steps that are not known" if cell.steps is None else f"{cell.steps} steps"
    return steps + (f" of {_samples(cell)} EOT samples" if _samples(cell) > 1 else "")


def asked_attacks(report: Report, model: str) -> Found | None:
    """Fails where a probe surely breaks more of the same images than all asked white-box attacks together.

    At one answer an image; already at the error rate of a warning, since asked attacks that do as much as the probe are
    many together. Where no white-box attack was asked for, it warns instead: the headline then stands on
    attackers who know less.
    """
    probes, asked = _strong_probes(report, model), report.attacked(model)
    if not probes or not asked:
        return "not run", "needs an attack and a probe"
    white = [c for c in asked if c.knowledge in WHITE]
    left = left_once(white or asked)
    who = "the asked white-box attacks" if white else "the asked attacks, of which none is white-box"
    gains = [gain(c.once, left, f"broken by the probe {c.attack} minus by {who}") for c in probes]
    said, text = surely_stronger(gains, "fail" if white else "warn", fail=WARN)
    return (said if white or said == "warn" else "not run"), text


def stronger_attack(report: Report, model: str) -> Found | None:
    """How much the report's white-box attacks break beside the PGD that the sweeps vary, on the same images.

    And beside the longest attack on the cross-entropy alone, where that saw more images. Warns where one surely breaks
    more, and 5 points more are not excluded: what the sweeps say is then said of a weak attack.
    """
    base = probe(report, model, Tag.BASE)
    white = [c for c in report.attacked(model) if c.knowledge in WHITE and _alone(c) and c.images]
    others = [*white, *report.probed(model, Tag.APGD)]
    if base is None or not others:
        return None
    beside = [base, *(c for c in _longest(white) if c.images > base.images)]
    gains = [
        gain(
            c.once,
            weak.once,
            f"broken by {_row(c)} minus by {_row(weak) if weak in white else f'the probe {weak.attack}'}",
        )
        for weak in beside
        for c in others
        if c is not weak
    ]
    said, text = surely_stronger(gains, "warn", MARGIN)
    best = max(gains[: len(others)], key=lambda g: (g.more - g.less) / g.n)
    return said, f"{text}; the best of {len(others)} breaks {best.more} that the probe does not, the probe {best.less}"


def _longest(cells: Sequence[Cell]) -> list[Cell]:
    """The attack on the cross-entropy alone that saw the most images in the most steps; none where there is none.

    Of those alike one along exact gradients: that it breaks more than BPDA says nothing of the sweeps.
    """
    able = [c for c in cells if c.losses == ("cross_entropy",) and c.steps]
    return [max(able, key=lambda c: (c.images, c.steps, c.knowledge != BPDA))] if able else []


def undefended_breaks(report: Report, model: str) -> Found | None:
    """What all attacks together leave of a bare classifier: warns where surely above 5 %, fails where above 10 %."""
    if report.info(model).defended or report.info(model).robust or not report.attacked(model):
        return None
    left = left_once(report.attacked(model))
    text = f"{sum(left)} of {len(left)} images are left"
    wide = probe(report, model, Tag.CHANCE)
    if sum(left) and wide is not None:
        text += f"; at eps {float(wide.parameters['eps']):g} PGD leaves {sum(wide.once)} of {wide.images}"
    return too_many(sum(left), len(left), fail=LEFT, warn=BROKEN, text=text, margin=LEFT)


def static_baseline(report: Report, model: str) -> Found | None:
    """Warns when an adversarially trained network without a defence is surely more accurate under the same attack.

    Attack by attack, on the same images, at one answer an image: the defended one with full knowledge.
    """
    if not report.info(model).defended or not report.attacked(model):
        return None
    robust = next((m.name for m in report.inspected if m.robust and report.attacked(m.name)), None)
    if robust is None:
        return "not run", "no adversarially trained classifier was evaluated beside it"
    trained = {_name(c): c for c in report.attacked(robust) if _alone(c)}
    gains = [
        gain(c.once, trained[_name(c)].once, f"broken by {_name(c)} of {model} minus of {robust}")
        for c in report.attacked(model)
        if c.knowledge in (FULL, ADAPTIVE) and _alone(c) and _name(c) in trained
    ]
    return surely_stronger(gains, "warn") if gains else ("not run", "no attack was run on both with full knowledge")


def black_box_not_stronger(report: Report, model: str) -> Found | None:
    """Fails when an attack surely breaks more with less knowledge than the same attack with full knowledge.

    An attack without gradients is held against the full gradient attack that leaves the fewest of the same images.
    """
    if not report.info(model).defended:
        return None
    cells = [c for c in report.attacked(model) if _alone(c)]
    full = [c for c in cells if c.knowledge == FULL and not c.black_box]
    gains: list[Gain] = []
    for c in cells:
        if c.black_box:
            gains += [
                gain(c.once, best.once, f"broken by {_row(c)} minus by {_row(best)}") for best in _best(full, c.images)
            ]
        elif c.knowledge in (BLIND, TRANSFER):
            same = [f for f in full if _name(f) == _name(c)]
            gains += [gain(c.once, f.once, f"broken by {_row(c)} minus by the same with full knowledge") for f in same]
    return surely_stronger(gains) if gains else ("not run", "needs a black-box attack and a full one like it")


def all_broken(cells: Sequence[Cell]) -> bool:
    """Whether each image that any cell saw is wrong in every repeat of one of them."""
    n = max((c.images for c in cells), default=0)
    answers = [c.survived for c in cells]
    return all(any(i < len(survived) and not survived[i] for survived in answers) for i in range(n))


def left_once(cells: Sequence[Cell]) -> list[bool]:
    """Which images are right in the first repeat of every cell that saw them."""
    n = max((c.images for c in cells), default=0)
    answers = [c.once for c in cells]
    return [all(once[i] for once in answers if i < len(once)) for i in range(n)]


def _strong_probes(report: Report, model: str) -> list[Cell]:
    return [*report.probed(model, Tag.BASE)[:1], *report.probed(model, Tag.APGD)]


def _alone(cell: Cell) -> bool:
    """Whether what it broke is its own: not another model's example, nor an image that an earlier attack had broken."""
    return not cell.source and not cell.skipped


def _best(cells: Sequence[Cell], n: int) -> list[Cell]:
    """The one with the lowest accuracy on the first n images; none where none saw so many."""
    able = [c for c in cells if c.images >= n]
    return [min(able, key=lambda c: sum(c.once[:n]))] if able else []


def _name(cell: Cell) -> str:
    """The attack's title without its EOT samples, which depend on the model and on the knowledge."""
    return cell.attack.partition(" + EOT-")[0]


def _row(cell: Cell) -> str:
    return f"{cell.attack} ({cell.knowledge})"
