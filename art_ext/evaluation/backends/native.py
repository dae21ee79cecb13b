"""Attacks of this package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

import art_ext
from art_ext.attacks import Gradient, Loss, ascent, cross_entropy, margin, pgd
from art_ext.evaluation.threat import Threat

NAMES = ("FGSM", "PGD", "MI-FGSM")
LOSSES: dict[str, Callable[[nn.Module, Tensor], Loss]] = {"cross_entropy": cross_entropy, "margin": margin}


def versions() -> dict[str, str]:
    """Version of this package."""
    return {"art-ext": art_ext.__version__}


def run(name: str, module: nn.Module, x: Tensor, y: Tensor, threat: Threat, parameters: Mapping[str, Any]) -> Tensor:
    """PGD and its relatives. Parameters: those of `art_ext.attacks.pgd`, and `loss`, "cross_entropy" or "margin".

    PGD keeps each image's iterate of largest margin unless `best=False`.
    """
    loss = LOSSES[parameters.get("loss", "cross_entropy")](module, y)
    return follow(ascent(loss), name, module, x, y, threat, parameters)


def follow(
    gradient: Gradient,
    name: str,
    module: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    parameters: Mapping[str, Any],
) -> Tensor:
    """The attack `name` along any gradient; `module` only rates the iterates (`best`)."""
    options: dict[str, Any] = {"FGSM": {"steps": 1, "step_size": threat.eps, "random_start": False}}.get(name, {})
    options = {"steps": 40, **({"momentum": 1.0} if name == "MI-FGSM" else {}), **options, **parameters}
    options.pop("loss", None)
    score = margin(module, y) if options.pop("best", name == "PGD") else None
    return pgd(gradient, x, norm=threat.ball, eps=threat.eps, score=score, **options)
