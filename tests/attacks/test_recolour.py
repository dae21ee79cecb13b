"""ReColorAdv: the colours of tables, differentiable both ways, one displacement a colour, within the bound."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from art_ext.attacks import recoloradv
from art_ext.attacks.recolour import look_up, luv_to_rgb, rgb_to_luv

CORNERS = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3)))
SCALE = torch.tensor([100.0, 200.0, 200.0]).view(1, 3, 1, 1)


def colours(*rgb: tuple[float, float, float]) -> Tensor:
    """One image of one row."""
    return torch.tensor(rgb, dtype=torch.float64).T[None, :, None]


@pytest.mark.parametrize(
    ("rgb", "luv"),
    [
        ((1, 1, 1), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((1, 0, 0), (53.2408, 175.0151, 37.7564)),
        ((0, 1, 0), (87.7347, -83.0776, 107.3985)),
        ((0, 0, 1), (32.2970, -9.4054, -130.3423)),
        ((0.5, 0.5, 0.5), (53.3890, 0, 0)),
        ((0.03, 0.03, 0.03), (903.2963 * 0.03 / 12.92, 0, 0)),  # both curves linear
    ],
)
def test_luv_of_known_colours(rgb: tuple[float, float, float], luv: tuple[float, float, float]) -> None:
    found = rgb_to_luv(colours(rgb)).flatten().tolist()
    assert found == pytest.approx(luv, abs=2e-3)
    assert luv_to_rgb(torch.tensor(found).view(1, 3, 1, 1)).flatten().tolist() == pytest.approx(rgb, abs=1e-4)


def test_there_and_back() -> None:
    steps = torch.arange(256.0) / 255
    greys = steps.expand(3, 256)
    hues = torch.stack([steps, steps.flip(0), steps.roll(77)])
    single = torch.block_diag(steps, steps, steps)  # red, green, blue from black on
    x = torch.cat([greys, hues, single, CORNERS.T], 1)[None, :, None]
    torch.testing.assert_close(luv_to_rgb(rgb_to_luv(x)), x, atol=2e-5, rtol=0)
    torch.testing.assert_close(luv_to_rgb(rgb_to_luv(x.double())), x.double(), atol=1e-6, rtol=0)


def test_gradients_are_finite_in_and_around_the_gamut() -> None:
    faint = torch.tensor([[1e-9, 0, 0], [1e-6, 1e-6, 1e-6], [0.5, 0.5, 0.5], [0.04045] * 3, [1e-4, 0, 1e-9]])
    x = torch.cat([CORNERS, faint]).T[None, :, None].clone().requires_grad_()
    for channel in range(3):
        (gradient,) = torch.autograd.grad(rgb_to_luv(x)[:, channel].sum(), x)
        assert bool(gradient.isfinite().all())
    luv = (torch.rand(1, 3, 1, 2000) * 1.5 - 0.25) * torch.tensor([100.0, 400.0, 400.0]).view(1, 3, 1, 1)
    luv[:, 1:] -= 200
    luv[..., :50] = 0
    luv[:, 1:, :, :25] = torch.tensor([12.0, -12.0]).view(1, 2, 1, 1)  # black, displaced
    luv[0, :, 0, 50] = torch.tensor([50.0, 30.0, -13 * 50 * 9 / (0.9504559 + 15 + 3 * 1.0890578)])  # v' = 0
    luv.requires_grad_()
    rgb = luv_to_rgb(luv)
    (gradient,) = torch.autograd.grad(rgb.sum(), luv)
    assert float(rgb.detach().abs().max()) < 200
    assert float(gradient.abs().max()) < 200  # as NaN is not


def test_gradients_are_those_of_the_function() -> None:
    x = 0.1 + 0.8 * torch.rand(1, 3, 2, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(rgb_to_luv, x.requires_grad_())
    assert torch.autograd.gradcheck(luv_to_rgb, rgb_to_luv(x).detach().requires_grad_())


def test_look_up_is_trilinear_along_the_axes_in_order() -> None:
    a, b, c = torch.meshgrid(torch.linspace(0, 1, 2), torch.linspace(0, 1, 3), torch.linspace(0, 1, 4), indexing="ij")
    table = torch.stack([torch.stack([a, b, c]), torch.stack([a * b, b * c, a * b * c])])
    places = torch.rand(2, 3, 2, 5)
    p, q, r = places[1]
    found = look_up(table, places)
    torch.testing.assert_close(found[0], places[0])
    torch.testing.assert_close(found[1], torch.stack([p * q, q * r, p * q * r]))
    outside = look_up(table[:1], torch.tensor([-0.5, 0.25, 1.5]).view(1, 3, 1, 1))
    assert outside.flatten().tolist() == pytest.approx([0.0, 0.25, 1.0])


def test_no_steps_give_the_images_back_saturated_ones_too() -> None:
    x = torch.cat([CORNERS, torch.rand(40, 3)]).T[None, :, None].expand(2, 3, 1, 48)
    found = recoloradv(lambda v: v.mean((2, 3)), x, torch.zeros(2, dtype=torch.long), steps=0)
    torch.testing.assert_close(found, x, atol=2e-5, rtol=0)


def test_displacements_reach_the_bound_and_no_further() -> None:
    x = 0.4 + 0.2 * torch.rand(3, 3, 5, 4)  # far from the border of the gamut
    y = torch.tensor([0, 1, 2])
    found = recoloradv(lambda v: v.mean((2, 3)), x, y, bound=0.02, steps=12, step_size=0.005, smoothness=0)
    moved = ((rgb_to_luv(found) - rgb_to_luv(x)) / SCALE).abs().amax((2, 3))
    assert float(moved.max()) == pytest.approx(0.02, abs=1e-5)
    assert bool((moved.amax(1) > 0.0199).all())  # each image uses it


def test_a_colour_moves_the_same_way_everywhere_in_an_image_and_only_there() -> None:
    palette = torch.rand(3, 4)
    x = palette[:, torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0]])].expand(2, 3, 2, 4)
    weights = torch.randn(2, 3 * 8)
    found = recoloradv(lambda v: v.flatten(1) @ weights.T, x, torch.tensor([0, 1]), steps=5, step_size=0.02)
    torch.testing.assert_close(found[:, :, 0], found[:, :, 1].flip(-1))
    assert not torch.allclose(found[0], found[1], atol=1e-3)


def test_lightness_is_clipped() -> None:
    luv = torch.tensor([[-10.0, 110.0], [0.0, 0.0], [0.0, 0.0]])[None, :, None]
    assert luv_to_rgb(luv).flatten().tolist() == pytest.approx([0, 1] * 3, abs=1e-5)


def test_the_corners_of_the_gamut_are_no_dead_ends() -> None:
    x = CORNERS[:, :, None, None].expand(8, 3, 2, 2)

    def dull(v: Tensor) -> Tensor:  # the margin of class 0 grows as red tends to the middle, from 0 - 1e-6 too
        return (v[:, :1] - 0.5).square().flatten(1).sum(1)[:, None] * torch.tensor([100.0, 0.0])

    found = recoloradv(dull, x, torch.zeros(8, dtype=torch.long), steps=5, step_size=0.02)
    assert bool(((found - x).abs().amax((1, 2, 3)) > 0.01).all())


def test_breaks_a_classifier_of_colours() -> None:
    y = torch.arange(8) % 2
    x = 0.3 + 0.4 * torch.rand(8, 3, 4, 4)
    x[:, 0] += (0.05 * (2 * y - 1) - (x[:, 0] - x[:, 2]).mean((1, 2)))[:, None, None]  # redder (1) or bluer (0)
    assert 0 <= x.min() <= x.max() <= 1

    def warmth(v: Tensor) -> Tensor:
        score = 10 * (v[:, 0] - v[:, 2]).mean((1, 2))
        return torch.stack([-score, score], 1)

    assert bool((warmth(x).argmax(1) == y).all())
    assert bool((warmth(recoloradv(warmth, x, y, steps=30, step_size=0.01)).argmax(1) != y).all())
    same = recoloradv(warmth, x, y, steps=30, step_size=0.01, bound=0.005)
    assert bool((warmth(same).argmax(1) == y).all())
    towards = recoloradv(warmth, x, 1 - y, steps=30, step_size=0.01, targeted=True)
    assert bool((warmth(towards).argmax(1) == 1 - y).all())


def test_smoothness_is_a_penalty_per_bound() -> None:
    x, y = torch.rand(2, 3, 4, 4), torch.tensor([0, 1])
    weights = torch.randn(2, 48)

    def moved(bound: float, smoothness: float) -> float:
        options = {"bound": bound, "smoothness": smoothness, "steps": 15, "step_size": 0.01}
        found = recoloradv(lambda v: v.flatten(1) @ weights.T, x, y, grid=(4, 4, 4), **options)
        return float((found - x).abs().mean())

    # Twice the smoothness over twice the bound is the same penalty. The bounds are too wide to matter.
    assert moved(8.0, 0.8) == pytest.approx(moved(4.0, 0.4), rel=1e-3)
    assert moved(8.0, 40.0) < 0.5 * moved(8.0, 0.0)


def test_what_it_refuses() -> None:
    y = torch.zeros(2, dtype=torch.long)
    with pytest.raises(ValueError, match=r"expected 3 channels, .*got 1"):
        recoloradv(lambda v: v.mean((2, 3)), torch.rand(2, 1, 4, 4), y)
    for convert in (rgb_to_luv, luv_to_rgb):
        with pytest.raises(ValueError, match=r"expected 3 channels, .*got 4"):
            convert(torch.rand(2, 4, 4, 4))
    with pytest.raises(ValueError, match=r"expected a grid of three sides of at least 2 points, got \(4, 1, 4\)"):
        recoloradv(lambda v: v.mean((2, 3)), torch.rand(2, 3, 4, 4), y, grid=(4, 1, 4))
