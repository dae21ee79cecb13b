"""Norms by hand, against scipy's optimiser and against the known moments of their balls; N, C, H, W all different."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import LinearConstraint, minimize
from torch import Tensor

from art_ext.attacks import L1, L2, NORMS, Linf

SHAPE = (3, 2, 4, 5)
BALL = (4000, 2, 3, 4)  # images of d = 24 pixels
D = 24


def row(*values: float) -> Tensor:
    """One image of one row."""
    return torch.tensor(values, dtype=torch.float32).view(1, 1, 1, -1)


def nearest(name: str, point: NDArray[np.float64], eps: float) -> NDArray[np.float64]:
    """The nearest point of the ball by sequential quadratic programming, which knows nothing of our formulas."""
    d = len(point)
    if name == "Linf":
        found = minimize(lambda p: ((p - point) ** 2).sum(), np.zeros(d), bounds=[(-eps, eps)] * d, tol=1e-12)
    elif name == "L2":
        inside = {"type": "ineq", "fun": lambda p: eps**2 - (p**2).sum()}
        found = minimize(lambda p: ((p - point) ** 2).sum(), point * 0.01, constraints=inside, tol=1e-12)
    else:  # p = u - v with u, v >= 0 and sum(u + v) <= eps

        def distance(uv: NDArray[np.float64]) -> float:
            return float(((uv[:d] - uv[d:] - point) ** 2).sum())

        inside = LinearConstraint(np.ones(2 * d), -np.inf, eps)
        found = minimize(distance, np.zeros(2 * d), bounds=[(0, None)] * 2 * d, constraints=inside, tol=1e-12)
        return found.x[:d] - found.x[d:]
    return found.x


def test_sizes_by_hand() -> None:
    delta = torch.zeros(3, 2, 1, 4)
    delta[0, 0, 0, :2] = torch.tensor([3.0, -4.0])  # 4, 5, 7
    delta[1, :, 0, 3] = torch.tensor([-0.6, 0.8])  # over channels too: 0.8, 1, 1.4
    assert Linf().size(delta).tolist() == pytest.approx([4, 0.8, 0])
    assert L2().size(delta).tolist() == pytest.approx([5, 1, 0])
    assert L1().size(delta).tolist() == pytest.approx([7, 1.4, 0])


@pytest.mark.parametrize("name", NORMS)
def test_projection_is_the_nearest_point(name: str) -> None:
    delta = torch.randn(3, 2, 1, 4, dtype=torch.float64) * torch.tensor([3.0, 1.0, 0.01]).view(3, 1, 1, 1)
    eps = {"Linf": 0.7, "L2": 1.5, "L1": 2.5}[name]
    expected = np.stack([nearest(name, sample.numpy().ravel(), eps) for sample in delta])
    found = NORMS[name].project(delta, eps)
    np.testing.assert_allclose(found.flatten(1).numpy(), expected, atol=1e-4)
    assert not torch.equal(found[0], delta[0])  # the first one lay outside
    torch.testing.assert_close(found[2], delta[2])  # and the last one well inside


@pytest.mark.parametrize("name", NORMS)
def test_projection_keeps_the_inside_and_reaches_the_border(name: str) -> None:
    norm = NORMS[name]
    delta = torch.randn(SHAPE) * torch.tensor([1.0, 2.0, 4.0]).view(3, 1, 1, 1)
    sizes = norm.size(delta)
    eps = float(sizes[:2].mean())  # the first sample inside, the others outside
    projected = norm.project(delta, eps)
    assert projected.shape == delta.shape
    torch.testing.assert_close(projected[0], delta[0])
    torch.testing.assert_close(norm.size(projected)[1:], torch.full((2,), eps))
    torch.testing.assert_close(norm.project(projected, eps), projected)
    for i in range(3):  # the radius is each sample's own
        torch.testing.assert_close(norm.project(delta[i : i + 1], eps), projected[i : i + 1])


@pytest.mark.parametrize("name", NORMS)
def test_projection_at_the_edges(name: str) -> None:
    norm = NORMS[name]
    assert norm.project(torch.randn(SHAPE), 0.0).count_nonzero() == 0
    for eps in (0.0, 1.0):
        assert norm.project(torch.zeros(SHAPE), eps).count_nonzero() == 0


def test_projections_by_hand() -> None:
    assert Linf().project(row(3, -1, 0.5), 2.0).flatten().tolist() == [2, -1, 0.5]
    # Length 5 onto 1: a fifth.
    assert L2().project(row(3, -4, 0), 1.0).flatten().tolist() == pytest.approx([0.6, -0.8, 0])
    # Radius 2: soft threshold t with (3 - t) + (1 - t) = 2, t = 1, so (2, 0, 0).
    assert L1().project(row(3, -1, 0.5), 2.0).flatten().tolist() == pytest.approx([2, 0, 0])
    # Radius 3: (3 - t) + (1 - t) = 3, t = 0.5, and the third is cut to 0.
    assert L1().project(row(3, -1, 0.5), 3.0).flatten().tolist() == pytest.approx([2.5, -0.5, 0])
    # Ties: (2 - t) * 3 = 3, t = 1.
    assert L1().project(row(2, -2, 2), 3.0).flatten().tolist() == pytest.approx([1, -1, 1])


def test_directions_by_hand() -> None:
    gradient = torch.cat([row(3, -4, 0), row(0, 0, 0), row(0, 0, 1e-3)])
    assert Linf().direction(gradient).flatten(1).tolist() == [[1, -1, 0], [0, 0, 0], [0, 0, 1]]
    l2 = L2().direction(gradient).flatten().tolist()
    assert l2 == pytest.approx([0.6, -0.8, 0, 0, 0, 0, 0, 0, 1])
    # A twentieth of three pixels is one pixel: the largest gets the whole step.
    assert L1().direction(gradient).flatten(1).tolist() == [[0, -1, 0], [0, 0, 0], [0, 0, 1]]
    # All pixels: those without a gradient do not move, the others share the step.
    assert L1(share=1).direction(gradient).flatten(1).tolist() == [[0.5, -0.5, 0], [0, 0, 0], [0, 0, 1]]


def test_l1_passes_over_pixels_that_the_box_stops() -> None:
    gradient, x = row(-5, 4, 3, -2), row(0, 1, 0, 1)
    assert L1().direction(gradient).flatten().tolist() == [-1, 0, 0, 0]
    # At 0 there is no way down, at 1 none up; inwards and from 0.5 there is.
    assert L1().direction(gradient, x).flatten().tolist() == [0, 0, 1, 0]
    assert L1(share=1).direction(gradient, x).flatten().tolist() == [0, 0, 0.5, -0.5]
    assert L1().direction(gradient, row(0.5, 1, 0, 1)).flatten().tolist() == [-1, 0, 0, 0]
    assert L1().direction(row(-1, 1), row(0, 1)).flatten().tolist() == [0, 0]  # no way at all
    for norm in (Linf(), L2()):  # their steps move every pixel anyway
        assert torch.equal(norm.direction(gradient, x), norm.direction(gradient))


def test_l1_steps_on_its_share_of_the_pixels() -> None:
    gradient = torch.randn(SHAPE)  # 40 pixels
    for share, count in ((0.05, 2), (0.25, 10), (1.0, 40), (0.001, 1)):
        step = L1(share).direction(gradient).flatten(1)
        for i in range(3):
            top = gradient[i].flatten().abs().argsort(descending=True)[:count]
            assert sorted(step[i].nonzero().flatten().tolist()) == sorted(top.tolist())
            torch.testing.assert_close(step[i][top], gradient[i].flatten()[top].sign() / count)


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e15])
@pytest.mark.parametrize("name", NORMS)
def test_steps_have_size_one_however_small_the_gradient(name: str, scale: float) -> None:
    # A confident network has gradients of 1e-20; a step that shrinks with them would pass for robustness.
    norm = NORMS[name]
    gradient = torch.randn(SHAPE)
    step = norm.direction(gradient * scale)
    torch.testing.assert_close(norm.size(step), torch.ones(3))
    torch.testing.assert_close(step, norm.direction(gradient))
    assert (step * gradient).flatten(1).sum(1).min() > 0


@pytest.mark.parametrize("name", ["Linf", "L2"])
def test_no_step_of_size_one_ascends_faster(name: str) -> None:
    norm, gradient = NORMS[name], torch.randn(3, 1, 2, 4)
    best = (norm.direction(gradient) * gradient).flatten(1).sum(1)
    others = torch.randn(5000, 1, 2, 4)
    others = others / norm.size(others).view(-1, 1, 1, 1)
    assert ((others.flatten(1) @ gradient.flatten(1).T).amax(0) <= best + 1e-5).all()


@pytest.mark.parametrize("norm", [Linf(), L2(), L1(), L1(share=1)], ids=lambda norm: norm.name)
def test_no_gradient_no_direction(norm: Linf | L2 | L1) -> None:
    assert torch.equal(norm.direction(torch.zeros(SHAPE)), torch.zeros(SHAPE))
    gradient = torch.randn(SHAPE)
    gradient[1] = 0
    step = norm.direction(gradient)
    assert torch.equal(step[1], torch.zeros(SHAPE[1:]))
    torch.testing.assert_close(norm.size(step), torch.tensor([1.0, 0.0, 1.0]))


@pytest.mark.parametrize("name", NORMS)
def test_samples_fill_the_ball(name: str) -> None:
    norm, eps = NORMS[name], 0.5
    sample = norm.sample(torch.zeros(BALL), eps)
    sizes = norm.size(sample)
    assert sizes.max() <= eps * (1 + 1e-5)
    # The share of the volume within radius r is (r / eps)^d: the median is eps * 0.5^(1/d), whatever the norm.
    for part in (0.1, 0.5, 0.9):
        assert float((sizes <= eps * part ** (1 / D)).float().mean()) == pytest.approx(part, abs=0.03)
    # E x_i^2 in the uniform ball: eps^2 / 3; eps^2 / (d + 2); 2 eps^2 / ((d + 1) (d + 2)). Each pixel on its own.
    second = {"Linf": eps**2 / 3, "L2": eps**2 / 26, "L1": 2 * eps**2 / (25 * 26)}[name]
    assert sample.square().mean(0).flatten().tolist() == pytest.approx([second] * D, rel=0.2)
    assert (sample > 0).float().mean(0).flatten().tolist() == pytest.approx([0.5] * D, abs=0.04)  # both signs
    assert len(sample.flatten(1).unique(dim=0)) == len(sample)  # no two samples share a draw


@pytest.mark.parametrize("name", NORMS)
def test_samples_follow_the_input_and_the_ambient_generator(name: str) -> None:
    like = torch.rand(SHAPE, dtype=torch.float64)
    torch.manual_seed(1)
    first = NORMS[name].sample(like, 0.1)
    assert (first.shape, first.dtype) == (like.shape, like.dtype)
    assert not torch.equal(NORMS[name].sample(like, 0.1), first)
    torch.manual_seed(1)
    assert torch.equal(NORMS[name].sample(like, 0.1), first)
    assert NORMS[name].sample(like, 0.0).count_nonzero() == 0


@pytest.mark.parametrize("name", NORMS)
def test_no_images(name: str) -> None:
    empty = torch.zeros(0, 1, 2, 3)
    norm = NORMS[name]
    for result in (norm.project(empty, 1.0), norm.direction(empty), norm.sample(empty, 1.0)):
        assert result.shape == empty.shape
    assert norm.size(empty).shape == (0,)


def test_registry_and_share() -> None:
    assert {name: type(norm) for name, norm in NORMS.items()} == {"Linf": Linf, "L2": L2, "L1": L1}
    for share in (0, -0.1, 1.1):
        with pytest.raises(ValueError, match=rf"expected share in \(0, 1\], got {share}"):
            L1(share=share)
