"""Attacks of this package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import art_ext
from art_ext import attacks
from art_ext.attacks import Averaged, Gradient, Leave, Loss, ascent, eot, margin, pgd
from art_ext.attacks.active import Looks, Seen
from art_ext.attacks.losses import LogitLoss
from art_ext.attacks.until_broken import FEWEST_SAMPLES
from art_ext.evaluation.backends.entry import Backend, defaults
from art_ext.evaluation.backends.native_entries import ENTRIES, LOSSES, SET_HERE, USUAL_STEPS
from art_ext.evaluation.threat import Threat


class Task(NamedTuple):
    """What one run of an attack is about."""

    name: str
    module: nn.Module
    x: Tensor
    y: Tensor
    threat: Threat
    options: dict[str, Any]
    goal: Tensor | None
    leave: Leave | None = None

    @property
    def leaving(self) -> Leave | None:
        """When images leave: of a randomised model the further passes are of one sample each."""
        if self.leave is None or not self.leave.confirm:
            return self.leave
        one = self.module.module if isinstance(self.module, Averaged) else self.module
        return Leave(self.leave.confirm, margin(one, self.wanted, **self.aimed))

    @property
    def wanted(self) -> Tensor:
        """The labels that the loss is about."""
        return self.y if self.goal is None else self.goal

    @property
    def aimed(self) -> dict[str, Any]:
        """The keyword of a targeted attack."""
        return {} if self.goal is None else {"targeted": True}

    @property
    def sampled(self) -> tuple[nn.Module, int, int | None]:
        """The model that is differentiated, EOT samples, and the most images of a pass.

        The libraries' way is the gradient at the mean logits; with "gradients" each sample has a loss of its own.
        """
        module = self.module
        if isinstance(module, Averaged) and module.average == "gradients":
            return module.module, module.eot_samples, module.at_once
        return module, 1, None


def _autoattack(task: Task) -> Tensor:
    module = task.module
    eot: dict[str, Any] = {"confirm": 0 if task.leave is None else task.leave.confirm}
    if isinstance(module, Averaged):
        eot |= {"eot_samples": module.eot_samples, "average": module.average, "at_once": module.at_once}
        module = module.module
    return attacks.autoattack(module, task.x, task.y, norm=task.threat.ball, eps=task.threat.eps, **eot, **task.options)


def _fab(task: Task) -> Tensor:
    return attacks.fab(task.module, task.x, task.y, norm=task.threat.ball, eps=task.threat.eps, **task.options)


def _square(task: Task) -> Tensor:
    module, eot = task.module, dict[str, Any]()
    if isinstance(module, Averaged):
        module, eot = module.module, {"eot_samples": module.eot_samples, "at_once": module.at_once}
    return attacks.square(module, task.x, task.y, norm=task.threat.ball, eps=task.threat.eps, **eot, **task.options)


def _non_lp(task: Task) -> Tensor:
    function = ENTRIES[task.name].function[task.threat.norm]
    x_adv: Tensor = function(task.module, task.x, task.wanted, **task.options, **task.aimed)
    return x_adv


def _transfer(task: Task) -> Tensor:
    return attacks.si_ni_ti_dim(
        task.module, task.x, task.y, norm=task.threat.ball, eps=task.threat.eps, **task.options
    )  # fmt: skip


def _features(task: Task) -> Tensor:
    single, samples, at_once = task.sampled
    options = dict(task.options)
    features = options.pop("features", None) or single
    gradient = eot(ascent(attacks.feature(features, task.x)), samples, at_once=at_once)
    rate = margin(task.module, task.y)
    return follow(gradient, "PGD", task.x, task.threat, {"best": False, **options}, score=rate, rate=rate)


def _apgd(task: Task) -> Tensor:
    single, samples, at_once = task.sampled
    options = dict(task.options)
    loss = LOSSES[options.pop("loss", "cross_entropy")](single, task.wanted, **task.aimed)
    rate = margin(single, task.wanted, **task.aimed)
    options |= {"eot_samples": samples, "at_once": at_once, "score": rate, "leave": task.leaving}
    return attacks.apgd(loss, task.x, norm=task.threat.ball, eps=task.threat.eps, **options)


def _along_a_loss(task: Task) -> Tensor:
    single, samples, at_once = task.sampled
    make = LOSSES[task.options.get("loss", "cross_entropy")]
    if task.options.get("check_every") is not None:
        return _until_broken(task, make)
    gradient = eot(ascent(make(single, task.wanted, **task.aimed)), samples, at_once=at_once)
    of_gradient, of_answers = (margin(m, task.wanted, **task.aimed) for m in (single, task.module))
    return follow(
        gradient, task.name, task.x, task.threat, task.options, score=of_gradient, rate=of_answers, leave=task.leaving
    )


def _until_broken(task: Task, make: Callable[..., Loss]) -> Tensor:
    single, samples, at_once = task.sampled
    if isinstance(single, Averaged):
        raise ValueError(
            'expected average="gradients" with check_every, which classifies each sample, got averaged logits'
        )
    if task.goal is not None:
        raise ValueError("expected check_every in an untargeted PGD, got one with a goal")
    if 1 < samples < FEWEST_SAMPLES:
        raise ValueError(
            f"expected {FEWEST_SAMPLES} EOT samples or more with check_every on a randomised model, got {samples}: "
            f"give eot_samples={FEWEST_SAMPLES}, or leave check_every out"
        )
    options = {"steps": USUAL_STEPS, **task.options, "eot_samples": samples, "at_once": at_once, "loss": make}
    options.pop("best", None)
    return attacks.pgd_until_broken(
        single, task.x, task.y, norm=task.threat.ball, eps=task.threat.eps, **options
    )  # fmt: skip


RUNS: dict[str, Callable[[Task], Tensor]] = {
    "APGD": _apgd,
    "AutoAttack": _autoattack,
    "FAB-T": _fab,
    "Square": _square,
    "SI-NI-TI-DIM": _transfer,
    "SSP": _features,
}


def versions() -> dict[str, str]:
    """Version of this package."""
    return {"art-ext": art_ext.__version__}


def run(
    name: str, module: nn.Module, x: Tensor, y: Tensor, threat: Threat, parameters: Mapping[str, Any],
    goal: Tensor | None = None, leave: Leave | None = None,
) -> Tensor:  # fmt: skip
    """The attack `name`; parameters are those of its function in `art_ext.attacks`.

    PGD, FGSM and MI-FGSM take `loss`, "cross_entropy", "margin" or "dlr", and keep each image's iterate of largest
    margin if `best` (PGD does unless told otherwise). PGD takes `check_every`, see `attacks.pgd_until_broken`, which
    keeps last iterates. SSP takes `features`, a module on images: the logits unless given.

    Raises:
        ValueError: what `check_every` does not go with, such as 2 to 9 EOT samples, or a loss that the model has too
            few classes for.
    """
    task = Task(name, module, x, y, threat, dict(parameters), goal, leave)
    if ENTRIES[name].non_lp:
        return _non_lp(task)
    return RUNS.get(name, _along_a_loss)(task)


def stated(name: str, threat: Threat, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Every parameter."""
    entry = ENTRIES[name]
    function = entry.function[threat.norm]
    if function is not pgd:
        loss = {"loss": entry.more["loss"]} if "loss" in entry.more else {}
        bound = dict([entry.non_lp]) if entry.non_lp else {}
        return {**_settable(function), **bound, **loss, **parameters}
    usual = {**_settable(pgd), "loss": "feature" if name == "SSP" else "cross_entropy", "restarts": 1}
    checks = parameters.get("check_every") is not None
    if checks:  # last iterates, and neither momentum nor restarts
        usual = {k: usual[k] for k in ("step_size", "random_start", "loss")}
    best = bool(entry.more["best"]) and not checks
    found = {**usual, "best": best, **_usual(name, threat), **parameters}
    if found["step_size"] is None:
        found["step_size"] = 2.5 * threat.eps / max(1, found["steps"])
    return found


def _settable(function: Callable[..., Tensor]) -> dict[str, Any]:
    """Defaults of a function's parameters, but for those that the backend sets itself."""
    return {k: v for k, v in defaults(function).items() if k not in SET_HERE}


def _usual(name: str, threat: Threat) -> dict[str, Any]:
    return {"steps": USUAL_STEPS, **ENTRIES[name].defaults(threat)}


def follow(
    gradient: Gradient, name: str, x: Tensor, threat: Threat, parameters: Mapping[str, Any], *, score: Loss, rate: Loss,
    leave: Leave | None = None,
) -> Tensor:  # fmt: skip
    """The attack `name` along any gradient.

    Args:
        gradient: ascent direction.
        name: of an attack that can follow one.
        x: clean images (N, C, H, W).
        threat: norm and radius.
        parameters: of the attack.
        score: rates the iterates of a run where the best is kept, and says which images leave.
        rate: rates what several runs found.
        leave: when images leave the batch; none does unless given.
    """
    options = {**_usual(name, threat), **parameters}
    if options.pop("check_every", None) is not None:
        raise ValueError("expected no check_every along a gradient that a defence gives, which comes without labels")
    options.pop("loss", None)
    kept = options.pop("best", ENTRIES[name].more["best"]) or leave is not None
    restarts = options.pop("restarts", 1)
    options |= {"norm": threat.ball, "eps": threat.eps, "score": score if kept else None, "leave": leave}
    if restarts == 1:
        return pgd(gradient, x, **options)
    if leave is not None:
        return _restarted(Looks(gradient, score, leave=leave), x, rate, restarts, options)
    best = attacks.Best(rate, x)
    for _ in range(restarts):
        best.offer(pgd(gradient, x, **options))
    return best.x


def _restarted(looks: Looks, x: Tensor, rate: Loss, restarts: int, options: dict[str, Any]) -> Tensor:
    """Several runs of PGD; an image that is broken in one is left out of the next, as it is."""
    found, left = x.clone(), torch.arange(len(x), device=x.device)
    best = attacks.Best(rate, x)
    for _ in range(restarts):
        x_adv = pgd(looks.gradient, x[left], **(options | {"score": looks.score, "leave": looks.leave}))
        best.offer(x_adv)
        assert looks.score is not None
        with torch.no_grad():
            broken = looks.score(x_adv) > 0
        staying = looks.staying(x_adv, Seen(None, None, None, broken))
        if staying is None:
            continue
        found[left[~staying]] = x_adv[~staying]
        left, looks, kept = left[staying], looks.rows(staying), best.rows(staying)
        assert isinstance(rate, LogitLoss)
        rate = rate.rows(staying)
        best = attacks.Best(rate, kept.x, kept.value)
        if not len(left):
            return found
    found[left] = best.x
    return found


BACKEND = Backend(ENTRIES, run, stated, versions, load=lambda function: function, given=SET_HERE)
