"""Attacks of this package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

import art_ext
from art_ext import attacks
from art_ext.attacks import Averaged, Gradient, Loss, ascent, cross_entropy, dlr, eot, margin, pgd
from art_ext.evaluation.backends.defaults import defaults
from art_ext.evaluation.threat import Threat

NAMES = ("FGSM", "PGD", "MI-FGSM", "APGD", "SI-NI-TI-DIM", "SSP", "StAdv", "ReColorAdv", "JPEG")
OWN_THREAT = {"StAdv": ("bound", 0.05), "ReColorAdv": ("bound", 0.06), "JPEG": ("eps", 0.125)}
FOLLOWERS = ("FGSM", "PGD", "MI-FGSM")
"""Attacks that can go along any gradient."""
USUAL_STEPS = 40
FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "StAdv": attacks.stadv,
    "ReColorAdv": attacks.recoloradv,
    "JPEG": attacks.jpeg_attack,
    "SI-NI-TI-DIM": attacks.si_ni_ti_dim,
    "APGD": attacks.apgd,
}
LOSSES: dict[str, Callable[..., Loss]] = {"cross_entropy": cross_entropy, "margin": margin, "dlr": dlr}


def versions() -> dict[str, str]:
    """Version of this package."""
    return {"art-ext": art_ext.__version__}


def run(
    name: str, module: nn.Module, x: Tensor, y: Tensor, threat: Threat, parameters: Mapping[str, Any],
    goal: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The attack `name`; parameters are those of its function in `art_ext.attacks`.

    PGD, FGSM and MI-FGSM take `loss`, "cross_entropy", "margin" or "dlr", and keep each image's iterate of largest
    margin if `best` (PGD does unless told otherwise). PGD takes `check_every`, see `attacks.pgd_until_broken`, which
    keeps last iterates. SSP takes `features`, a module on images: the logits unless given.

    Raises:
        ValueError: an attack that has no targeted form, an unknown loss, or what `check_every` does not go with.
    """
    if goal is not None and name in ("SI-NI-TI-DIM", "SSP"):
        raise ValueError(f"expected an untargeted attack, got {name} with a goal")
    wanted, aimed = (y, {}) if goal is None else (goal, {"targeted": True})
    options = dict(parameters)
    if name in OWN_THREAT:
        return FUNCTIONS[name](module, x, wanted, **options, **aimed)
    if name == "SI-NI-TI-DIM":
        return attacks.si_ni_ti_dim(module, x, y, norm=threat.ball, eps=threat.eps, **options)
    # The libraries' way is the gradient at the mean logits; with "gradients" each draw has a loss of its own.
    single, draws, at_once = module, 1, None
    if isinstance(module, Averaged) and module.average == "gradients":
        single, draws, at_once = module.module, module.draws, module.at_once
    if name == "SSP":
        features = options.pop("features", single)
        gradient = eot(ascent(attacks.feature(features, x)), draws, at_once=at_once)
        return follow(gradient, "PGD", module, x, y, threat, {"best": False, **options})
    make = _loss(options.pop("loss", "cross_entropy"))
    if "check_every" in options:
        _check_rounds(name, single, options, goal)
        options = {"steps": USUAL_STEPS, **options, "eot_samples": draws, "at_once": at_once, "loss": make}
        options.pop("best", None)
        return attacks.pgd_until_broken(single, x, y, norm=threat.ball, eps=threat.eps, **options)
    loss = make(single, wanted, **aimed)
    rate = margin(module, wanted, **aimed)
    if name == "APGD":
        many: dict[str, Any] = {"eot_samples": draws, "at_once": at_once, "score": rate}
        return attacks.apgd(loss, x, norm=threat.ball, eps=threat.eps, **many, **options)
    return follow(eot(ascent(loss), draws, at_once=at_once), name, module, x, y, threat, options, rate=rate)


def stated(name: str, threat: Threat, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Every parameter."""
    if name in FUNCTIONS:
        loss = {"loss": "cross_entropy"} if name == "APGD" else {}
        return {**_settable(FUNCTIONS[name]), **loss, **parameters}
    usual = {**_settable(pgd), "loss": "feature" if name == "SSP" else "cross_entropy", "restarts": 1}
    if "check_every" in parameters:  # last iterates, and neither momentum nor restarts
        usual = {k: usual[k] for k in ("step_size", "random_start", "loss")}
    best = name == "PGD" and "check_every" not in parameters
    found = {**usual, "best": best, **_usual(name, threat), **parameters}
    if found["step_size"] is None:
        found["step_size"] = 2.5 * threat.eps / max(1, found["steps"])
    return found


def _settable(function: Callable[..., Tensor]) -> dict[str, Any]:
    """Defaults of a function's parameters, but for those that the backend sets itself."""
    return {k: v for k, v in defaults(function).items() if k not in ("score", "start", "eot_samples", "targeted", "at_once")}


def _usual(name: str, threat: Threat) -> dict[str, Any]:
    own: dict[str, dict[str, Any]] = {
        "FGSM": {"steps": 1, "step_size": threat.eps, "random_start": False},
        "MI-FGSM": {"momentum": 1.0},
    }
    return {"steps": USUAL_STEPS, **own.get(name, {})}


def follow(
    gradient: Gradient,
    name: str,
    module: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    parameters: Mapping[str, Any],
    rate: Loss | None = None,
) -> Tensor:
    """The attack `name` along any gradient; `rate` (the margin of `module`) rates its iterates."""
    options = {**_usual(name, threat), **parameters}
    if "check_every" in options:
        raise ValueError("expected no check_every along a gradient of a defence's own, whose labels nobody knows")
    options.pop("loss", None)
    score = (rate or margin(module, y)) if options.pop("best", name == "PGD") else None
    restarts = options.pop("restarts", 1)
    best = attacks.Best(score, x) if restarts > 1 else None
    for _ in range(restarts):
        x_adv = pgd(gradient, x, norm=threat.ball, eps=threat.eps, score=score, **options)
        if best is None:
            return x_adv
        best.offer(x_adv)
    assert best is not None
    return best.x


def _check_rounds(name: str, single: nn.Module, options: Mapping[str, Any], goal: Tensor | None) -> None:
    if isinstance(single, Averaged):
        raise ValueError('expected average="gradients" with check_every, which looks at each draw, got averaged logits')
    extra = sorted({*options} - {"check_every", "steps", "step_size", "random_start", "best"})
    if name != "PGD" or goal is not None or extra or options.get("best"):
        raise ValueError(
            "expected check_every in an untargeted PGD of last iterates with steps, step_size, random_start and loss "
            f"alone, got {name} with {dict(options)}"
        )


def _loss(name: str) -> Callable[..., Loss]:
    if name not in LOSSES:
        raise ValueError(f"expected loss to be one of {', '.join(LOSSES)}; got {name!r}")
    return LOSSES[name]
