"""Attacks on a classifier and its detector at once: losses and gradients for `pgd`.

`fooling` is positive exactly where the classifier is wrong, as `margin` and `dlr` are; `score` is a detector's, to be
kept at or below a threshold. Both are `Loss`es: images to one value each.
"""

from __future__ import annotations

import torch
from torch import Tensor

from art_ext.attacks import L2, Gradient, Loss, ascent, feature
from art_ext.attacks.losses import Model
from art_ext.attacks.norms import per_sample


def joint(fooling: Loss, score: Loss, weight: float = 1.0, *, threshold: float | None = None) -> Loss:
    """The classifier's loss minus weight times the detector's score [Carlini & Wagner 2017, arXiv:1705.07263].

    Args:
        fooling: the attacker wants it large; any loss.
        score: he wants it small.
        weight: of the score, in units of the classifier's loss a unit of the score. Try several.
        threshold: scores at or below it weigh nothing; without it the score is driven down for ever. Sign steps (Linf)
            then hop about the threshold and spend what it allows on whatever pixels move first: try without as well.

    Raises:
        ValueError: a negative weight.
    """
    if weight < 0:
        raise ValueError(f"expected weight >= 0, got {weight}")

    def loss(x: Tensor) -> Tensor:
        seen = score(x) if threshold is None else (score(x) - threshold).clamp_min(0)
        return fooling(x) - weight * seen

    return loss


def orthogonal(fooling: Loss, score: Loss, *, project: bool = True) -> Gradient:
    """One aim at a time, without undoing the other [Bryniarski et al. 2022, arXiv:2106.15023].

    While the classifier is right, along its loss; once it is wrong, against the detector's score. Each direction is
    freed of what it shares with the gradient of the other, so that to first order the other stays as it is. In Linf
    `pgd` takes the sign of it, which does not keep the right angle; L2 does.

    Args:
        fooling: positive exactly where the classifier is wrong.
        score: the detector's.
        project: whether directions are freed of each other (orthogonal PGD) or not (selective PGD).
    """

    def gradient(x: Tensor) -> Tensor:
        wrong, hidden = ascent(fooling)(x), -ascent(score)(x)
        with torch.no_grad():
            fooled = per_sample(fooling(x) > 0, x)
        chosen, other = torch.where(fooled, hidden, wrong), torch.where(fooled, wrong, hidden)
        return _without(chosen, other) if project else chosen

    return gradient


def _without(direction: Tensor, other: Tensor) -> Tensor:
    """The part of each direction that is orthogonal to the other one."""
    ray = L2().direction(other)
    return direction - per_sample((direction * ray).flatten(1).sum(1), ray) * ray


def feature_matching(features: Model, guides: Tensor) -> Loss:
    """Minus the mean squared distance to the features of a guide, a clean image of another class.

    [Sabour et al. 2016, arXiv:1511.05122].

    Args:
        features: what the detector looks at, images to (N, D), such as `LayerFeatures.joined`.
        guides: clean images (N, C, H, W) of other classes, see `nearest_guides`.
    """
    distance = feature(features, guides)
    return lambda x: -distance(x)


def nearest_guides(features: Model, x: Tensor, y: Tensor, pool: Tensor, pool_y: Tensor) -> Tensor:
    """For each image the image of another class whose features are nearest, (N, C, H, W).

    Args:
        features: images to (N, D).
        x: images (N, C, H, W) to be attacked.
        y: their labels (N,).
        pool: clean images (M, C, H, W); those that the classifier gets right and the detector passes are best.
        pool_y: their classes (M,).

    Raises:
        ValueError: the pool has no image of another class for some label.
    """
    same = y[:, None] == pool_y
    if bool(same.all(1).any()):
        raise ValueError(f"expected a pool with other classes than the labels, got {pool_y.unique().tolist()}")
    with torch.no_grad():
        distances = torch.cdist(features(x), torch.cat([features(piece) for piece in pool.split(256)]))
    return pool[distances.masked_fill(same, torch.inf).argmin(1)]


def evades(fooling: Loss, score: Loss, threshold: float, *, scale: float = 1.0) -> Loss:
    """The smaller of how wrong the classifier is and how far the score is below the threshold.

    Not negative where both are fooled; `pgd(..., score=evades(...))` keeps the iterate that comes nearest.

    Args:
        fooling: positive exactly where the classifier is wrong.
        score: the detector's.
        threshold: scores above it are flagged.
        scale: of the score, so that the two can be compared; the spread of clean scores is one.

    Raises:
        ValueError: a scale that is not positive.
    """
    if not scale > 0:
        raise ValueError(f"expected scale > 0, got {scale}")

    def loss(x: Tensor) -> Tensor:
        return torch.minimum(fooling(x), (threshold - score(x)) / scale)

    return loss
