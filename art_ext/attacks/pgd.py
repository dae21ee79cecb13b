"""Projected gradient ascent: the one loop that every gradient attack of the package runs in."""

from __future__ import annotations

import torch
from torch import Tensor

from art_ext.attacks.gradient import Gradient, Loss
from art_ext.attacks.norms import Norm, per_sample


def pgd(
    gradient: Gradient,
    x: Tensor,
    *,
    norm: Norm,
    eps: float,
    steps: int,
    step_size: float | None = None,
    random_start: bool = True,
    momentum: float = 0.0,
    score: Loss | None = None,
) -> Tensor:
    """Images (N, C, H, W) within eps of x in the norm and within [0, 1] [Madry et al. 2018, arXiv:1706.06083].

    FGSM is one step of size eps without a random start; MI-FGSM is momentum 1 [Dong et al. 2018, arXiv:1710.06081].

    Args:
        gradient: ascent direction, see `art_ext.attacks.gradient`.
        x: clean images in [0, 1].
        norm: one of `Linf()`, `L2()`, `L1()`.
        eps: radius of the ball, in the units of x.
        steps: gradient evaluations (times draws under EOT).
        step_size: length of a step in the norm; 2.5 * eps / steps unless given.
        random_start: begin at a random point of the ball, from the ambient generator.
        momentum: share of the accumulated gradient that is kept, each gradient scaled to mean absolute value 1.
        score: keep each sample's iterate of highest score instead of the last one (one more forward pass a step).

    Raises:
        ValueError: if eps is negative or steps is negative.
    """
    if eps < 0 or steps < 0:
        raise ValueError(f"expected eps >= 0 and steps >= 0, got eps={eps} and steps={steps}")
    step_size = 2.5 * eps / max(1, steps) if step_size is None else step_size
    x = x.detach()
    x_adv = (x + norm.sample(x, eps)).clamp(0, 1) if random_start else x.clone()
    best, velocity = _Best(score, x_adv), torch.zeros_like(x)
    for _ in range(steps):
        ascent = gradient(x_adv)
        if momentum:
            scale = ascent.abs().flatten(1).mean(1)
            velocity = ascent = momentum * velocity + ascent / per_sample(torch.where(scale > 0, scale, 1), ascent)
        moved = x_adv + step_size * norm.direction(ascent, x_adv)
        x_adv = (x + norm.project(moved - x, eps)).clamp(0, 1)
        best.offer(x_adv)
    return best.x


class _Best:
    """Each sample's image of highest score so far, or simply the last one offered when there is no score."""

    def __init__(self, score: Loss | None, x: Tensor) -> None:
        self.score, self.x = score, x
        self.value = self._rate(x)

    def _rate(self, x: Tensor) -> Tensor | None:
        if self.score is None:
            return None
        with torch.no_grad():
            return self.score(x)

    def offer(self, x: Tensor) -> None:
        value = self._rate(x)
        if value is None or self.value is None:
            self.x = x
            return
        better = value > self.value
        self.x = torch.where(per_sample(better, x), x, self.x)
        self.value = torch.where(better, value, self.value)
