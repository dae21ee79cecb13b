"""Projected gradient ascent: the one loop that every gradient attack of the package runs in."""

from __future__ import annotations

import torch
from torch import Tensor

from art_ext.attacks.active import Leave, Looks
from art_ext.attacks.best import Best
from art_ext.attacks.gradient import Gradient
from art_ext.attacks.losses import Loss
from art_ext.attacks.norms import Norm, finite, per_sample
from art_ext.images import asking_once


@asking_once()
def pgd(  # noqa: PLR0913  one loop for every attack
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
    nesterov: bool = False,
    start: Tensor | None = None,
    leave: Leave | None = None,
) -> Tensor:
    """Images (N, C, H, W) within eps of x in the norm and within [0, 1] [Madry et al. 2018, arXiv:1706.06083].

    An entry of a gradient that is not finite counts as 0, so that it moves nothing and spoils nothing.
    FGSM is one step of size eps without a random start; MI-FGSM is momentum 1 [Dong et al. 2018, arXiv:1710.06081].

    Args:
        gradient: ascent direction, see `art_ext.attacks.gradient`.
        x: clean images in [0, 1].
        norm: one of `Linf()`, `L2()`, `L1()`.
        eps: radius of the ball, in the units of x.
        steps: gradient evaluations (times the samples under EOT).
        step_size: length of a step in the norm; 2.5 * eps / steps unless given.
        random_start: begin at a random point of the ball, from the ambient generator.
        momentum: share of the accumulated gradient that is kept, each gradient scaled to mean absolute value 1.
        score: keep each sample's iterate of highest score instead of the last one. Where it is one of the logits that
            the gradient is taken of (`margin` of the same model), it comes from the same pass, and only the last
            iterate takes one more; else every iterate does.
        nesterov: take the gradient where the momentum alone would lead, momentum * step_size * velocity further on,
            clamped to [0, 1] [NI-FGSM, Lin et al. 2020, arXiv:1908.06281]. In a norm in which a perturbation of ones
            has size s the distance is divided by s; that is 1 for Linf.
        start: images (N, C, H, W) to begin from, projected to the ball; x or a random point of it unless given.
        leave: an image leaves the batch, as it is, when its score is above 0; none does unless given. Gradient and
            score must be those of losses of logits (`LogitLoss`), whose labels can leave with it.

    Raises:
        TypeError: leave with another gradient or score.
        ValueError: if eps is negative or steps is negative, or nesterov has no momentum, or start has another shape, or
            leave has no score.
    """
    if eps < 0 or steps < 0:
        raise ValueError(f"expected eps >= 0 and steps >= 0, got eps={eps} and steps={steps}")
    if nesterov and not momentum:
        raise ValueError(f"expected momentum > 0 with nesterov, got {momentum}")
    if start is not None and start.shape != x.shape:
        raise ValueError(f"expected start of shape {tuple(x.shape)}, got {tuple(start.shape)}")
    if leave is not None and score is None:
        raise ValueError("expected a score with leave, got none")
    step_size = 2.5 * eps / max(1, steps) if step_size is None else step_size
    x = x.detach()
    if start is None:
        x_adv = (x + norm.sample(x, eps)).clamp(0, 1) if random_start else x.clone()
    else:
        x_adv = (x + norm.project(start.detach() - x, eps)).clamp(0, 1)
    return _climb(
        Looks(gradient, score, at_images=not nesterov, leave=leave), x, x_adv, norm, eps, steps, step_size, momentum
    )


def _climb(
    looks: Looks, x: Tensor, x_adv: Tensor, norm: Norm, eps: float, steps: int, step_size: float, momentum: float
) -> Tensor:  # fmt: skip
    """The iterates from x_adv on; images that leave are put where they belong."""
    found, left = x_adv.clone(), torch.arange(len(x), device=x.device)
    best, velocity = None, torch.zeros_like(x)
    for step in range(steps + 1):
        if step == steps and looks.score is None:
            return x_adv
        at = None if looks.at_images else _ahead(x_adv, velocity, momentum * step_size, norm)
        seen = looks(x_adv, at=at, backward=step < steps)
        if best is None:
            best = Best(None, x_adv, seen.score)
        else:
            best.offer(x_adv, seen.score)
        gradient, parted = seen.gradient, looks.parted(x_adv, seen, step)
        if parted is not None:
            kept, gone = parted
            found[left[gone]] = x_adv[gone]
            looks, best = looks.rows(kept), best.rows(kept)
            left, x, x_adv, velocity = (t[kept] for t in (left, x, x_adv, velocity))
            gradient = None if gradient is None else gradient[kept]
        if gradient is None or (parted is not None and not len(left)):
            break
        ascent = finite(gradient)
        if momentum:
            scale = ascent.abs().flatten(1).mean(1)
            velocity = ascent = momentum * velocity + ascent / per_sample(torch.where(scale > 0, scale, 1), ascent)
        moved = x_adv + step_size * norm.direction(ascent, x_adv)
        x_adv = (x + norm.project(moved - x, eps)).clamp(0, 1)
    assert best is not None
    found[left] = best.x
    return found


def _ahead(x_adv: Tensor, velocity: Tensor, distance: float, norm: Norm) -> Tensor:
    scale = norm.size(torch.ones_like(x_adv[:1]))
    return (x_adv + distance * velocity / per_sample(scale, x_adv)).clamp(0, 1) if len(x_adv) else x_adv
