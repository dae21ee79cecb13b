"""Gradients by hand: losses, BPDA, EOT, frozen noise, and the traces that they must not leave."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from art_ext.attacks import (
    ascent,
    bpda,
    cross_entropy,
    eot,
    feature,
    frozen_noise,
    logit_margin,
    margin,
    straight_through_clamp,
)

LOGITS = torch.tensor([[1.0, 3.0, -2.0], [-5.0, -1.0, -3.0]])
Y = torch.tensor([0, 1])


def fixed(x: Tensor) -> Tensor:
    """LOGITS plus the mean of the image, so that there is a gradient."""
    return LOGITS.repeat(len(x) // 2, 1) + x.flatten(1).mean(1, keepdim=True)


def test_losses_by_hand() -> None:
    x = torch.zeros(2, 1, 2, 3)
    # -log softmax: log(e^1 + e^3 + e^-2) - 1, and log(e^-5 + e^-1 + e^-3) + 1
    first = math.log(math.exp(1) + math.exp(3) + math.exp(-2)) - 1
    second = math.log(math.exp(-5) + math.exp(-1) + math.exp(-3)) + 1
    assert cross_entropy(fixed, Y)(x).tolist() == pytest.approx([first, second])
    assert cross_entropy(fixed, Y, targeted=True)(x).tolist() == pytest.approx([-first, -second])
    assert margin(fixed, Y)(x).tolist() == pytest.approx([3 - 1, -3 + 1])
    assert margin(fixed, Y, targeted=True)(x).tolist() == pytest.approx([-2, 2])
    assert logit_margin(LOGITS, Y).tolist() == [2, -2]  # negative logits too: 0 must not win


def test_feature_distance_by_hand() -> None:
    x = torch.tensor([[0.0, 1.0], [0.5, 0.5]]).view(2, 1, 1, 2)
    loss = feature(lambda v: 2 * v, x)
    # 2 * difference: (0.2, 0) squared, mean 0.02; (0.4, 0.4) squared, mean 0.16
    moved = x + torch.tensor([[0.1, 0.0], [0.2, 0.2]]).view(2, 1, 1, 2)
    assert loss(moved).tolist() == pytest.approx([0.02, 0.16])
    # Through a purifier that halves: 2 * x / 2 against 2 * x, that is x squared, mean 0.5 and 0.25
    assert feature(lambda v: 2 * v, x, through=lambda v: v / 2)(x).tolist() == pytest.approx([0.5, 0.25])


def test_each_image_follows_its_own_label_also_when_tiled() -> None:
    weight = torch.randn(3, 6)

    def model(x: Tensor) -> Tensor:
        return x.flatten(1) @ weight.T

    x, y = torch.rand(2, 1, 2, 3), torch.tensor([2, 0])
    gradient = ascent(cross_entropy(model, y))
    alone = torch.cat([ascent(cross_entropy(model, y[i : i + 1]))(x[i : i + 1]) for i in range(2)])
    assert torch.allclose(gradient(x), alone)
    assert torch.allclose(gradient(x.repeat(3, 1, 1, 1)), alone.repeat(3, 1, 1, 1))
    with pytest.raises(ValueError, match="multiple of the 2 images"):
        gradient(x[:1])


def test_bpda_has_the_value_of_one_and_the_gradient_of_the_other() -> None:
    calls = []

    def rounding(x: Tensor) -> Tensor:
        calls.append(len(x))
        return (x * 4).round() / 4

    x = torch.rand(2, 1, 2, 3).requires_grad_()
    out = bpda(rounding)(x)
    assert torch.equal(out, rounding(x).detach())
    assert len(calls) == 2
    assert torch.equal(torch.autograd.grad(out.sum(), x)[0], torch.ones_like(x))
    tripled = bpda(rounding, lambda v: 3 * v)(x)
    assert torch.equal(tripled, rounding(x).detach())
    assert torch.equal(torch.autograd.grad(tripled.sum(), x)[0], torch.full_like(x, 3))


def test_eot_is_the_mean_over_draws_and_bounds_its_batches() -> None:
    sizes = []

    def gradient(x: Tensor) -> Tensor:  # the k-th copy of the images gets gradient k
        sizes.append(len(x))
        first = sum(sizes[:-1]) // 2
        return torch.arange(first, first + len(x) // 2).repeat_interleave(2).view(-1, 1, 1, 1).expand_as(x).float()

    x = torch.zeros(2, 1, 2, 3)
    assert eot(gradient, 5)(x).unique().tolist() == [2]  # (0 + 1 + 2 + 3 + 4) / 5
    assert sizes == [10]
    sizes.clear()
    assert eot(gradient, 5, at_once=4)(x).unique().tolist() == [2]
    assert sizes == [4, 4, 2]
    sizes.clear()
    assert eot(gradient, 2, at_once=1)(x).unique().tolist() == [0.5]
    assert sizes == [2, 2]  # never less than the images themselves
    assert eot(gradient, 1) is gradient
    with pytest.raises(ValueError, match="draws >= 1, got 0"):
        eot(gradient, 0)


def test_eot_averages_noise_away() -> None:
    x = torch.zeros(2, 1, 2, 3)
    spread = [float(eot(torch.randn_like, draws)(x).std()) for draws in (1, 400)]
    assert spread[1] < spread[0] / 5


def test_frozen_noise_repeats_itself_and_leaves_the_ambient_generator() -> None:
    x = torch.zeros(2, 1, 2, 3)
    before = torch.get_rng_state()
    frozen = frozen_noise(torch.randn_like, 7)
    assert torch.equal(frozen(x), frozen(x))
    assert not torch.equal(frozen(x), frozen_noise(torch.randn_like, 8)(x))
    assert torch.equal(torch.get_rng_state(), before)


def test_straight_through_clamp() -> None:
    x = torch.tensor([-1.0, 0.5, 2.0]).requires_grad_()
    out = straight_through_clamp(x)
    assert out.tolist() == [0, 0.5, 1]
    assert torch.autograd.grad(out.sum(), x)[0].tolist() == [1, 1, 1]


def test_no_trace_in_the_model() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(), nn.Flatten(), nn.Linear(24, 3))
    model[0].requires_grad_(False)
    model[1].eval()
    modes = [m.training for m in model.modules()]
    x = torch.rand(2, 1, 5, 6)
    ascent(cross_entropy(model, Y))(x)
    assert all(p.grad is None for p in model.parameters())
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True, True, True]
    assert [m.training for m in model.modules()] == modes
    assert not x.requires_grad
