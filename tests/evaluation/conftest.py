"""A tiny image problem, a classifier that solves it, and a purifier, shared by the evaluation's tests."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from art_ext.purifiers import Purifier


class Problem(NamedTuple):
    """Two classes told apart by which half of a 1x6x8 image is brighter."""

    x: Tensor
    y: Tensor
    classifier: nn.Module


class Halves(nn.Module):
    """Four logits (torchattacks' and AutoAttack's losses want more than three): left, right and two that never win."""

    def __init__(self, scale: float = 20.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, x: Tensor) -> Tensor:
        left, right = x[..., :4].mean((1, 2, 3)), x[..., 4:].mean((1, 2, 3))
        low = torch.stack([left, right], 1).amin(1) - 0.5
        return self.scale * torch.stack([left, right, low, low - 0.1], 1)


class Blur(Purifier):
    name = "blur"
    paper = ""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1, 1, 3, 3), 1 / 9), requires_grad=False)

    def purify(self, x: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(x, [1] * 4, mode="replicate")
        return torch.nn.functional.conv2d(padded, self.weight)


class Noise(Purifier):
    name = "noise"
    paper = ""
    stochastic = True

    def purify(self, x: Tensor) -> Tensor:
        return x + 0.1 * torch.randn_like(x)


@pytest.fixture
def problem() -> Problem:
    x = 0.4 + 0.2 * torch.rand(12, 1, 6, 8)
    y = torch.arange(12) % 2
    x[y == 0, ..., :4] += 0.05
    x[y == 1, ..., 4:] += 0.05
    return Problem(x, y, Halves().requires_grad_(True))
