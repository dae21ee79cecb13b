"""Rows of the attacks: PGD, APGD, AutoAttack, and PGD through a randomised defence."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.performance import libraries
from benchmarks.performance.measure import Comparison, Contender, Run
from benchmarks.performance.problems import NOISE, RESNET, ROBUST, WEAK, Options, Problem, dynamic_rdp, facts, problem
from benchmarks.performance.problems import rater as _rater

OURS, ACTIVE, HALF, BOTH = "ours", "ours, active sets", "ours, bfloat16", "ours, bfloat16, active sets"
COMPILED = "ours, compiled"
PGD_STEPS, APGD_STEPS = 10, 50
EOT_SAMPLES, EOT_STEPS, EOT_ANSWERS = 20, 20, 9
IMAGES = {WEAK: 256, ROBUST: 256, RESNET: 128}
FEW = 32
"""Images of AutoAttack and of EOT, which take minutes."""


def pgd(options: Options) -> list[Comparison]:
    """PGD by five libraries and a bare loop, on each network."""
    return [_pgd(network, options.n(n), options) for network, n in IMAGES.items()]


def _pgd(network: str, n: int, options: Options) -> Comparison:
    given = partial(problem, network, n, options)
    step = libraries.STEP * (8 / 255 if network == RESNET else 0.1)
    alpha = {"alpha": step, "steps": PGD_STEPS}
    ours: dict[str, Any] = {"name": "PGD", "steps": PGD_STEPS, "step_size": step}
    made = {
        "ART": lambda: libraries.art_pgd(given(), PGD_STEPS),
        "torchattacks": lambda: libraries.torchattacks_attack(given(), "PGD", **alpha),
        "foolbox": lambda: libraries.foolbox_pgd(given(), PGD_STEPS),
        "bare loop": lambda: libraries.bare_pgd(given(), PGD_STEPS),
        OURS: _ours(given, **ours),
        ACTIVE: _ours(given, active=True, **ours),
        HALF: _ours(given, half=True, **ours),
        BOTH: _ours(given, active=True, half=True, **ours),
        COMPILED: _ours(given, compiled=True, **ours),
    }
    settings = facts(network, n, options, steps=PGD_STEPS, step_size=step)
    return _comparison("pgd", f"PGD-{PGD_STEPS}, {network}", made, settings, given)


def apgd(options: Options) -> list[Comparison]:
    """APGD on the cross-entropy, one start, on a weak and on a robust network."""
    return [_apgd(network, options.n(IMAGES[network]), options) for network in (WEAK, ROBUST)]


def _apgd(network: str, n: int, options: Options) -> Comparison:
    given = partial(problem, network, n, options)
    made = {
        "pyautoattack": lambda: libraries.official_apgd(given(), APGD_STEPS),
        "torchattacks": lambda: libraries.torchattacks_attack(given(), "APGD", steps=APGD_STEPS),
        "ART": lambda: libraries.art_apgd(given(), APGD_STEPS),
        OURS: _ours(given, name="APGD", steps=APGD_STEPS),
        ACTIVE: _ours(given, active=True, name="APGD", steps=APGD_STEPS),
    }
    settings = facts(network, n, options, steps=APGD_STEPS, starts=1)
    return _comparison("apgd", f"APGD-{APGD_STEPS}, {network}", made, settings, given)


def autoattack(options: Options) -> list[Comparison]:
    """AutoAttack's standard version, one round without a warm-up."""
    return [_autoattack(network, options.n(FEW), options) for network in (WEAK, ROBUST)]


def _autoattack(network: str, n: int, options: Options) -> Comparison:
    given = partial(problem, network, n, options)
    made = {
        "pyautoattack": lambda: libraries.official_autoattack(given()),
        "ART": lambda: libraries.art_autoattack(given()),
        OURS: _ours(given, name="AutoAttack"),
        HALF: _ours(given, half=True, name="AutoAttack"),
    }
    settings = facts(network, n, options, version="standard")
    name = f"AutoAttack, {network}"
    return _comparison("autoattack", name, made, settings, given, rounds=1, warm_up=False)


def eot(options: Options) -> list[Comparison]:
    """PGD on the mean of the gradients of samples, through RDP with noise on its input."""
    n = options.n(FEW)
    given = partial(dynamic_rdp, n, options)
    step = libraries.STEP * 0.1
    averaged = {"alpha": step, "steps": EOT_STEPS, "eot_iter": EOT_SAMPLES}
    ours: dict[str, Any] = {"name": "PGD", "samples": EOT_SAMPLES, "steps": EOT_STEPS, "step_size": step}
    made = {
        "ART": lambda: libraries.art_eot_pgd(given(), EOT_STEPS, EOT_SAMPLES),
        "torchattacks": lambda: libraries.torchattacks_attack(given(), "EOTPGD", **averaged),
        OURS: _ours(given, **ours),
        HALF: _ours(given, half=True, **ours),
        COMPILED: _ours(given, compiled=True, **ours),
    }
    more = {"purifier": f"fashion_mnist_rdp, noise {NOISE}", "steps": EOT_STEPS, "eot_samples": EOT_SAMPLES}
    name = f"EOT-{EOT_SAMPLES} PGD-{EOT_STEPS}, dynamic RDP"
    settings = facts(WEAK, n, options, **more)
    return [_comparison("eot", name, made, settings, given, repeats=EOT_ANSWERS)]


def _ours(given: Callable[[], Problem], *, name: str, **options: Any) -> Callable[[], Run]:
    return lambda: libraries.native(given(), name, **options)


def _comparison(
    topic: str, name: str, made: dict[str, Callable[[], Run]], settings: dict[str, Any],
    given: Callable[[], Problem], repeats: int = 1, **more: Any,
) -> Comparison:  # fmt: skip
    contenders = [Contender(k, make) for k, make in made.items()]
    return Comparison(
        topic, name, contenders, OURS, settings, rate=_rater(given, repeats), repeats=repeats, **more
    )  # fmt: skip
