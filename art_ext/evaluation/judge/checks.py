"""Every check on every model, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from art_ext.evaluation.judge import attacks, crafting, headline
from art_ext.evaluation.judge.models import Found, on_model
from art_ext.evaluation.report import Report, Verdict

CHECKS: dict[str, Callable[[Report, str], Found | None]] = {
    "clean accuracy": headline.clean_accuracy,
    "clean accuracy cost": headline.clean_accuracy_cost,
    "attacks ran": headline.attacks_ran,
    "inside the threat": headline.inside_the_threat,
    "attack moves": headline.attack_moves,
    "asked attacks": headline.asked_attacks,
    "knowledge as labelled": attacks.knowledge_as_labelled,
    "randomness": attacks.randomness,
    "silent success": attacks.silent_success,
    "crafting not weaker": crafting.crafting_not_weaker,
    "undefended breaks": attacks.undefended_breaks,
    "static baseline": attacks.static_baseline,
    "black-box not stronger": attacks.black_box_not_stronger,
    "iterative not weaker": attacks.iterative_not_weaker,
    "budget monotone": attacks.budget_monotone,
    "reaches chance": attacks.reaches_chance,
    "converged": attacks.converged,
    "frozen randomness": attacks.frozen_randomness,
    "clamp hides nothing": attacks.clamp_hides_nothing,
    "seeds": attacks.seeds,
}


def judge(report: Report) -> tuple[Verdict, ...]:
    """The verdicts on a report: for each model those on the model itself, then those on its numbers."""
    return tuple(_judged(report))


def _judged(report: Report) -> Iterator[Verdict]:
    for model in report.models():
        found: dict[str, Found | None] = {**on_model(report, model)}
        found |= {check: rule(report, model) for check, rule in CHECKS.items()}
        for check, said in found.items():
            if said is not None:
                yield Verdict(check, model, *said)
