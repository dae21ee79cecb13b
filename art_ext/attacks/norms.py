"""Balls around an image: what gradient attacks need of a norm, for perturbations of shape (N, C, H, W)."""

from __future__ import annotations

from typing import ClassVar, Protocol

import torch
from torch import Tensor

HALVINGS = 32
"""Of the interval that holds a level of soft-thresholding: what is left of it is below the rounding of float32."""


class Norm(Protocol):
    """The part of an attack that depends on the norm. Every method works per sample."""

    name: ClassVar[str]

    def size(self, delta: Tensor) -> Tensor:
        """Norm of each perturbation, (N,), in the units of the image."""

    def project(self, delta: Tensor, eps: float) -> Tensor:
        """The nearest perturbation of size at most eps."""

    def direction(self, gradient: Tensor, x: Tensor | None = None) -> Tensor:
        """The step of size 1 that ascends fastest along the gradient; zero where the gradient is zero.

        Args:
            gradient: ascent direction.
            x: images in [0, 1] that the step starts from, for a norm whose steps are sparse.
        """

    def sample(self, like: Tensor, eps: float) -> Tensor:
        """A random perturbation of size at most eps, from the ambient generator."""


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """(N,) reshaped to (N, 1, 1, ...), so that it multiplies each sample of `like`."""
    return values.view(-1, *[1] * (like.ndim - 1))


def finite(gradient: Tensor) -> Tensor:
    """The gradient with 0 in place of its entries that are NaN or infinite: an attack goes on along the others."""
    return gradient.nan_to_num(0.0, 0.0, 0.0)


class Linf:
    """Largest absolute pixel difference."""

    name: ClassVar[str] = "Linf"

    def size(self, delta: Tensor) -> Tensor:
        return delta.abs().flatten(1).amax(1) if delta.numel() else delta.new_zeros(len(delta))

    def project(self, delta: Tensor, eps: float) -> Tensor:
        return delta.clamp(-eps, eps)

    def direction(self, gradient: Tensor, x: Tensor | None = None) -> Tensor:
        return gradient.sign()

    def sample(self, like: Tensor, eps: float) -> Tensor:
        return torch.empty_like(like).uniform_(-eps, eps)


class L2:
    """Euclidean length."""

    name: ClassVar[str] = "L2"

    def size(self, delta: Tensor) -> Tensor:
        return delta.flatten(1).norm(dim=1)

    def project(self, delta: Tensor, eps: float) -> Tensor:
        size = self.size(delta).clamp_min(1e-12)
        return delta * per_sample((eps / size).clamp_max(1), delta)

    def direction(self, gradient: Tensor, x: Tensor | None = None) -> Tensor:
        peak = Linf().size(gradient)  # first to 1: the squares of a confident network's 1e-20 would vanish
        ray = gradient / per_sample(torch.where(peak > 0, peak, 1), gradient)
        return ray / per_sample(self.size(ray).clamp_min(1), ray)

    def sample(self, like: Tensor, eps: float) -> Tensor:
        """Uniform in the ball: a Gaussian direction, the radius eps * u^(1/d)."""
        ray = self.direction(torch.randn_like(like))
        radius = torch.rand(len(like), device=like.device, dtype=like.dtype) ** (1 / max(1, like[:1].numel()))
        return eps * ray * per_sample(radius, like)


class L1:
    """Sum of absolute pixel differences.

    The ascent direction spreads over the largest share of the gradient, because the steepest one changes a single
    pixel a step [SLIDE, Tramer & Boneh 2019, arXiv:1904.13000]. As in foolbox's version, pixels that the box stops get
    no share: they would keep the step for ever and go nowhere.

    Args:
        share: part of the pixels that one step changes, in (0, 1].
    """

    name: ClassVar[str] = "L1"

    def __init__(self, share: float = 0.05) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"expected share in (0, 1], got {share}")
        self.share = share

    def size(self, delta: Tensor) -> Tensor:
        return delta.abs().flatten(1).sum(1)

    def project(self, delta: Tensor, eps: float) -> Tensor:
        """Soft-thresholding at the level that brings the sum down to eps [Duchi et al. 2008]."""
        flat = delta.abs().flatten(1)
        ordered = flat.sort(dim=1, descending=True).values
        rank = torch.arange(1, flat.shape[1] + 1, device=delta.device, dtype=delta.dtype)
        level = (ordered.cumsum(1) - eps) / rank
        kept = (ordered > level).sum(1).clamp_min(1)
        threshold = level.gather(1, kept[:, None] - 1).squeeze(1).clamp_min(0)
        return delta.sign() * (delta.abs() - per_sample(threshold, delta)).clamp_min(0)

    def project_in_box(self, delta: Tensor, eps: float, x: Tensor) -> Tensor:
        """The nearest perturbation of size at most eps that keeps x + delta in [0, 1], exactly.

        `project` and a clamp, one after the other, give a smaller one [Croce & Hein 2021, arXiv:2103.01208]. The level
        of soft-thresholding, above which the box cuts off, is found by halving.
        """
        size = delta.abs().flatten(1)
        room = torch.where(delta > 0, 1 - x, x).flatten(1).clamp_min(0)
        low, high = size.new_zeros(len(size), 1), size.amax(1, keepdim=True)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            fits = torch.minimum((size - middle).clamp_min(0), room).sum(1, keepdim=True) <= eps
            low, high = torch.where(fits, low, middle), torch.where(fits, middle, high)
        whole = torch.minimum(size, room).sum(1, keepdim=True) <= eps
        kept = torch.minimum((size - torch.where(whole, 0, high)).clamp_min(0), room)
        return delta.sign() * kept.view_as(delta)

    def direction(self, gradient: Tensor, x: Tensor | None = None) -> Tensor:
        if x is not None:
            gradient = gradient.masked_fill(((x <= 0) & (gradient < 0)) | ((x >= 1) & (gradient > 0)), 0)
        flat = gradient.abs().flatten(1)
        count = max(1, round(self.share * flat.shape[1]))
        threshold = flat.topk(count, dim=1).values[:, -1]
        step = gradient.sign() * (gradient.abs() >= per_sample(threshold, gradient))
        return step / per_sample(self.size(step).clamp_min(1), step)

    def sample(self, like: Tensor, eps: float) -> Tensor:
        """Uniform in the ball: exponential magnitudes with random signs, one of d + 1 parts left unused."""
        flat = like.flatten(1)
        parts = torch.empty(len(flat), flat.shape[1] + 1, device=like.device, dtype=like.dtype).exponential_()
        magnitude = eps * parts[:, 1:] / parts.sum(1, keepdim=True)
        return (magnitude * torch.randn_like(flat).sign()).view_as(like)


NORMS: dict[str, Norm] = {norm.name: norm for norm in (Linf(), L2(), L1())}
