"""Losses that several methods share."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def mean_l1(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference over all elements."""
    return (a - b).abs().mean()


def relativistic(preferred: Tensor, other: Tensor) -> Tensor:
    """-log sigmoid(preferred - other), mean over pairs of critic outputs [Jolicoeur-Martineau 2018, arXiv:1807.00734].

    The generator prefers its own images, the discriminator the real ones. Both arguments are (N, 1) or (N,).
    """
    return F.softplus(other - preferred).mean()


def per_sample_mse(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference of each sample, (N,)."""
    return (a - b).square().flatten(1).mean(1)


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) of each row in nats, (N,), from logarithms of probabilities (N, K)."""
    return (log_p.exp() * (log_p - log_q)).sum(1)
