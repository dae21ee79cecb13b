"""AutoAttack [Croce & Hein 2020, arXiv:2003.01690], through `autoattack` or `pyautoattack`, whichever is installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.attacks import Averaged, Best, margin
from art_ext.evaluation.threat import Threat

NAMES = ("standard", "rand", "plus", "custom")


def versions() -> dict[str, str]:
    """Name and version of the library in use.

    Raises:
        ImportError: neither is installed.
    """
    name = _library().__name__.split(".")[0]
    return {name: version(name)}


def run(
    name: str, module: nn.Module, x: Tensor, y: Tensor, threat: Threat, parameters: Mapping[str, Any],
    goal: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """AutoAttack's version `name`.

    Parameters: `batch_size`, `seed`, `attacks` for the version "custom", and `order`: the version's own attacks in
    another order. Each attack sees what the earlier ones left, so the order changes the time, not what is tried.

    AutoAttack takes one draw of a randomised model for its answer. So `Averaged` models get each attack on every image,
    and of each image the candidate of the worst mean margin over fresh draws. "rand" averages the gradients of the
    draws itself (`eot_iter`), every other version attacks the mean logits.

    Raises:
        ImportError: neither library is installed.
        ValueError: `order` does not hold exactly the attacks of the version, or there is a goal: AutoAttack's targeted
            attacks choose theirs themselves.
    """
    if goal is not None:
        raise ValueError(f"expected an untargeted attack, got AutoAttack {name} with a goal")
    options = {"seed": 0, "batch_size": 256, **parameters}
    batch_size, order = options.pop("batch_size"), options.pop("order", None)
    attack = _attack(name, module, x, threat, options)
    with torch.no_grad():
        others = module(x[:1]).shape[1] - 1
    for targeted in (attack.apgd_targeted, attack.fab):  # nine, but there may be fewer
        targeted.n_target_classes = min(targeted.n_target_classes, others)
    if order is not None:
        if sorted(order) != sorted(attack.attacks_to_run):
            raise ValueError(f"expected an order of {attack.attacks_to_run}, got {order}")
        attack.attacks_to_run = list(order)
    if not isinstance(module, Averaged):
        return _evaluated(attack, x, y, batch_size)
    if name == "rand":
        attack.apgd.model, attack.apgd.eot_iter = module.module, module.draws
    best = Best(margin(module, y), x)
    for component in list(attack.attacks_to_run):
        attack.attacks_to_run = [component]
        best.offer(_evaluated(attack, x, y, batch_size))
    return best.x


def _attack(name: str, module: nn.Module, x: Tensor, threat: Threat, options: dict[str, Any]) -> Any:
    library = _library()
    if library.__name__.startswith("autoattack"):
        if "attacks" in options:
            options["attacks_to_run"] = options.pop("attacks")
        options["verbose"] = False
    return library.AutoAttack(
        module, norm=threat.norm, eps=threat.eps, version=name, device=str(x.device), **options
    )  # fmt: skip


def _evaluated(attack: Any, x: Tensor, y: Tensor, batch_size: int) -> Tensor:
    with _keeping_trace():
        if type(attack).__module__.startswith("autoattack"):
            x_adv: Tensor = attack.run_standard_evaluation(x, y, bs=batch_size)
        else:
            x_adv, _ = attack.run_standard_evaluation(x, y, batch_size=batch_size)
    return x_adv.to(x.device)


def stated(name: str, threat: Threat, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Version, seed and batch size; the version fixes the rest."""
    return {"version": name, "seed": 0, "batch_size": 256, **parameters}


@contextmanager
def _keeping_trace() -> Iterator[None]:
    """AutoAttack's flag for dynamic models calls `sys.settrace(None)`, which kills debuggers and coverage."""
    trace = sys.gettrace()
    try:
        yield
    finally:
        sys.settrace(trace)


def _library() -> Any:
    try:
        import autoattack as library
    except ImportError:
        try:
            import pyautoattack as library
        except ImportError as error:
            raise ImportError("AutoAttack is not installed: pip install pyautoattack") from error
    return library
