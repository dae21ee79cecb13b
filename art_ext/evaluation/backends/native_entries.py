"""What is known of the attacks of this package: what runs each, what it costs, what it can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from art_ext import attacks
from art_ext.attacks import NORMS, Loss, cross_entropy, dlr, margin, pgd
from art_ext.evaluation.backends.entry import PER_GRADIENT, Entry, climbing
from art_ext.evaluation.threat import Threat

USUAL_STEPS = 40
LOSSES: dict[str, Callable[..., Loss]] = {"cross_entropy": cross_entropy, "margin": margin, "dlr": dlr}
WITH_CHECKS = frozenset({"check_every", "steps", "step_size", "random_start", "best", "loss"})
"""What goes with `check_every`."""
SET_HERE = frozenset(
    {"gradient", "model", "x", "y", "norm", "eps", "score", "start", "loss", "eot_samples", "at_once", "targeted"}
    | {"leave", "confirm", "average"}
)


def _steps(parameters: Mapping[str, Any], usual: int = USUAL_STEPS) -> float:
    return PER_GRADIENT * parameters.get("steps", usual) * parameters.get("restarts", 1)


def _auto_cost(parameters: Mapping[str, Any]) -> float:
    tried = parameters.get("targets", 9)
    gradients = _steps(parameters, 100) * (1 + tried) + _steps(parameters, 100) * 4 / 3 * tried
    return (gradients + parameters.get("queries", 5000)) / 4  # most images fall early


def _fgsm(threat: Threat) -> dict[str, Any]:
    return {"steps": 1, "step_size": threat.eps, "random_start": False}


def _check_loss(parameters: Mapping[str, Any], losses: Mapping[str, Any] | tuple[str, ...] = tuple(LOSSES)) -> None:
    loss = parameters.get("loss", next(iter(losses)))
    if loss not in losses:
        raise ValueError(f"expected loss to be one of {', '.join(losses)}; got {loss!r}")


def _check_jpeg(parameters: Mapping[str, Any]) -> None:
    _check_loss(parameters, ("margin", "cross_entropy"))


def _check_pgd(parameters: Mapping[str, Any]) -> None:
    _check_loss(parameters)
    if parameters.get("check_every") is None:
        return
    extra = sorted({*parameters} - WITH_CHECKS)
    if extra or parameters.get("best"):
        raise ValueError(
            "expected check_every in an untargeted PGD of last iterates with steps, step_size, random_start and loss "
            f"alone, got PGD with {dict(parameters)}"
        )


def _of(function: Callable[..., Tensor], norms: tuple[str, ...] = tuple(NORMS)) -> dict[str, Any]:
    return dict.fromkeys(norms, function)


LOSS_AND_STARTS = {"loss": "cross_entropy", "best": False, "restarts": 1, "steps": USUAL_STEPS}
ENTRIES: dict[str, Entry] = {
    "FGSM": Entry(
        _of(pgd), lambda p: _steps(p, 1), climbing(1, "cross_entropy"), _fgsm, follows_gradients=True, leaves=True,
        more=LOSS_AND_STARTS, check=_check_loss,
    ),
    "PGD": Entry(
        _of(pgd), _steps, climbing(USUAL_STEPS, "cross_entropy"), follows_gradients=True, leaves=True,
        check=_check_pgd, more={**LOSS_AND_STARTS, "best": True, "check_every": None},
    ),
    "MI-FGSM": Entry(
        _of(pgd), _steps, climbing(USUAL_STEPS, "cross_entropy"), lambda _: {"momentum": 1.0}, follows_gradients=True,
        leaves=True, more=LOSS_AND_STARTS, check=_check_loss,
    ),
    "APGD": Entry(
        _of(attacks.apgd), lambda p: _steps(p, 100), climbing(100, "cross_entropy"), leaves=True,
        more={"loss": "cross_entropy"}, check=_check_loss,
    ),
    "AutoAttack": Entry(
        _of(attacks.autoattack, ("Linf", "L2")), _auto_cost, climbing(100, "cross_entropy", "dlr"), targeted=False,
        leaves=True, only_leaves=True,
    ),
    "FAB-T": Entry(
        _of(attacks.fab, ("Linf", "L2")), lambda p: _steps(p, 100) * 4 / 3 * p.get("targets", 9),
        climbing(100, "distance"), targeted=False,
    ),
    "Square": Entry(
        _of(attacks.square, ("Linf", "L2")), lambda p: p.get("queries", 5000) * p.get("restarts", 1), targeted=False,
        black_box=True,
    ),
    "SI-NI-TI-DIM": Entry(
        _of(attacks.si_ni_ti_dim), lambda p: _steps(p, 10) * p.get("copies", 5), climbing(10, "cross_entropy"),
        targeted=False,
    ),
    "SSP": Entry(
        _of(pgd), _steps, climbing(USUAL_STEPS, "features"), targeted=False, objects=frozenset({"features"}),
        more={"best": False, "restarts": 1, "steps": USUAL_STEPS, "features": None},
    ),
    "StAdv": Entry(
        _of(attacks.stadv), lambda p: _steps(p, 100), climbing(100, "margin"), non_lp=("bound", 0.05)
    ),
    "ReColorAdv": Entry(
        _of(attacks.recoloradv), lambda p: _steps(p, 100), climbing(100, "margin"), non_lp=("bound", 0.06)
    ),
    "JPEG": Entry(
        _of(attacks.jpeg_attack), lambda p: _steps(p, 100), climbing(100, "margin"), non_lp=("eps", 0.125),
        more={"loss": "margin"}, check=_check_jpeg,
    ),
}  # fmt: skip
FOLLOWERS = tuple(name for name, entry in ENTRIES.items() if entry.follows_gradients)
"""Attacks that can go along any gradient."""
