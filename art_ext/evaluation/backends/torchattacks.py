"""Attacks of torchattacks, with the settings of the papers where it has others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.attacks import Averaged, straight_through_clamp
from art_ext.evaluation.backends.entry import PER_GRADIENT, Backend, Entry, climbing, defaults
from art_ext.evaluation.backends.wrapped import Wrapped, check_classes
from art_ext.evaluation.threat import Threat
from art_ext.nn.modes import evaluating

WITH_EOT = {"PGD": "EOTPGD", "APGD": "APGD"}
"""Attacks that average the gradients of EOT samples themselves."""
TRANSFER: dict[str, dict[str, Any]] = {
    "MI-FGSM": {"decay": 1.0},
    "DI-FGSM": {"decay": 1.0, "diversity_prob": 0.7},
    "TI-FGSM": {"decay": 1.0, "diversity_prob": 0.7, "len_kernel": 15, "nsig": 3},
    "SI-NI-FGSM": {"decay": 1.0, "m": 5},
    "VMI-FGSM": {"decay": 1.0, "beta": 1.5, "N": 20},
    "VNI-FGSM": {"decay": 1.0, "beta": 1.5, "N": 20},
}
"""The settings of the attacks' papers, in ten steps of eps / 10: torchattacks' own differ, in momentum, size of a step
or number of neighbours."""
GIVEN = frozenset({"model", "norm", "eps"})


def _steps(usual: int = 10, more: str = "", count: int = 1) -> Callable[[Mapping[str, Any]], float]:
    """Cost of an attack of so many steps; a step takes one gradient, or as many as the parameter `more` says."""

    def cost(p: Mapping[str, Any]) -> float:
        each = p.get(more, count) + (more == "N")
        return PER_GRADIENT * p.get("steps", usual) * each * p.get("n_restarts", 1) * p.get("eot_iter", 1)

    return cost


def _square_cost(p: Mapping[str, Any]) -> float:
    return float(p.get("n_queries", 5000) * p.get("n_restarts", 1))


def _check_loss(losses: tuple[str, ...]) -> Callable[[Mapping[str, Any]], None]:
    def check(p: Mapping[str, Any]) -> None:
        if p.get("loss", losses[0]) not in losses:
            raise ValueError(f"expected loss to be one of {', '.join(losses)}; got {p['loss']!r}")

    return check


def _transfer(name: str) -> Callable[[Threat], dict[str, Any]]:
    return lambda threat: {"alpha": threat.eps / 10, "steps": 10, **TRANSFER[name]}


CLIMBING = climbing(10, "cross_entropy")
ENTRIES = {
    "FGSM": Entry({"Linf": "FGSM"}, _steps(1), climbing(1, "cross_entropy")),
    "PGD": Entry({"Linf": "PGD", "L2": "PGDL2"}, _steps(), CLIMBING),
    "MI-FGSM": Entry({"Linf": "MIFGSM"}, _steps(), CLIMBING, _transfer("MI-FGSM")),
    "DI-FGSM": Entry({"Linf": "DIFGSM"}, _steps(), CLIMBING, _transfer("DI-FGSM")),
    "TI-FGSM": Entry({"Linf": "TIFGSM"}, _steps(), CLIMBING, _transfer("TI-FGSM")),
    "SI-NI-FGSM": Entry({"Linf": "SINIFGSM"}, _steps(more="m", count=5), CLIMBING, _transfer("SI-NI-FGSM")),
    "VMI-FGSM": Entry({"Linf": "VMIFGSM"}, _steps(more="N", count=20), CLIMBING, _transfer("VMI-FGSM")),
    "VNI-FGSM": Entry({"Linf": "VNIFGSM"}, _steps(more="N", count=20), CLIMBING, _transfer("VNI-FGSM")),
    "APGD": Entry({"Linf": "APGD", "L2": "APGD"}, _steps(), CLIMBING, check=_check_loss(("ce", "dlr"))),
    "Square": Entry(
        {"Linf": "Square", "L2": "Square"}, _square_cost, black_box=True, check=_check_loss(("margin", "ce"))
    ),
}  # fmt: skip


def versions() -> dict[str, str]:
    """Version of torchattacks.

    Raises:
        ImportError: it is not installed.
    """
    _library()
    return {"torchattacks": version("torchattacks")}


def run(
    name: str, module: nn.Module, x: Tensor, y: Tensor, threat: Threat, parameters: Mapping[str, Any],
    goal: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """torchattacks' attack; parameters are its own, plus `step_size` for `alpha`.

    Raises:
        ImportError: torchattacks is not installed.
        ValueError: it has no such attack for the norm, the channels, a goal, averaged gradients, or so few classes.
    """
    library = _library()
    kind = _kind(name, threat)
    if name == "TI-FGSM" and x.shape[1] != 3:
        raise ValueError(
            f"expected 3 channels for torchattacks' TI-FGSM, got {x.shape[1]}: native SI-NI-TI-DIM has any"
        )
    options = _options(name, threat, parameters)
    if isinstance(module, Averaged) and module.average == "gradients":
        if name not in WITH_EOT or threat.norm != "Linf":
            raise ValueError(f"expected one of {', '.join(WITH_EOT)} at Linf to average gradients, got {name}")
        kind, options["eot_iter"], module = WITH_EOT[name], module.eot_samples, module.module
    if options.get("loss") == "dlr":
        with torch.no_grad():
            check_classes(module(x[:1]).shape[1], 3, f"torchattacks' {name} with loss dlr")
    return _run(getattr(library, kind), module, x, y, goal, {"eps": threat.eps, **options})


def _run(kind: Any, module: nn.Module, x: Tensor, y: Tensor, goal: Tensor | None, options: dict[str, Any]) -> Tensor:
    # torchattacks puts back the outermost module's mode, for all modules inside alike
    with evaluating(module), torch.enable_grad():
        attack = kind(_WithState(module).eval(), **options)
        if goal is not None:
            attack.set_mode_targeted_by_label(quiet=True)
        x_adv: Tensor = attack(x.detach(), y if goal is None else goal)
    return x_adv.detach().to(x)


def stated(name: str, threat: Threat, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Every parameter under torchattacks' names, `step_size` for `alpha`."""
    found = {**defaults(getattr(_library(), _kind(name, threat))), **_options(name, threat, parameters)}
    found = {("step_size" if k == "alpha" else k): v for k, v in found.items() if k not in ("norm", "verbose")}
    return {**found, "eps": threat.eps}


def _kind(name: str, threat: Threat) -> str:
    functions = ENTRIES[name].function
    if threat.norm not in functions:
        raise ValueError(f"expected a norm that torchattacks has {name} for, got {threat.norm}")
    kind: str = functions[threat.norm]
    return kind


def _options(name: str, threat: Threat, parameters: Mapping[str, Any]) -> dict[str, Any]:
    options = {("alpha" if k == "step_size" else k): v for k, v in parameters.items()}
    options = {**ENTRIES[name].defaults(threat), **options}
    if name in ("APGD", "Square"):
        options["norm"] = threat.norm
    return options


class _WithState(Wrapped):
    """What torchattacks wants of a model: parameters or buffers to find the device by, and answers outside [0, 1].

    Its attacks that look ahead or at neighbours leave the box, where a purifier refuses images and a classifier was
    never trained: such images are clamped, with the gradient where they came from.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        device = next((t.device for t in [*module.parameters(), *module.buffers()]), torch.device("cpu"))
        self.register_buffer("state", torch.zeros(1, device=device))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(straight_through_clamp(x))


def _library() -> Any:
    try:
        import torchattacks
    except ImportError as error:
        raise ImportError("torchattacks is not installed: pip install art-ext[torchattacks]") from error
    return torchattacks


def _load(function: str) -> Any:
    return getattr(_library(), function)


BACKEND = Backend(ENTRIES, run, stated, versions, load=_load, given=GIVEN, aliases={"step_size": "alpha"})
