"""Every check on every model, in order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from art_ext.evaluation.judge import attacks, crafting, headline, strength, sweeps
from art_ext.evaluation.judge.models import MODEL_CHECKS, on_model
from art_ext.evaluation.judge.rules import Found
from art_ext.evaluation.report import Report, Verdict

CHECKS: dict[str, Callable[[Report, str], Found | None]] = {
    "clean accuracy": headline.clean_accuracy,
    "clean accuracy cost": headline.clean_accuracy_cost,
    "attacks ran": headline.attacks_ran,
    "inside the threat": headline.inside_the_threat,
    "attack moves": attacks.attack_moves,
    "asked attacks": strength.asked_attacks,
    "attack effort": strength.attack_effort,
    "a stronger attack was there": strength.stronger_attack,
    "knowledge as labelled": attacks.knowledge_as_labelled,
    "randomness": attacks.randomness,
    "silent success": attacks.silent_success,
    "crafting not weaker": crafting.crafting_not_weaker,
    "undefended breaks": strength.undefended_breaks,
    "static baseline": strength.static_baseline,
    "black-box not stronger": strength.black_box_not_stronger,
    "iterative not weaker": sweeps.iterative_not_weaker,
    "budget monotone": sweeps.budget_monotone,
    "reaches chance": sweeps.reaches_chance,
    "converged": sweeps.converged,
    "frozen randomness": sweeps.frozen_randomness,
    "clamp hides nothing": sweeps.clamp_hides_nothing,
    "seeds": sweeps.seeds,
}


def judge(report: Report, only: Collection[str] = ()) -> tuple[Verdict, ...]:
    """The verdicts on a report: for each model those on the model itself, then those on its numbers.

    Args:
        report: with cells, probes and what was found of the models.
        only: names of checks; all of them unless given.

    Raises:
        ValueError: a check that there is not.
    """
    unknown = sorted(set(only) - {*MODEL_CHECKS, *CHECKS})
    if unknown:
        raise ValueError(f"expected checks out of {', '.join((*MODEL_CHECKS, *CHECKS))}; got {', '.join(unknown)}")
    return tuple(_judged(report, only))


def _judged(report: Report, only: Collection[str]) -> Iterator[Verdict]:
    for model in report.models():
        found: dict[str, Found | None] = {**on_model(report, model)}
        found |= {check: rule(report, model) for check, rule in CHECKS.items() if not only or check in only}
        for check, said in found.items():
            if said is not None and (not only or check in only):
                yield Verdict(check, model, *said)
