"""Attacks of the Adversarial Robustness Toolbox, run on an ART classifier."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.evaluation.threat import Threat
from art_ext.purifiers import Purifier

NAMES = ("PGD", "APGD", "Square")
NORMS: dict[str, Any] = {"Linf": "inf", "L2": 2, "L1": 1}


def versions() -> dict[str, str]:
    """Version of ART."""
    return {"adversarial-robustness-toolbox": version("adversarial-robustness-toolbox")}


def run(name: str, module: nn.Module, x: Tensor, y: Tensor, threat: Threat, parameters: Mapping[str, Any]) -> Tensor:
    """ART's attack on the module; parameters are ART's own, plus `steps` for `max_iter` and `step_size` for `eps_step`.

    A purifier followed by a classifier becomes a classifier with a preprocessing defence, the way a user has it: the
    gradient then goes through ART's own path.
    """
    from art.attacks import evasion

    options: dict[str, Any] = {"batch_size": 256, **parameters}
    renamed = {"steps": "max_iter", "step_size": "eps_step"}
    options = {renamed.get(k, k): v for k, v in options.items()}
    classes = {
        "PGD": evasion.ProjectedGradientDescentPyTorch,
        "APGD": evasion.AutoProjectedGradientDescent,
        "Square": evasion.SquareAttack,
    }
    options["norm"] = (
        NORMS[threat.norm] if name == "PGD" else {"inf": float("inf")}.get(NORMS[threat.norm], threat.norm)
    )
    attack = classes[name](estimator(module, x, y), eps=threat.eps, verbose=False, **options)
    x_adv = attack.generate(x.cpu().numpy(), y.cpu().numpy())
    return torch.from_numpy(x_adv).to(x.device)


def estimator(module: nn.Module, x: Tensor, y: Tensor) -> Any:
    """An ART classifier for a module on images in [0, 1]; a leading purifier becomes its preprocessing defence."""
    from art.estimators.classification import PyTorchClassifier

    from art_ext.defences import PurifierPreprocessor

    device = "cpu" if x.device.type == "cpu" else "gpu"
    defences, model = [], module
    if isinstance(module, nn.Sequential) and len(module) == 2 and isinstance(module[0], Purifier):
        defences = [PurifierPreprocessor(module[0], batch_size=module[0].batch_size, device_type=device)]
        model = module[1]
    with torch.no_grad():
        classes = module(x[:1]).shape[1]
    return PyTorchClassifier(
        model, nn.CrossEntropyLoss(), tuple(x.shape[1:]), classes, clip_values=(0.0, 1.0),
        preprocessing_defences=defences or None, device_type=device,
    )  # fmt: skip
