"""Attacks of the Adversarial Robustness Toolbox, run on an ART classifier."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.attacks import Averaged
from art_ext.evaluation.backends.defaults import defaults
from art_ext.evaluation.threat import Threat
from art_ext.purifiers import Purifier

NORMS: dict[str, Any] = {"Linf": "inf", "L2": 2, "L1": 1}
RENAMED = {"steps": "max_iter", "step_size": "eps_step"}
BALL = ("FGSM", "PGD", "APGD", "AutoAttack", "Square")
MINIMUM_NORM = ("C&W", "DeepFool", "HopSkipJump")
"""Look for the nearest example at any distance; what lies outside the ball is projected onto it."""
NAMES = (*BALL, *MINIMUM_NORM)
BLACK_BOX = frozenset({"Square", "HopSkipJump"})


def versions() -> dict[str, str]:
    """Version of ART."""
    return {"adversarial-robustness-toolbox": version("adversarial-robustness-toolbox")}


def run(
    name: str, module: nn.Module, x: Tensor, y: Tensor, threat: Threat, parameters: Mapping[str, Any],
    goal: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """ART's attack on the module; parameters are ART's own, plus `steps` for `max_iter` and `step_size` for `eps_step`.

    A purifier followed by a classifier becomes a classifier with a preprocessing defence, the way a user has it: the
    gradient then goes through ART's own path. Draws of a randomised model become an `EOTClassifier`.

    Raises:
        ValueError: ART has no such attack for the norm, or no targeted form of it.
    """
    options = _options(name, threat, parameters, goal is not None)
    attack = _class(name, threat)(estimator(module, x, y), **options)
    wanted = y if goal is None else goal
    x_adv = torch.from_numpy(attack.generate(x.cpu().numpy(), wanted.cpu().numpy())).to(x)
    if name not in MINIMUM_NORM:
        return x_adv
    nearest = (x + threat.ball.project(x_adv - x, threat.eps)).clamp(0, 1)
    return torch.where(threat.holds(x, x_adv).view(-1, 1, 1, 1), x_adv, nearest)


def stated(name: str, threat: Threat, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Every parameter under ART's names, and `steps` and `step_size` for those that have them."""
    found = {**defaults(_class(name, threat)), **_options(name, threat, parameters, targeted=False)}
    dropped = ("verbose", "norm", "summary_writer", "targeted")
    return {k: v for k, v in found.items() if k not in dropped} | dict(parameters)


def _options(name: str, threat: Threat, parameters: Mapping[str, Any], targeted: bool) -> dict[str, Any]:
    options = {RENAMED.get(k, k): v for k, v in {"batch_size": 256, "verbose": False, **parameters}.items()}
    if name in BALL:
        options["eps"] = threat.eps
        options["norm"] = NORMS[threat.norm] if name == "PGD" else float(NORMS[threat.norm])
    if name == "HopSkipJump":
        options["norm"] = NORMS[threat.norm]
    if name == "FGSM":
        options.pop("verbose")
    if name == "AutoAttack":
        options.pop("verbose")
        options["targeted"] = False
    if targeted:
        if name in ("AutoAttack", "Square", "DeepFool"):
            raise ValueError(f"expected an untargeted attack, got ART's {name} with a goal")
        options["targeted"] = True
    return options


def _class(name: str, threat: Threat) -> Any:
    from art.attacks import evasion

    if name in MINIMUM_NORM and threat.norm == "L1":
        raise ValueError(f"expected norm Linf or L2 for ART's {name}, got {threat.norm}")
    carlini = {"Linf": evasion.CarliniLInfMethod, "L2": evasion.CarliniL2Method}
    return {
        "FGSM": evasion.FastGradientMethod,
        "PGD": evasion.ProjectedGradientDescentPyTorch,
        "APGD": evasion.AutoProjectedGradientDescent,
        "AutoAttack": evasion.AutoAttack,
        "Square": evasion.SquareAttack,
        "C&W": carlini.get(threat.norm),
        "DeepFool": evasion.DeepFool,
        "HopSkipJump": evasion.HopSkipJump,
    }[name]


def estimator(module: nn.Module, x: Tensor, y: Tensor) -> Any:
    """An ART classifier for a module on images in [0, 1]; a leading purifier becomes its preprocessing defence.

    `Averaged` becomes an `EOTClassifier` of the classifier inside it.
    """
    from art.estimators.classification import PyTorchClassifier

    from art_ext.defences import PurifierPreprocessor

    if isinstance(module, Averaged):
        from art_ext.estimators import EOTClassifier

        inner = estimator(module.module, x, y)
        return EOTClassifier(inner, module.draws, module.average, module.at_once)
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


def loss_gradient(classifier: Any, x: Tensor, labels: Any) -> Tensor:
    """ART's `loss_gradient` of a classifier for images in [0, 1], as if its own range and layout were these.

    Args:
        classifier: an ART classifier with clip values.
        x: images (N, C, H, W) in [0, 1].
        labels: one-hot, (N, K).
    """
    from art_ext.defences.view import View

    view = View(classifier.clip_values, classifier.channels_first)
    with torch.enable_grad():
        inside = x.detach().requires_grad_()
        outside = view.leave(inside)
        gradient = classifier.loss_gradient(outside.detach().cpu().numpy(), labels)
        return torch.autograd.grad(outside, inside, torch.from_numpy(gradient).to(outside))[0]
