"""Attacks of the paper that submit no single image: they say something about DIR, and are no threat model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from art_ext.attacks import Linf, ascent, cross_entropy, pgd, straight_through_clamp

if TYPE_CHECKING:
    from art_ext.purifiers.dir.purifier import DIR


def per_mask_restorations(
    purifier: DIR,
    classifier: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float = 8 / 255,
    steps: int = 40,
    step_size: float | None = None,
) -> Tensor:
    """The fused image when every mask has a perturbation of its own, found with that mask known (Eq. 8, per mask).

    No attacker can submit K images for one answer. Nor is what is left a bound: each perturbation goes after the answer
    to its own restoration, while the defence answers to their mean. Where training has made the restorations parts that
    are images only together, it is far weaker than PGD through the whole pipeline with masks known (`DIR.set_masks`).

    Args:
        purifier: a DIR.
        classifier: images in [0, 1] to logits.
        x: clean images (N, C, H, W) in [0, 1].
        y: labels (N,).
        eps: Linf radius of each perturbation.
        steps: of the attack on each mask (the paper: 40).
        step_size: 2.5 * eps / steps unless given (the paper: 2/255).

    Returns:
        (N, C, H, W) in [0, 1], for the classifier.
    """
    parts = []
    for mask in purifier.hidden(x):

        def model(v: Tensor, mask: Tensor = mask) -> Tensor:
            logits: Tensor = classifier(straight_through_clamp(purifier.network(v, mask)))
            return logits

        x_adv = pgd(ascent(cross_entropy(model, y)), x, norm=Linf(), eps=eps, steps=steps, step_size=step_size)
        with torch.no_grad():
            parts.append(purifier.network(x_adv, mask))
    return torch.stack(parts).mean(0).clamp(0, 1)


def representation_attack(
    purifier: DIR,
    classifier: nn.Module,
    x_adv: Tensor,
    y: Tensor,
    *,
    eps: float = 8 / 255,
    steps: int = 20,
    step_size: float | None = None,
) -> Tensor:
    """Perturbed restorations (Eq. 9): the classifier's robustness around g(x_adv), which nobody can reach from outside.

    Args:
        purifier: a DIR.
        classifier: images in [0, 1] to logits.
        x_adv: images (N, C, H, W) in [0, 1], attacked or not.
        y: labels (N,).
        eps: Linf radius around the restoration.
        steps: of the attack (the paper: 20).
        step_size: 2.5 * eps / steps unless given (the paper: 2/255).

    Returns:
        (N, C, H, W) in [0, 1], for the classifier.
    """
    with torch.no_grad():
        restored = purifier(x_adv)
    gradient = ascent(cross_entropy(classifier, y))
    return pgd(gradient, restored, norm=Linf(), eps=eps, steps=steps, step_size=step_size)
