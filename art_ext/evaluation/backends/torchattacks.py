"""Attacks of torchattacks, with the settings of the papers where it has others."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.attacks import Averaged, straight_through_clamp
from art_ext.evaluation.backends.defaults import defaults
from art_ext.evaluation.threat import Threat
from art_ext.nn.modes import evaluating

CLASSES = {
    ("FGSM", "Linf"): "FGSM",
    ("PGD", "Linf"): "PGD",
    ("PGD", "L2"): "PGDL2",
    ("MI-FGSM", "Linf"): "MIFGSM",
    ("DI-FGSM", "Linf"): "DIFGSM",
    ("TI-FGSM", "Linf"): "TIFGSM",
    ("SI-NI-FGSM", "Linf"): "SINIFGSM",
    ("VMI-FGSM", "Linf"): "VMIFGSM",
    ("VNI-FGSM", "Linf"): "VNIFGSM",
    ("APGD", "Linf"): "APGD",
    ("APGD", "L2"): "APGD",
    ("Square", "Linf"): "Square",
    ("Square", "L2"): "Square",
}
NAMES = tuple(dict.fromkeys(name for name, _ in CLASSES))
BLACK_BOX = frozenset({"Square"})
WITH_EOT = {"PGD": "EOTPGD", "APGD": "APGD"}
"""Attacks that average the gradients of draws themselves."""
TRANSFER = {
    "MI-FGSM": {"decay": 1.0},
    "DI-FGSM": {"decay": 1.0, "diversity_prob": 0.7},
    "TI-FGSM": {"decay": 1.0, "diversity_prob": 0.7, "len_kernel": 15, "nsig": 3},
    "SI-NI-FGSM": {"decay": 1.0, "m": 5},
    "VMI-FGSM": {"decay": 1.0, "beta": 1.5, "N": 20},
    "VNI-FGSM": {"decay": 1.0, "beta": 1.5, "N": 20},
}
"""The settings of the attacks' papers, in ten steps of eps / 10: torchattacks' own differ, in momentum, size of a step
or number of neighbours."""


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
        ValueError: it has no such attack for the norm, the channels, a goal, or averaged gradients.
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
        kind, options["eot_iter"], module = WITH_EOT[name], module.draws, module.module
    with evaluating(module):  # torchattacks puts back the outermost module's mode, for all modules inside alike
        attack = getattr(library, kind)(_WithState(module).eval(), eps=threat.eps, **options)
        if goal is None:
            return attack(x, y)
        attack.set_mode_targeted_by_label(quiet=True)
        return attack(x, goal)


def stated(name: str, threat: Threat, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Every parameter under torchattacks' names, `step_size` for `alpha`."""
    found = {**defaults(getattr(_library(), _kind(name, threat))), **_options(name, threat, parameters)}
    found = {("step_size" if k == "alpha" else k): v for k, v in found.items() if k not in ("norm", "verbose")}
    return {**found, "eps": threat.eps}


def _kind(name: str, threat: Threat) -> str:
    if (name, threat.norm) not in CLASSES:
        raise ValueError(f"expected a norm that torchattacks has {name} for, got {threat.norm}")
    return CLASSES[name, threat.norm]


def _options(name: str, threat: Threat, parameters: Mapping[str, Any]) -> dict[str, Any]:
    options = {("alpha" if k == "step_size" else k): v for k, v in parameters.items()}
    if name in TRANSFER:
        options = {"alpha": threat.eps / 10, "steps": 10, **TRANSFER[name], **options}
    if name in ("APGD", "Square"):
        options["norm"] = threat.norm
    return options


class _WithState(nn.Module):
    """What torchattacks wants of a model: parameters or buffers to find the device by, and answers outside [0, 1].

    Its attacks that look ahead or at neighbours leave the box, where a purifier refuses images and a classifier was
    never trained: such images are clamped, with the gradient where they came from.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        device = next((t.device for t in [*module.parameters(), *module.buffers()]), torch.device("cpu"))
        self.register_buffer("state", torch.zeros(1, device=device))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.module(straight_through_clamp(x))
        return logits


def _library() -> Any:
    try:
        import torchattacks
    except ImportError as error:
        raise ImportError("torchattacks is not installed: pip install art-ext[torchattacks]") from error
    return torchattacks
