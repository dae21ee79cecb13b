"""Shared losses by hand."""

from __future__ import annotations

import math

import pytest
import torch

from art_ext.nn import mean_l1, relativistic
from art_ext.nn.losses import per_sample_mse


def test_mean_l1_by_hand() -> None:
    a = torch.tensor([[1.0, -2.0, 0.0], [4.0, 0.0, 0.0]]).view(2, 1, 1, 3)
    b = torch.tensor([[0.0, 1.0, 0.0], [4.0, 0.5, -0.5]]).view(2, 1, 1, 3)
    # Six elements: 1 + 3 + 0 and 0 + 0.5 + 0.5.
    assert float(mean_l1(a, b)) == pytest.approx(5 / 6)
    assert float(mean_l1(b, a)) == pytest.approx(5 / 6)


def test_per_sample_mse_by_hand() -> None:
    a = torch.zeros(2, 3, 1, 2)
    b = torch.tensor([[1.0, 2.0, 0.0, 0.0, -1.0, 0.0], [0.0, 0.0, 3.0, 0.0, 0.0, 0.0]]).view(2, 3, 1, 2)
    # Six elements each: 1 + 4 + 1 and 9.
    assert per_sample_mse(a, b).tolist() == pytest.approx([1.0, 1.5])
    # Features (N, D) too: (1 + 1) / 2, 4 / 2
    assert per_sample_mse(torch.zeros(2, 2), torch.tensor([[1.0, -1.0], [2.0, 0.0]])).tolist() == [1, 2]


def test_relativistic_by_hand() -> None:
    preferred, other = torch.tensor([[2.0], [0.0]]), torch.tensor([[1.0], [3.0]])
    # -log sigmoid(1) = log(1 + e^-1) = 0.313262; -log sigmoid(-3) = log(1 + e^3) = 3.048587; mean 1.680924
    assert float(relativistic(preferred, other)) == pytest.approx(1.680924, abs=1e-6)
    # The other way round: log(1 + e^1) = 1.313262 and log(1 + e^-3) = 0.048587, mean 0.680924
    assert float(relativistic(other, preferred)) == pytest.approx(0.680924, abs=1e-6)
    assert float(relativistic(preferred, preferred)) == pytest.approx(math.log(2))
    assert float(relativistic(preferred.flatten(), other.flatten())) == pytest.approx(1.680924, abs=1e-6)


def test_relativistic_pulls_the_preferred_up_and_stays_finite() -> None:
    preferred, other = torch.tensor([0.0, -500.0]).requires_grad_(), torch.tensor([0.0, 500.0]).requires_grad_()
    loss = relativistic(preferred, other)
    # log 2 and 1000 (where log(sigmoid) itself would be -inf), mean 500.346574
    assert loss.item() == pytest.approx(500.346574)
    loss.backward()
    assert preferred.grad is not None
    assert other.grad is not None
    # -sigmoid(other - preferred) / 2: -1/4, -1/2
    assert preferred.grad.tolist() == [-0.25, -0.5]
    assert other.grad.tolist() == [0.25, 0.5]
