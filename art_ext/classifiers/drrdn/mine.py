"""MINE: how much two representations tell about each other, by a critic [Belghazi et al. 2018, arXiv:1801.04062]."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from art_ext.nn.shares import gathered


class Mine(nn.Module):
    """The critic T of Eq. 9, and the Donsker-Varadhan bound that it gives; all values in nats.

    Pairs of the product of marginals are made within the batch: every b goes to another row, at random.

    Args:
        inputs: values of a and b together.
        width: units of each of the three hidden layers.
        rate: share of the newest batch in the moving average of mean e^T; 1 is the printed bound's own gradient, which
            is biased.
        drift: weight of (log mean e^T)^2 in the critic's loss. The bound does not change when a constant is added to
            T; this keeps that constant at 0, so that e^T stays finite. 0 leaves it out.

    Raises:
        ValueError: rate outside (0, 1] or a negative drift.
    """

    log_mean: Tensor
    """Logarithm of the moving average of mean e^T; infinite until the critic's first step."""

    def __init__(self, inputs: int, width: int = 400, *, rate: float = 0.01, drift: float = 0.1) -> None:
        super().__init__()
        if not 0 < rate <= 1 or drift < 0:
            raise ValueError(f"expected rate in (0, 1] and drift >= 0, got rate={rate} and drift={drift}")
        self.rate, self.drift = rate, drift
        self.score = nn.Sequential(
            nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1),
        )  # fmt: skip
        self.register_buffer("log_mean", torch.full((), torch.inf))

    def reset_parameters(self) -> None:
        """Forgets the moving average; the layers reset themselves."""
        self.log_mean.fill_(torch.inf)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """T of each pair of rows, (N,), from (N, A) and (N, B)."""
        scores: Tensor = self.score(torch.cat([a, b], 1)).squeeze(1)
        return scores.float()

    def information(self, a: Tensor, b: Tensor) -> Tensor:
        """Eq. 9 at this critic: mean T(joint) - log mean e^T(marginals), a scalar.

        It bounds the mutual information from below for infinitely many rows; with few it may exceed it, since the
        logarithm of a mean of few is too low on average.
        """
        joint, marginal = self._scores(a, b)
        return joint.mean() - log_mean_exp(marginal)

    def loss(self, a: Tensor, b: Tensor) -> Tensor:
        """What the critic minimises: minus the bound, and the penalty on drift; moves the average of mean e^T.

        The value is that of the batch. The gradient of the logarithm has the moving average as its denominator: with
        the mean of the batch there it would be biased [Belghazi et al. 2018, section 3.2].
        """
        joint, marginal = self._scores(a, b)
        log_mean = log_mean_exp(marginal)
        with torch.no_grad():
            self.log_mean.copy_(self._moved(log_mean))
        surrogate = (marginal - self.log_mean).exp().mean()
        logarithm = log_mean.detach() + surrogate - surrogate.detach()
        return logarithm - joint.mean() + self.drift * log_mean.square()

    def _scores(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """T of the pairs as they are and of those of other rows, (N,) each, in one pass; of all processes' rows."""
        a, b = gathered(a), gathered(b)
        other = b[elsewhere(len(b), b.device)]
        joint, marginal = self(torch.cat([a, a]), torch.cat([b, other])).chunk(2)
        return joint, marginal

    def _moved(self, log_mean: Tensor) -> Tensor:
        if self.rate == 1:
            return log_mean
        moved = torch.logaddexp(self.log_mean + math.log1p(-self.rate), log_mean + math.log(self.rate))
        return torch.where(self.log_mean.isinf(), log_mean, moved)  # nothing was seen before


def log_mean_exp(values: Tensor) -> Tensor:
    """log mean e^values of (N,), without overflow."""
    return values.logsumexp(0) - math.log(len(values))


def elsewhere(count: int, device: torch.device) -> Tensor:
    """A random order (N,) that leaves no row in its place, where there are two or more."""
    order = torch.randperm(count, device=device)
    moved = torch.empty_like(order)
    moved[order] = order.roll(1)
    return moved
