"""Three ready-made evaluations: seconds, minutes to hours, and what a claim needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

from art_ext import plugins
from art_ext.evaluation.backends import Attack
from art_ext.evaluation.settings import Probe
from art_ext.evaluation.threat import Knowledge, Threat

SUITES = ("smoke", "standard", "full")
GROUP = "art_ext.suites"
"""Entry points of other packages: a name, and a function `(threat, *, classes, channels)` that gives a `Suite`."""
KNOWN = (Knowledge.TRANSFER, Knowledge.BLIND, Knowledge.BPDA, Knowledge.FULL, Knowledge.ADAPTIVE)
REPEATS = 5
"""Answers of a randomised model to each example, in every suite: a worst case falls with their number."""
LEE_KIM = 0.007 / (8 / 255)
"""Step of PGD-200 in units of eps [Lee & Kim 2023, arXiv:2303.09051]."""


@dataclass(frozen=True)
class Suite:
    """Attacks and their settings: `evaluate(models, suite.attacks, x, y, threat=threat, **suite.options)`."""

    attacks: tuple[Attack, ...]
    options: dict[str, Any]


SEEING = (Knowledge.BPDA, Knowledge.FULL)
"""AutoAttack stops where it breaks what it sees: too little to carry over to a defence that it does not see."""


def suite_names() -> list[str]:
    """This package's names, then those that other packages offer, which are not imported."""
    return [*dict.fromkeys([*SUITES, *(offer.name for offer in plugins.offers(GROUP))])]


def suite(name: str, threat: Threat, *, classes: int, channels: int = 3) -> Suite:
    """The attacks and settings of a ready-made evaluation.

    "smoke" shows in seconds that everything runs and claims nothing. "standard" has several losses and libraries and
    native AutoAttack. "full" adds the official AutoAttack, long PGD, restarts, gradient-free and targeted attacks,
    attacks outside the ball, and three seeds.

    Args:
        name: one of `SUITES`, or a suite that another package offers, which is imported.
        threat: what the attacks stay within; some exist for Linf only.
        classes: the official AutoAttack's losses want four, targeted attacks ten to be what its paper says.
        channels: of the images; ReColorAdv and TI-FGSM want three.

    Raises:
        ValueError: another name, or another package's that cannot be imported or gives no suite.
    """
    if name not in SUITES:
        return _plugged(name, threat, classes, channels)
    linf = threat.norm == "Linf"
    torchattacks = find_spec("torchattacks") is not None and threat.norm in ("Linf", "L2")
    if name == "smoke":
        attacks = [Attack("native", "PGD", {"steps": 10}), *_library_pgd(threat, 10, torchattacks)]
        if classes >= 4:
            attacks.append(Attack("autoattack", "custom", {"attacks": ["apgd-ce"]}, images=16, on="deterministic"))
        return Suite(
            tuple(attacks),
            {"knowledge": KNOWN, "eot_samples": 4, "repeats": REPEATS, "probe": Probe(16, 5), "suite": name},
        )
    attacks = [Attack("native", "PGD", {"steps": 40}), *_library_pgd(threat, 40, torchattacks)]
    attacks += _apgd(threat, classes, restarts=1 if name == "standard" else 5)
    attacks += _auto(name, threat, classes)
    if torchattacks:
        attacks.append(Attack("torchattacks", "Square", {"n_queries": 1000 if name == "standard" else 5000}))
    if name == "standard":
        return Suite(
            tuple(attacks), {"knowledge": KNOWN, "eot_samples": 20, "repeats": REPEATS, "probe": Probe(), "suite": name}
        )
    attacks += _more(threat, linf, channels)
    return Suite(
        tuple(attacks),
        {
            "knowledge": KNOWN,
            "eot_samples": 20,
            "repeats": REPEATS,
            "probe": Probe(128, 40, seeds=3, unit_tests=32),
            "suite": name,
        },
    )


def _plugged(name: str, threat: Threat, classes: int, channels: int) -> Suite:
    try:
        made, offer = plugins.load(GROUP, name, "suite", SUITES)
    except KeyError:
        raise ValueError(f"expected a suite out of {', '.join(suite_names())}; got {name!r}") from None
    where = f"{offer.value} of {offer.source}"
    try:
        found = made(threat, classes=classes, channels=channels)
    except Exception as error:  # whatever somebody's code raises
        raise ValueError(f"expected {where} to give a suite, got {type(error).__name__}: {error}") from error
    if not isinstance(found, Suite) or not isinstance(found.options, Mapping):
        raise ValueError(f"expected {where} to give a suite (art_ext.evaluation.Suite), got {type(found).__name__}")
    return replace(found, attacks=tuple(found.attacks), options={"suite": name, **found.options})


def _library_pgd(threat: Threat, steps: int, torchattacks: bool) -> list[Attack]:
    step = {"steps": steps, "step_size": 2.5 * threat.eps / steps}
    return [Attack("art", "PGD", step), *([Attack("torchattacks", "PGD", step)] if torchattacks else [])]


def _apgd(threat: Threat, classes: int, restarts: int) -> list[Attack]:
    losses = ["cross_entropy", "margin", *(["dlr"] if classes >= 3 else [])]
    more = {"restarts": restarts} if restarts > 1 else {}
    return [Attack("native", "APGD", {"steps": 100, "loss": loss, **more}) for loss in losses]


def _auto(name: str, threat: Threat, classes: int) -> list[Attack]:
    """Native AutoAttack, with fewer targets and queries under EOT; in "full" the official one confirms it."""
    attacks = []
    if threat.norm != "L1":
        few = {"targets": 1, "queries": 100} if name == "standard" else {"targets": 3, "queries": 500}
        under_eot = Attack(
            "native", "AutoAttack", few, on="randomised", label="native AutoAttack under EOT", knowledge=SEEING
        )
        attacks += [Attack("native", "AutoAttack", on="deterministic", knowledge=SEEING), under_eot]
    if classes >= 4 and (name == "full" or threat.norm == "L1"):
        official = {"standard": "deterministic", "rand": "randomised"}
        attacks += [Attack("autoattack", version, on=on) for version, on in official.items()]
    return attacks


def _more(threat: Threat, linf: bool, channels: int) -> list[Attack]:
    long = {"steps": 200, "step_size": LEE_KIM * threat.eps, "random_start": False}
    attacks = [
        Attack("native", "PGD", long),
        Attack("native", "PGD", {"steps": 40}, targeted="random"),
        Attack("native", "MI-FGSM", {"steps": 10}),
        Attack("native", "StAdv", {"steps": 100}),
        Attack("native", "JPEG", {"steps": 100}),
    ]
    if linf:
        attacks.append(Attack("native", "SI-NI-TI-DIM", {"steps": 10}))
    if channels == 3:
        attacks.append(Attack("native", "ReColorAdv", {"steps": 100}))
    if threat.norm != "L1":
        attacks.append(Attack("art", "HopSkipJump", {"steps": 20, "max_eval": 1000}, images=64))
    return attacks
