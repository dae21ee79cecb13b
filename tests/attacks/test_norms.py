"""Norms by hand and against brute force, per sample, with N, C, H, W all different."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from art_ext.attacks import L1, L2, NORMS, Linf

SHAPE = (3, 2, 4, 5)


def norm_of(name: str, delta: Tensor) -> Tensor:
    flat = delta.flatten(1)
    return {"Linf": flat.abs().amax(1), "L2": flat.square().sum(1).sqrt(), "L1": flat.abs().sum(1)}[name]


@pytest.mark.parametrize("name", NORMS)
def test_size_is_per_sample(name: str) -> None:
    delta = torch.randn(SHAPE) * torch.tensor([1.0, 10.0, 0.1]).view(3, 1, 1, 1)
    assert torch.allclose(NORMS[name].size(delta), norm_of(name, delta))


@pytest.mark.parametrize("name", NORMS)
def test_projection_keeps_the_inside_and_reaches_the_border(name: str) -> None:
    norm = NORMS[name]
    delta = torch.randn(SHAPE)
    sizes = norm.size(delta)
    eps = float(sizes.median())  # one sample inside, one on the border, one outside
    projected = norm.project(delta, eps)
    inside = sizes <= eps
    assert torch.allclose(projected[inside], delta[inside], atol=1e-6)
    assert torch.allclose(norm.size(projected)[~inside], torch.tensor(eps), rtol=1e-5)


@pytest.mark.parametrize("name", NORMS)
def test_projection_is_the_nearest_point(name: str) -> None:
    norm, eps = NORMS[name], 1.0
    delta = torch.randn(2, 1, 2, 2) * 2
    projected = norm.project(delta, eps)
    others = norm.project(torch.randn(20_000, 1, 2, 2) * 2, eps)
    for sample, nearest in zip(delta, projected, strict=True):
        best = (others - sample).flatten(1).norm(dim=1).min()
        assert (nearest - sample).norm() <= best + 1e-6


def test_l1_projection_by_hand() -> None:
    # (3, -1, 0.5) onto the ball of radius 2: soft threshold t with (3 - t) + (1 - t) = 2, t = 1, so (2, 0, 0).
    delta = torch.tensor([3.0, -1.0, 0.5]).view(1, 1, 1, 3)
    assert L1().project(delta, 2.0).flatten().tolist() == pytest.approx([2, 0, 0])
    # Radius 3: (3 - t) + (1 - t) = 3, t = 0.5, and the third is cut to 0.
    assert L1().project(delta, 3.0).flatten().tolist() == pytest.approx([2.5, -0.5, 0])


def test_directions_by_hand() -> None:
    gradient = torch.tensor([[3.0, -4.0], [0.0, 0.0]]).view(2, 1, 1, 2)
    assert Linf().direction(gradient).flatten().tolist() == [1, -1, 0, 0]
    assert L2().direction(gradient).flatten().tolist() == pytest.approx([0.6, -0.8, 0, 0])
    # A twentieth of two pixels is one pixel: the larger one gets the whole step.
    assert L1().direction(gradient).flatten().tolist() == [0, -1, 0, 0]
    assert L1(share=1).direction(gradient).flatten().tolist() == [0.5, -0.5, 0, 0]


@pytest.mark.parametrize("name", NORMS)
def test_directions_ascend_with_unit_steps(name: str) -> None:
    gradient = torch.randn(SHAPE)
    step = NORMS[name].direction(gradient)
    assert torch.allclose(NORMS[name].size(step), torch.ones(3), rtol=1e-5)
    assert ((step * gradient).flatten(1).sum(1) > 0).all()


def test_samples_fill_the_ball() -> None:
    like = torch.zeros(4000, 1, 1, 3)
    for name, norm in NORMS.items():
        sizes = norm.size(norm.sample(like, 0.5))
        assert float(sizes.max()) <= 0.5 + 1e-6
        # Uniform in a ball of 3 dimensions: half of it lies beyond 0.5^(1/3) of the radius.
        assert float((sizes > 0.5 * 0.5 ** (1 / 3)).float().mean()) == pytest.approx(0.5, abs=0.04), name


@pytest.mark.parametrize("name", NORMS)
def test_no_images(name: str) -> None:
    empty = torch.zeros(0, 1, 2, 3)
    norm = NORMS[name]
    for result in (norm.project(empty, 1.0), norm.direction(empty), norm.sample(empty, 1.0)):
        assert result.shape == empty.shape
    assert norm.size(empty).shape == (0,)


def test_share_out_of_range() -> None:
    with pytest.raises(ValueError, match="got 0"):
        L1(share=0)
