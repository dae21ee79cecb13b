"""AutoAttack [Croce & Hein 2020, arXiv:2003.01690], through `autoattack` or `pyautoattack`, whichever is installed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.attacks import Averaged, Best, margin
from art_ext.evaluation.backends.entry import PER_GRADIENT, Backend, Entry
from art_ext.evaluation.backends.wrapped import Wrapped, check_classes
from art_ext.evaluation.threat import Threat

COSTS = {
    "apgd-ce": 500 * PER_GRADIENT, "apgd-dlr": 500 * PER_GRADIENT, "apgd-t": 900 * PER_GRADIENT,
    "fab": 500 * PER_GRADIENT, "fab-t": 900 * PER_GRADIENT, "square": 5000.0,
}  # fmt: skip
"""The attacks that AutoAttack is made of, and the forward passes that each takes an image which it does not break."""
LOSSES = {
    "apgd-ce": "cross_entropy", "apgd-dlr": "dlr", "apgd-t": "dlr", "fab": "distance", "fab-t": "distance",
}  # fmt: skip
"""What those of them climb that use gradients."""
LEAST_CLASSES = {"apgd-dlr": 3, "apgd-t": 4}
VERSIONS = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "rand": ("apgd-ce", "apgd-dlr"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
}
USUAL = {"batch_size": 256, "seed": 0, "order": None}


def _check_names(what: str, names: Any) -> None:
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name in COSTS for name in names):
        raise ValueError(f"expected {what} as a list of at least one of {', '.join(COSTS)}; got {names!r}")


def _check_lists(parameters: Mapping[str, Any]) -> None:
    for key in ("attacks", "order"):
        if parameters.get(key) is not None:
            _check_names(key, parameters[key])


def _effort(attacks: Iterable[str]) -> tuple[int, tuple[str, ...]]:
    climbed = [LOSSES[a] for a in attacks if a in LOSSES]
    return (100 if climbed else 0), tuple(dict.fromkeys(climbed))


def _version(name: str) -> Entry:
    cost = sum(COSTS[attack] for attack in VERSIONS[name]) / 4  # most images fall early
    return Entry({}, lambda _: cost, lambda _: _effort(VERSIONS[name]), targeted=False, more=USUAL, check=_check_lists)


ENTRIES = {
    **{name: _version(name) for name in VERSIONS},
    "custom": Entry(
        {}, lambda p: sum(COSTS[a] for a in p.get("attacks") or ()) / 2,
        lambda p: _effort(p.get("attacks") or ()), targeted=False,
        more={**USUAL, "attacks": None}, check=_check_lists,
    ),
}  # fmt: skip


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

    AutoAttack takes one sample of a randomised model for its answer. So `Averaged` models get each attack on every
    image, and of each image the candidate of the worst mean margin over fresh samples. "rand" averages the gradients
    of the samples itself (`eot_iter`), every other version attacks the mean logits.

    Raises:
        ImportError: neither library is installed.
        ValueError: `custom` without attacks; `order` does not hold exactly the attacks of the version; there is a goal:
            AutoAttack's targeted attacks choose theirs themselves; or the model has too few classes for a loss.
    """
    if goal is not None:
        raise ValueError(f"expected an untargeted attack, got AutoAttack {name} with a goal")
    if name == "custom":
        _check_names("attacks of AutoAttack's custom version", parameters.get("attacks"))
    options = {**USUAL, **parameters}
    batch_size, order = options.pop("batch_size"), options.pop("order")
    x = x.detach()
    with torch.no_grad():
        classes = module(x[:1]).shape[1]
    for used in parameters.get("attacks") or VERSIONS.get(name, ()):
        check_classes(classes, LEAST_CLASSES.get(used, 2), f"AutoAttack's {used}")
    wrapped = module if isinstance(module, Averaged) else Wrapped(module)
    attack = _attack(name, wrapped, x, threat, options)
    for targeted in (attack.apgd_targeted, attack.fab):  # nine, but there may be fewer
        targeted.n_target_classes = min(targeted.n_target_classes, classes - 1)
    if order is not None:
        if sorted(order) != sorted(attack.attacks_to_run):
            raise ValueError(f"expected an order of {attack.attacks_to_run}, got {order}")
        attack.attacks_to_run = list(order)
    with torch.enable_grad():
        if isinstance(module, Averaged):
            return _best_of_each(attack, name, module, x, y, batch_size)
        return _evaluated(attack, x, y, batch_size)


def _best_of_each(attack: Any, name: str, module: Averaged, x: Tensor, y: Tensor, batch_size: int) -> Tensor:
    if name == "rand":
        attack.apgd.model, attack.apgd.eot_iter = Wrapped(module.module), module.eot_samples
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
    return x_adv.detach().to(x)


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


def _load(function: Any) -> Any:
    raise AssertionError(f"expected no function of an entry, got {function!r}")


BACKEND = Backend(ENTRIES, run, stated, versions, load=_load, given=frozenset({"eps", "norm", "version", "device"}))
