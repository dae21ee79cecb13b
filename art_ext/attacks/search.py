"""The search that the attacks outside the Lp balls share: ascend in the attack's own variable, keep the best image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from art_ext.attacks.norms import finite, per_sample
from art_ext.images import asking_once

Attempt = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
"""The variable to images (N, C, H, W) in [0, 1], their margin (N,) and the objective (N,) that is to grow."""
Update = Callable[[Tensor], None]
"""Moves the variable in place along a gradient of its shape."""


@asking_once()
def best_iterate(x: Tensor, variable: Tensor, attempt: Attempt, update: Update, steps: int) -> Tensor:
    """Of all the images that the search visits, the one of highest margin for each sample, detached.

    Every step ascends the objective, along the entries of its gradient that are finite; the image after the last
    one counts too. A sample whose margins are all NaN keeps its clean image. One image's result does not depend on
    the others: the objectives are summed, the updates are elementwise. Only the variable gets a gradient, no
    parameter of the model.

    Args:
        x: clean images (N, C, H, W).
        variable: what is searched over, (N, ...), a leaf that requires a gradient; changed in place.
        attempt: what a value of the variable is worth.
        update: see `adam` and `sign_steps`.
        steps: gradient evaluations, each one forward and backward pass; one forward pass comes on top.
    """
    best = x.detach().clone()
    if not len(x):
        return best
    highest = x.new_full((len(x),), -torch.inf)
    for step in range(steps + 1):
        with torch.set_grad_enabled(step < steps):
            x_adv, margin, objective = attempt(variable)
            total = objective.sum()
        better = margin.detach() > highest
        best = torch.where(per_sample(better, x), x_adv.detach(), best)
        highest = torch.where(better, margin.detach(), highest)
        if step < steps:
            update(finite(torch.autograd.grad(total, variable)[0]))
    return best


def adam(variable: Tensor, *, bound: float, step_size: float) -> Update:
    """Adam's ascent, every entry clamped to +-bound after each step [Kingma & Ba 2015, arXiv:1412.6980]."""
    optimizer = torch.optim.Adam([variable], lr=step_size, maximize=True)

    def update(gradient: Tensor) -> None:
        variable.grad = gradient
        optimizer.step()
        with torch.no_grad():
            variable.clamp_(-bound, bound)

    return update


def sign_steps(variable: Tensor, *, bound: float, step_size: float) -> Update:
    """Linf PGD: every entry moves by step_size along the sign of its gradient and is clamped to +-bound."""

    def update(gradient: Tensor) -> None:
        with torch.no_grad():
            variable.add_(gradient.sign(), alpha=step_size).clamp_(-bound, bound)

    return update


def roughness(field: Tensor) -> Tensor:
    """How much neighbours differ, (N,): the flow-smoothness norm of StAdv [Xiao et al. 2018, arXiv:1801.02612, eq. 4].

    The sum over points p and their neighbours q along every axis of sqrt(|f(p) - f(q)|^2 + 1e-10); each pair counts
    from both its ends, and a point of the border has no neighbour outside.

    Args:
        field: vectors on a grid of any rank, (N, vector, ...).
    """
    total = field.new_zeros(len(field))
    for axis in range(2, field.ndim):
        squared = field.diff(dim=axis).square().sum(1)
        total = total + 2 * (squared + 1e-10).sqrt().flatten(1).sum(1)
    return total


def constant(numbers: Sequence[Sequence[float]], like: Tensor, *, inverse: bool = False) -> Tensor:
    """A matrix of these numbers, or its inverse, in the dtype of `like` and on its device, which is not waited for."""
    matrix = torch.tensor(numbers, dtype=like.dtype)
    return (matrix.inverse() if inverse else matrix).to(like.device, non_blocking=True)


def check_arguments(x: Tensor, y: Tensor, *, steps: int, positive: dict[str, float]) -> None:
    """Refuses what no attack can work with.

    Raises:
        ValueError: images not of rank 4, labels not (N,), negative steps, or a value of `positive` that is not finite
            and greater than 0.
    """
    if x.ndim != 4:
        raise ValueError(f"expected images of shape (N, C, H, W), got shape {tuple(x.shape)}")
    if y.shape != x.shape[:1]:
        raise ValueError(f"expected labels of shape ({len(x)},), got shape {tuple(y.shape)}")
    if steps < 0:
        raise ValueError(f"expected steps >= 0, got {steps}")
    for name, value in positive.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"expected a finite {name} > 0, got {value}")


def check_smoothness(smoothness: float) -> None:
    """Refuses a weight of the roughness that is not finite or negative.

    Raises:
        ValueError: with the value.
    """
    if not (math.isfinite(smoothness) and smoothness >= 0):
        raise ValueError(f"expected a finite smoothness >= 0, got {smoothness}")
