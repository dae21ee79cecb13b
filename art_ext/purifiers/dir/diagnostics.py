"""What a DIR does to images, and attacks of the paper that submit no single image and are no threat model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from art_ext.attacks import Linf, ascent, cross_entropy, pgd, straight_through_clamp
from art_ext.nn.vit import patchify

if TYPE_CHECKING:
    from art_ext.purifiers.dir.purifier import DIR


def slopes(purifier: DIR, x: Tensor) -> dict[str, float]:
    """How single restorations follow the image: slopes of least squares of restored on true pixels.

    An inpainter has 1 where it sees and 1 where it does not. With two complementary masks, 2 and 0 add up to the
    identity in the mean: nothing is restored, and nothing discarded.

    Args:
        purifier: a DIR.
        x: clean images (N, C, H, W) in [0, 1]; all at once, so keep N small.

    Returns:
        "seen" and "hidden": the slope over patches that the masks leave and that they hide.
    """
    patch = purifier.network.patch
    with torch.no_grad():
        hidden = purifier.hidden(x)
        restored = torch.stack([patchify(part, patch) for part in purifier.parts(x, hidden)])
        true = patchify(x, patch).expand_as(restored)
    return {name: _slope(true[mask], restored[mask]) for name, mask in {"seen": ~hidden, "hidden": hidden}.items()}


def share_discarded(purifier: DIR, x: Tensor, x_adv: Tensor) -> float:
    """The share of a perturbation that does not come through the purifier: 1 minus the slope of g(x') - g(x) on x' - x.

    0 for the identity, 1 where nothing of it is left, negative where it is amplified. Both images pass under the same
    masks.

    Args:
        purifier: a DIR.
        x: clean images (N, C, H, W) in [0, 1]; all at once, so keep N small.
        x_adv: the perturbed ones.
    """
    with torch.no_grad():
        hidden = purifier.hidden(x)
        change = purifier.fused(x_adv, hidden).clamp(0, 1) - purifier.fused(x, hidden).clamp(0, 1)
    sent = x_adv - x
    return 1 - float((change * sent).sum() / sent.square().sum())


def _slope(true: Tensor, found: Tensor) -> float:
    centred = true - true.mean()
    return float((centred * found).sum() / centred.square().sum())


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
    for mask, count in purifier.counted(purifier.hidden(x)):

        def loss(v: Tensor, mask: Tensor = mask, count: int | None = count) -> Tensor:
            restored = straight_through_clamp(purifier.network(v, mask, count=count))
            return cross_entropy(lambda _: classifier(restored), y)(v)

        # A function of its own is not cut into pieces, as the mask is not.
        x_adv = pgd(ascent(loss), x, norm=Linf(), eps=eps, steps=steps, step_size=step_size)
        with torch.no_grad():
            parts.append(purifier.network(x_adv, mask, count=count))
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
