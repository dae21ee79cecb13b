"""The parts of SI-NI-TI-DIM by hand, alone and together."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.attacks import L2, Linf, Norm, ascent, cross_entropy, diverse, pgd, scaled_copies, si_ni_ti_dim, smoothed
from art_ext.attacks.transfer import gaussian_line


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 5 * 7, 3))


def test_scaled_copies_by_hand() -> None:
    x = torch.rand(2, 1, 3, 4)

    def loss(v: Tensor) -> Tensor:
        return v.square().flatten(1).sum(1)

    # d/dx (x^2 + (x / 2)^2) / 2 = (2 + 1 / 2) x / 2
    torch.testing.assert_close(scaled_copies(ascent(loss), 2)(x), 1.25 * x)
    cubic = scaled_copies(ascent(lambda v: v.pow(3).flatten(1).sum(1)), 3)
    # The mean of x^3, x^3 / 8 and x^3 / 64
    torch.testing.assert_close(cubic(x), (1 + 1 / 8 + 1 / 64) * x.square())
    assert torch.equal(scaled_copies(ascent(loss), 1)(x), 2 * x)
    with pytest.raises(ValueError, match="expected m >= 1 copies, got 0"):
        scaled_copies(ascent(loss), 0)


def test_gaussian_line_by_hand() -> None:
    side = math.exp(-0.5)
    whole = 1 + 2 * side
    assert gaussian_line(3, 1.0).tolist() == pytest.approx([side / whole, 1 / whole, side / whole])
    line = gaussian_line(15, 3.0)
    assert float(line.sum()) == pytest.approx(1)
    assert torch.equal(line, line.flip(0))
    assert float(line[0] / line[7]) == pytest.approx(math.exp(-4.5), rel=1e-4)  # 3 standard deviations away
    assert gaussian_line(1, 3.0).tolist() == [1]


def test_smoothed_spreads_a_point_within_its_channel_and_image() -> None:
    found = torch.zeros(2, 3, 9, 7)
    found[1, 2, 4, 3] = 2.0
    blurred = smoothed(lambda v: found, 5, 2.0)(found)
    line = gaussian_line(5, 2.0)
    torch.testing.assert_close(blurred[1, 2, 2:7, 1:6], 2 * line[:, None] * line[None])
    assert blurred.count_nonzero() == 25
    assert float(blurred.sum()) == pytest.approx(2)
    assert blurred.shape == found.shape


def test_smoothed_ends_at_the_border_and_fits_small_images() -> None:
    ones = torch.ones(1, 1, 20, 20)
    blurred = smoothed(torch.ones_like, 15, 3.0)(ones)
    assert float(blurred[0, 0, 10, 10]) == pytest.approx(1)
    assert float(blurred[0, 0, 0, 10]) == pytest.approx(float(gaussian_line(15, 3.0)[7:].sum()))
    small = torch.rand(2, 3, 4, 5)
    assert smoothed(lambda v: v, 15, 3.0)(small).shape == small.shape
    torch.testing.assert_close(smoothed(lambda v: v, 1, 3.0)(small), small)
    for size, sigma in ((4, 3.0), (0, 3.0), (-1, 3.0), (3, 0.0)):
        with pytest.raises(ValueError, match=f"expected an odd kernel_size >= 1 and sigma > 0, got {size} and {sigma}"):
            smoothed(lambda v: v, size, sigma)


def test_diverse_puts_a_smaller_image_on_black() -> None:
    x = torch.ones(2, 3, 20, 30)
    seen = diverse(lambda v: v, 1.0, smallest=0.5)
    places = set()
    for _ in range(60):
        out = seen(x)
        assert out.shape == x.shape
        lit = (out[0, 0] > 0.5).nonzero()
        (top, left), (bottom, right) = lit.amin(0).tolist(), lit.amax(0).tolist()
        rows, columns = bottom - top + 1, right - left + 1
        assert 10 <= rows <= 20
        assert abs(columns - 1.5 * rows) <= 1
        expected = torch.zeros_like(x)
        expected[..., top : bottom + 1, left : right + 1] = 1
        torch.testing.assert_close(out, expected)  # all of it in one place, the same for every image
        places.add((rows, top, left))
    assert len({top for _, top, _ in places}) > 4
    assert len({left for _, _, left in places}) > 4
    assert {rows for rows, _, _ in places} >= {11, 13, 15, 17, 19}


def test_diverse_happens_with_its_probability() -> None:
    x = torch.ones(1, 1, 8, 8)
    changed = [bool((diverse(lambda v: v, 0.7, smallest=0.5)(x) == 0).any()) for _ in range(600)]
    # A share above 15 / 16 rounds to the whole side: 1 / 8 of the draws change nothing.
    assert sum(changed) / 600 == pytest.approx(0.7 * 7 / 8, abs=0.06)
    assert diverse(lambda v: v, 0.0)(x) is x
    torch.testing.assert_close(diverse(lambda v: v, 1.0, smallest=1.0)(x), x)


def test_diverse_lets_the_gradient_through_and_uses_the_ambient_generator() -> None:
    x, model = torch.rand(3, 2, 7, 9), network()
    gradient = ascent(cross_entropy(diverse(model, 1.0, smallest=0.5), torch.tensor([0, 1, 2])))
    torch.manual_seed(1)
    first = gradient(x)
    assert (first.flatten(1).abs().sum(1) > 0).all()
    assert not torch.equal(gradient(x), first)
    torch.manual_seed(1)
    assert torch.equal(gradient(x), first)


@pytest.mark.parametrize(("probability", "smallest"), [(-0.1, 0.9), (1.1, 0.9), (0.5, 0.0), (0.5, 1.1)])
def test_diverse_refuses(probability: float, smallest: float) -> None:
    with pytest.raises(ValueError, match=f"got {probability} and smallest={smallest}"):
        diverse(lambda v: v, probability, smallest=smallest)


@pytest.mark.parametrize(
    ("norm", "asked"),
    [
        # Scaled gradients (1, -1). From x: velocity 0. From (0.6, 0.4): 0.1 * 1 * (1, -1) further. From (0.7, 0.3) with
        # velocity (2, -2): 0.2 further, from (0.8, 0.2) with (3, -3) 0.3: out of the box, clamped.
        (Linf(), [[0.5, 0.5], [0.7, 0.3], [0.9, 0.1], [1.0, 0.0]]),
        # Moves of 0.1 / sqrt(2) a pixel. The velocity (1, -1) counts as a length of 1, being that of ones.
        (L2(), [[0.5, 0.5], [0.641421, 0.358579], [0.782843, 0.217157], [0.924264, 0.075736]]),
    ],
    ids=["Linf", "L2"],
)
def test_nesterov_looks_ahead_by_hand(norm: Norm, asked: list[list[float]]) -> None:
    x, seen = torch.full((1, 1, 1, 2), 0.5), []

    def gradient(v: Tensor) -> Tensor:
        seen.append(v.flatten().tolist())
        return torch.tensor([2.0, -2.0]).view_as(v)

    options: dict[str, Any] = {"norm": norm, "eps": 0.6, "steps": 4, "step_size": 0.1, "random_start": False}
    found = pgd(gradient, x, **options, momentum=1.0, nesterov=True)
    assert seen == [pytest.approx(point, abs=1e-5) for point in asked]
    plain = pgd(lambda v: torch.tensor([2.0, -2.0]).view_as(v), x, **options, momentum=1.0)
    torch.testing.assert_close(found, plain)  # the look-ahead is not where the image goes


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(ValueError, match="expected momentum > 0 with nesterov, got 0"):
        pgd(torch.ones_like, torch.rand(1, 1, 2, 2), norm=Linf(), eps=0.1, steps=1, nesterov=True)


def test_the_composition_is_the_parts_in_order() -> None:
    model, x, y = network(), torch.rand(3, 2, 7, 9), torch.tensor([0, 1, 2])
    torch.manual_seed(5)
    found = si_ni_ti_dim(model, x, y, norm=Linf(), eps=0.1)
    torch.manual_seed(5)
    gradient = smoothed(scaled_copies(ascent(cross_entropy(diverse(model, 0.7), y)), 5), 15, 3.0)
    options: dict[str, Any] = {"random_start": False, "nesterov": True, "momentum": 1.0}
    by_hand = pgd(gradient, x, norm=Linf(), eps=0.1, steps=10, step_size=0.01, **options)
    assert torch.equal(found, by_hand)
    assert 0.09 < float((found - x).abs().max()) <= 0.1 + 1e-6
    assert 0 <= found.min() <= found.max() <= 1
    torch.manual_seed(6)
    assert not torch.equal(si_ni_ti_dim(model, x, y, norm=Linf(), eps=0.1), found)


def test_the_composition_takes_steps_times_copies_gradients() -> None:
    model, sizes = network(), []

    def counting(v: Tensor) -> Tensor:
        sizes.append(len(v))
        return model(v)

    x, y = torch.rand(2, 2, 7, 9), torch.tensor([0, 1])
    si_ni_ti_dim(counting, x, y, norm=L2(), eps=0.5, steps=3, copies=4)
    assert sizes == [2] * 12
    assert all(p.grad is None for p in model.parameters())


def test_the_composition_raises_the_loss() -> None:
    model, x = network(), torch.rand(8, 2, 7, 9)
    y = model(x).argmax(1)
    loss = cross_entropy(model, y)
    for norm, eps in ((Linf(), 0.1), (L2(), 1.0)):
        found = si_ni_ti_dim(model, x, y, norm=norm, eps=eps, kernel=3)
        assert norm.size(found - x).max() <= eps * (1 + 1e-5)
        assert (loss(found) > loss(x)).all()
