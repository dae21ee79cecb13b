"""Attackers who know a detector: which images they get through, wrong and unflagged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.attacks import Gradient, Linf, ascent, margin, pgd
from art_ext.data import Images
from art_ext.detectors import (
    LayerDetector,
    evades,
    feature_matching,
    joint,
    nearest_guides,
    orthogonal,
    threshold_at,
)
from art_ext.nn import seeded

FALSE_POSITIVES = 0.05


def attackers(
    fooling: Any, detector: LayerDetector, threshold: float, guides: Tensor, weights: Sequence[float], look: Any
) -> dict[str, list[Gradient]]:
    """Gradients by name; of several, an image counts as broken if it falls to one. `look`: images to features."""
    score = detector.scores
    joints: list[Gradient] = [ascent(joint(fooling, score, w)) for w in weights]
    joints.append(ascent(joint(fooling, score, weights[len(weights) // 2], threshold=threshold)))
    matching = feature_matching(look, guides)
    return {
        "PGD on the classifier": [ascent(fooling)],
        "joint loss": joints,
        "orthogonal PGD": [orthogonal(fooling, score)],
        "selective PGD": [orthogonal(fooling, score, project=False)],
        # A classifier that does not share these features has to be fooled besides.
        "feature matching": [ascent(matching), ascent(lambda v: fooling(v) + matching(v))],
    }


def adaptive(
    network: nn.Module, detector: LayerDetector, x: Tensor, y: Tensor, clean: Tensor, pool: Images, eps: float,
    *, steps: int = 50, weights: Sequence[float] = (0.1, 0.5, 2.0),
) -> dict[str, Any]:  # fmt: skip
    """Which images end wrong and unflagged under each attacker, at 5 % false alarms on clean images.

    Args:
        network: images to logits, which has to be wrong.
        detector: what has to stay quiet.
        x: images (N, C, H, W) in [0, 1].
        y: their classes (N,).
        clean: other clean images (M, C, H, W), for the threshold.
        pool: images and classes whose features attackers may imitate.
        eps: Linf radius.
        steps: of each attacker, of 2.5 * eps / steps.
        weights: of the detector's score in the joint loss, in spreads of its scores on clean images.

    Returns:
        "broken": flags (N,) by attacker; "flagged_clean": (N,); "threshold"; "noise": the step of the detector's input.
    """
    with torch.no_grad():
        scores = detector.scores(clean)
        threshold, spread = threshold_at(scores, FALSE_POSITIVES), float(scores.std().clamp_min(1e-12))
        spreads = detector.features.joined(clean).std(0).clamp_min(1e-6)  # or the largest layer alone would count
        passed = (network(pool.x).argmax(1) == pool.y) & (detector.scores(pool.x) <= threshold)
    if len(pool.y[passed].unique()) < 2:  # a classifier that knows one class: any guide will do
        passed = torch.ones_like(passed)
    scaled = [w / spread for w in weights]

    def look(images: Tensor) -> Tensor:
        return detector.features.joined(images) / spreads

    flags: dict[str, list[bool]] = {}
    for a, b in zip(x.split(128), y.split(128), strict=True):
        fooling, score = margin(network, b), detector.scores
        nearest = evades(fooling, score, threshold, scale=spread)
        guides = nearest_guides(look, a, b, pool.x[passed], pool.y[passed])

        def broken(images: Tensor, fooling: Any = fooling) -> Tensor:
            with torch.no_grad():
                return (fooling(images) > 0) & (detector.scores(images) <= threshold)

        found = {"no attack": broken(a)}
        for name, gradients in attackers(fooling, detector, threshold, guides, scaled, look).items():
            # An attacker who knows of no detector keeps his last image.
            keep = None if name == "PGD on the classifier" else nearest
            with seeded(0):
                ends = [
                    pgd(g, a, norm=Linf(), eps=eps, steps=steps, step_size=2.5 * eps / steps, score=keep)
                    for g in gradients
                ]
            found[name] = torch.stack([broken(images) for images in ends]).any(0)
        found["any of them"] = torch.stack(list(found.values())).any(0)
        for name, column in found.items():
            flags.setdefault(name, []).extend(column.tolist())
    with torch.no_grad():
        flagged = (detector.scores(x) > threshold).tolist()
    noise = getattr(detector, "noise", 0.0)
    return {"broken": flags, "flagged_clean": flagged, "threshold": threshold, "noise": noise}
