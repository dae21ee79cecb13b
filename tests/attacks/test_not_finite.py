"""Logits and gradients that are not finite: wrong answers, and steps that go on along what is finite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.attacks import (
    L1,
    L2,
    Best,
    Linf,
    always_wrong,
    apgd,
    ascent,
    cross_entropy,
    dlr,
    eot,
    logit_margin,
    margin,
    pgd,
    pgd_until_broken,
    recoloradv,
    scaled_copies,
    smoothed,
    stadv,
)

Y = torch.tensor([0, 1])


class Channels(nn.Module):
    """Logits are the means of three channels; the answer to a dark first pixel is `bad`."""

    def __init__(self, bad: float = torch.nan) -> None:
        super().__init__()
        self.bad = bad

    def forward(self, x: Tensor) -> Tensor:
        logits = 10 * x.mean((2, 3))
        dark = x[:, 0, 0, 0] < 0.1
        return logits.masked_fill(dark[:, None], self.bad)


class Roots(nn.Module):
    """Finite logits whose gradient is NaN at pixels that are 0: the square root there."""

    def forward(self, x: Tensor) -> Tensor:
        return 10 * x.mean((2, 3)) + 0 * (x - x.detach()).abs().sqrt()[:, :, 0, 0]


@pytest.fixture
def x() -> Tensor:
    return 0.3 + 0.4 * torch.rand(2, 3, 4, 4)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_the_margin_of_a_row_that_is_not_finite(bad: float) -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0], [1.0, bad, 2.0], [bad, 0.0, 0.0]])
    y = torch.tensor([1, 1, 1])
    assert logit_margin(logits, y).tolist() == [-1.0, torch.inf, torch.inf]
    images = torch.zeros(3, 1, 1, 1)
    assert margin(lambda _: logits, y)(images).tolist() == [-1.0, torch.inf, torch.inf]
    assert margin(lambda _: logits, y, targeted=True)(images).tolist() == [1.0, -torch.inf, -torch.inf]
    assert dlr(lambda _: logits, y)(images).tolist() == [-0.5, torch.inf, torch.inf]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_margins_of_half_precision_are_float32(dtype: torch.dtype) -> None:
    logits = torch.tensor([[32768.0, -65024.0, 0.0], [0.0, 0.0, 0.0]], dtype=dtype)  # 97792 is beyond float16
    images = torch.zeros(2, 1, 1, 1, dtype=dtype)
    y = torch.tensor([1, 1])
    found = margin(lambda _: logits, y)(images)
    assert found.dtype == torch.float32
    assert found.tolist() == [97792.0, 0.0]
    tied = dlr(lambda _: logits[1:], y[1:])(images[1:])  # 1e-12 is 0 in float16
    assert tied.tolist() == [0.0]
    assert cross_entropy(lambda _: logits, y)(images).dtype == torch.float32


def test_always_wrong_counts_what_is_not_finite() -> None:
    """Class 0 is what argmax says of NaN, and is the label here."""
    nothing = lambda x: torch.full((len(x), 3), torch.nan)  # noqa: E731
    assert always_wrong(nothing, torch.zeros(2, 3, 1, 1), torch.tensor([0, 0]), 3).tolist() == [True, True]


def test_best_takes_infinity_and_never_nan() -> None:
    scores = iter([[torch.nan, 0.0, 0.0], [1.0, torch.nan, torch.inf], [2.0, 0.5, 5.0], [torch.nan] * 3])
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 1, 1)
    best = Best(lambda _: torch.tensor(next(scores)), images[0].view(3, 1, 1, 1))
    for i in range(1, 4):
        best.offer(images[i].reshape(3, 1, 1, 1))
    assert best.x.flatten().tolist() == [2, 2, 1]


@pytest.mark.parametrize("norm", [Linf(), L2(), L1(0.2)], ids=lambda n: n.name)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("options", [{}, {"momentum": 1.0}, {"momentum": 1.0, "nesterov": True}])
def test_pgd_goes_on_along_the_finite_entries(norm: Any, bad: float, options: dict[str, Any], x: Tensor) -> None:
    def gradient(v: Tensor) -> Tensor:
        found = torch.ones_like(v)
        found[:, 0, 0] = bad
        return found

    x_adv = pgd(gradient, x, norm=norm, eps=0.1, steps=3, random_start=False, **options)
    moved = x_adv - x
    assert bool(torch.isfinite(x_adv).all())
    assert float(moved[:, 0, 0].abs().max()) == 0
    assert float(norm.size(moved).min()) == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize("wrapped", [lambda g: eot(g, 2), lambda g: scaled_copies(g, 2), lambda g: smoothed(g, 3, 1.0)])
def test_a_mean_of_gradients_survives_one_nan(wrapped: Callable[[Any], Any], x: Tensor) -> None:
    calls = []

    def gradient(v: Tensor) -> Tensor:
        found = torch.ones_like(v)
        found[0] = torch.nan if not calls else 1.0
        calls.append(1)
        return found

    assert bool(torch.isfinite(wrapped(gradient)(x)).all())


@pytest.mark.parametrize("score", [None, "margin"])
@pytest.mark.parametrize("norm", [Linf(), L2()], ids=lambda n: n.name)
@pytest.mark.parametrize("model", [Channels(), Channels(torch.inf), Roots()])
def test_apgd_returns_points_of_the_ball(model: nn.Module, norm: Any, score: str | None, x: Tensor) -> None:
    rate = margin(model, Y) if score else None
    x_adv = apgd(cross_entropy(model, Y), x, norm=norm, eps=0.1, steps=6, score=rate)
    assert bool(torch.isfinite(x_adv).all())
    assert float(norm.size(x_adv - x).max()) <= 0.1 * (1 + 1e-4)
    assert float((x_adv - x).abs().max()) > 0


def test_a_point_without_an_answer_is_a_success() -> None:
    """The first pixel of image 0 is dark in the whole ball, so every point of it breaks the model."""
    x = torch.full((2, 3, 4, 4), 0.5)
    x[0, 0, 0, 0] = 0.0
    x[1, 1] += 0.4  # out of reach
    x_adv = pgd(
        ascent(cross_entropy(Channels(), Y)), x, norm=Linf(), eps=0.05, steps=3, score=margin(Channels(), Y)
    )  # fmt: skip
    assert bool(torch.isfinite(x_adv).all())
    assert always_wrong(Channels(), x_adv, Y, 1).tolist() == [True, False]
    x_adv = pgd_until_broken(Channels(), x, Y, norm=Linf(), eps=0.05, steps=4, check_every=2)
    assert always_wrong(Channels(), x_adv, Y, 1).tolist() == [True, False]


@pytest.mark.parametrize("attack", [stadv, recoloradv])
def test_attacks_outside_the_ball_survive_a_nan(attack: Callable[..., Tensor], x: Tensor) -> None:
    x_adv = attack(Roots(), x, Y, steps=3)
    assert bool(torch.isfinite(x_adv).all())
