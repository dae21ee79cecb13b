"""Attacks of torchattacks."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.evaluation.threat import Threat
from art_ext.nn.modes import evaluating

NAMES = ("FGSM", "PGD", "MI-FGSM", "APGD")
CLASSES = {
    ("FGSM", "Linf"): "FGSM",
    ("PGD", "Linf"): "PGD",
    ("PGD", "L2"): "PGDL2",
    ("MI-FGSM", "Linf"): "MIFGSM",
    ("APGD", "Linf"): "APGD",
    ("APGD", "L2"): "APGD",
}


def versions() -> dict[str, str]:
    """Version of torchattacks.

    Raises:
        ImportError: it is not installed.
    """
    _library()
    return {"torchattacks": version("torchattacks")}


def run(name: str, module: nn.Module, x: Tensor, y: Tensor, threat: Threat, parameters: Mapping[str, Any]) -> Tensor:
    """torchattacks' attack; parameters are its own, plus `step_size` for `alpha`.

    Raises:
        ImportError: torchattacks is not installed.
        ValueError: it has no such attack for the norm.
    """
    library = _library()
    if (name, threat.norm) not in CLASSES:
        raise ValueError(f"expected a norm that torchattacks has {name} for, got {threat.norm}")
    options = {("alpha" if k == "step_size" else k): v for k, v in parameters.items()}
    if name == "APGD":
        options["norm"] = threat.norm
    with evaluating(module):  # torchattacks puts back the outermost module's mode, for all modules inside alike
        attack = getattr(library, CLASSES[name, threat.norm])(_WithState(module).eval(), eps=threat.eps, **options)
        x_adv: Tensor = attack(x, y)
    return x_adv


class _WithState(nn.Module):
    """torchattacks finds the device by a model's parameters or buffers: this one always has one."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        device = next((t.device for t in [*module.parameters(), *module.buffers()]), torch.device("cpu"))
        self.register_buffer("state", torch.zeros(1, device=device))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.module(x)
        return logits


def _library() -> Any:
    try:
        import torchattacks
    except ImportError as error:
        raise ImportError("torchattacks is not installed: pip install art-ext[torchattacks]") from error
    return torchattacks
