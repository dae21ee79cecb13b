"""FAB: the shortest way to a hyperplane, moves by hand, targets, who is done when, the ball and the box."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.attacks.fab import fab, shortest
from art_ext.attacks.norms import L1, L2, Linf, Norm
from art_ext.nn import predicted

HALF = torch.full((1, 1, 1, 1), 0.5)
ZERO = torch.zeros(1, dtype=torch.long)
NORMS = pytest.mark.parametrize("norm", [Linf(), L2()], ids=["Linf", "L2"])


def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(24, 16), nn.Tanh(), nn.Linear(16, 4))


class Seen:
    """A model that remembers the images that it was given."""

    def __init__(self, model: Any) -> None:
        self.model, self.calls = model, []

    def __call__(self, v: Tensor) -> Tensor:
        self.calls.append(v.detach().clone())
        return self.model(v)

    def trace(self) -> list[float]:
        return [float(v) for v in self.calls]


def threshold(at: float) -> Any:
    """Class 1 where the first pixel is above `at`, class 0 below."""
    return lambda v: torch.stack((torch.zeros(len(v)).to(v), v.flatten(1)[:, 0] - at), 1)


def row(*values: float) -> Tensor:
    return torch.tensor(values).view(1, 1, 1, -1)


@pytest.mark.parametrize(
    ("name", "slope", "value", "expected"),
    [
        ("Linf", (1, 1), -0.1, (0.05, 0.05)),
        ("Linf", (1, 1), -0.4, (0.3, 0.1)),  # the second stops at the box
        ("Linf", (1, 1), -1.0, (0.5, 0.1)),  # the corner, which does not reach it
        ("Linf", (1, -1), 0.4, (-0.3, 0.1)),
        ("Linf", (0, 2), 0.4, (0, -0.2)),
        ("L2", (1, 2), -0.1, (0.02, 0.04)),
        ("L2", (1, 2), -0.4, (0.2, 0.1)),  # 0.08 and 0.16 without the box; with it 0.4 - 0.2 is the first's share
        ("L2", (1, 2), -9.0, (0.5, 0.1)),
        ("L2", (1e-30, 2e-30), -1e-31, (0.02, 0.04)),
        ("L2", (0, 0), -1.0, (0, 0)),
        ("Linf", (0, 0), -1.0, (0, 0)),
        ("L2", (3, 1), 0.0, (0, 0)),
    ],
)
def test_shortest_by_hand(name: str, slope: tuple[float, ...], value: float, expected: tuple[float, ...]) -> None:
    norm: Norm = Linf() if name == "Linf" else L2()
    found = shortest(row(0.5, 0.9), row(*slope), torch.tensor([value]), norm)
    assert found.flatten().tolist() == pytest.approx(expected, abs=1e-6)


@NORMS
def test_shortest_is_on_the_plane_in_the_box_and_of_the_optimal_form(norm: Norm) -> None:
    x, slope = torch.rand(40, 3, 4, 5).double(), torch.randn(40, 3, 4, 5).double()
    most = (slope.abs() * torch.where(slope > 0, 1 - x, x)).flatten(1).sum(1)
    value = -most * torch.linspace(0.01, 0.99, 40)
    found = shortest(x, slope, value, norm)
    torch.testing.assert_close((found * slope).flatten(1).sum(1), -value, atol=1e-9, rtol=0)
    assert (x + found).min() >= -1e-12
    assert (x + found).max() <= 1 + 1e-12
    # What no box stops has grown equally far, and what a box stops no further.
    grown = (found.abs() / (slope.abs() if norm.name == "L2" else 1)).flatten(1)
    stopped = (((x + found) < 1e-9) | ((x + found) > 1 - 1e-9)).flatten(1)
    level = grown.masked_fill(stopped, 0).amax(1, keepdim=True)
    assert ((grown - level).abs() < 1e-9)[~stopped].all()
    assert (grown <= level + 1e-9).all()
    assert stopped.any()


def test_moves_by_hand() -> None:
    model = Seen(threshold(0.6))
    found = fab(model, HALF, ZERO, norm=Linf(), eps=0.05, steps=2)
    # From 0.5 by 1.05 * 0.1. That is adversarial, so on at 0.9 of the way. There 0.0055 is missing, from x 0.1:
    # alpha = 0.0055 / 0.1055, (1 - alpha) * (0.5945 + 1.05 * 0.0055) + alpha * 0.605. Last, the point within 0.05.
    assert model.trace() == pytest.approx([0.5, 0.5, 0.605, 0.5945, 0.600521, 0.55], abs=1e-5)
    assert torch.equal(found, HALF)


def test_alpha_is_bounded() -> None:
    model = Seen(threshold(0.6))
    fab(model, HALF, ZERO, norm=Linf(), eps=0.05, steps=2, alpha_max=0.01, eta=1.5, beta=0.5)
    # 0.65, then 0.575: alpha would be 0.025 / 0.125, but is 0.01: 0.99 * 0.6125 + 0.01 * 0.65.
    assert model.trace()[2:5] == pytest.approx([0.65, 0.575, 0.612875], abs=1e-5)


@NORMS
def test_finds_what_lies_within_eps_and_nothing_else(norm: Norm) -> None:
    slope = torch.randn(1, 2, 3, 4)
    x, y = torch.full((1, 2, 3, 4), 0.5), ZERO
    reach = 0.1 / float(slope.abs().sum() if norm.name == "Linf" else slope.norm())

    def model(v: Tensor) -> Tensor:
        value = ((v - 0.5) * slope).flatten(1).sum(1) - 0.1
        return torch.stack((torch.zeros_like(value), value), 1)

    for steps in (1, 20):  # after one step, 5 % beyond the plane, only the last pass is left
        found = fab(model, x, y, norm=norm, eps=1.01 * reach, steps=steps)
        assert predicted(model(found)).tolist() == [1]
        assert float(norm.size(found - x)) <= 1.0101 * reach
        assert torch.equal(fab(model, x, y, norm=norm, eps=0.99 * reach, steps=steps), x)


def test_one_class_after_the_other_from_the_largest_logit() -> None:
    # Class 1 is nearest by its logit but out of reach of the box, class 2 is within reach.
    def model(v: Tensor) -> Tensor:
        first = v.flatten(1)[:, 0]
        return torch.stack((1 + 0 * first, 0.9 + 0 * first, 0.5 + (first - 0.5) * 6), 1)

    options: dict[str, Any] = {"norm": Linf(), "eps": 0.1, "steps": 10}
    assert torch.equal(fab(model, HALF, ZERO, targets=1, **options), HALF)
    for targets in (2, 9):
        assert float(fab(model, HALF, ZERO, targets=targets, **options)) > 0.58


def test_an_image_that_is_done_leaves_the_batch() -> None:
    x, y = torch.tensor([0.9, 0.5, 0.1]).view(3, 1, 1, 1), torch.zeros(3, dtype=torch.long)
    model = Seen(threshold(0.6))
    found = fab(model, x, y, norm=Linf(), eps=0.2, steps=3, restarts=2)
    # The first is misclassified from the beginning; the second falls to the first move, the third never.
    assert torch.equal(found[[0, 2]], x[[0, 2]])
    assert float(found[1]) == pytest.approx(0.605)
    assert [len(v) for v in model.calls] == [3, 2, 2] + [1] * (2 * 2 + 1) + [1] * (2 * 3 + 1)


def test_restarts_begin_at_random_points_of_half_the_ball() -> None:
    radii: list[float] = []

    class Fixed(Linf):
        def sample(self, like: Tensor, eps: float) -> Tensor:
            radii.append(eps)
            return torch.full_like(like, eps)

    model = Seen(threshold(0.9))
    fab(model, HALF, ZERO, norm=Fixed(), eps=0.1, steps=0, restarts=3)
    assert radii == [0.05, 0.05]
    model = Seen(threshold(0.9))
    fab(model, HALF, ZERO, norm=Fixed(), eps=0.1, steps=1, restarts=2)
    assert model.trace() == pytest.approx([0.5, 0.5, 0.92, 0.6, 0.55, 0.91775, 0.6], abs=1e-5)


def test_logits_that_are_not_finite_are_wrong_answers() -> None:
    x, y = torch.tensor([0.5, 0.5, 0.45]).view(3, 1, 1, 1), torch.zeros(3, dtype=torch.long)

    def model(v: Tensor) -> Tensor:
        logits = threshold(0.6)(v)
        return torch.where(v.flatten(1) > 0.55, torch.nan, logits)

    found = fab(model, x, y, norm=Linf(), eps=0.2, steps=2)
    assert (found.flatten() > 0.55).all()
    assert torch.equal(fab(lambda v: threshold(0.6)(v) * torch.nan, x, y, norm=Linf(), eps=0.2, steps=2), x)


def test_gradient_entries_that_are_not_finite_count_as_0() -> None:
    def model(v: Tensor) -> Tensor:
        first, second = v.flatten(1).unbind(1)
        value = first - 0.6 + 0 * (second - 0.5).clamp_min(0).sqrt()  # the second pixel's gradient is NaN at 0.5
        return torch.stack((torch.zeros_like(value), value), 1)

    x = torch.full((1, 1, 1, 2), 0.5)
    assert fab(model, x, ZERO, norm=L2(), eps=0.2, steps=1).flatten().tolist() == pytest.approx([0.605, 0.5])


@NORMS
def test_stays_in_the_ball_and_the_box_and_breaks_what_it_changes(norm: Norm) -> None:
    model, x = network(), torch.rand(12, 2, 3, 4).round()
    y, eps = predicted(model(x)), {"Linf": 0.2, "L2": 0.5}[norm.name]
    found = fab(model, x, y, norm=norm, eps=eps, steps=15, restarts=2)
    changed = (found != x).flatten(1).any(1)
    assert 0 < int(changed.sum()) < 12
    assert torch.equal(predicted(model(found)) != y, changed)
    assert 0 <= found.min() <= found.max() <= 1
    assert norm.size(found - x).max() <= eps * (1 + 1e-5)


@pytest.mark.parametrize("name", ["Linf", "L2"])
def test_samples_do_not_mix(name: str) -> None:
    norm: Norm = Linf() if name == "Linf" else L2()
    model, x = network().double(), torch.rand(8, 2, 3, 4).double()
    y, eps = predicted(model(x)), {"Linf": 0.1, "L2": 0.4}[name]

    def sample(like: Tensor, eps: float) -> Tensor:  # of the image alone
        return eps * (like * 40).sin() / 5

    norm.sample = sample  # type: ignore[method-assign]
    whole = fab(model, x, y, norm=norm, eps=eps, steps=20, restarts=2)
    assert 0 < int((whole != x).flatten(1).any(1).sum()) < 8
    for i in range(8):
        alone = fab(model, x[i : i + 1], y[i : i + 1], norm=norm, eps=eps, steps=20, restarts=2)
        torch.testing.assert_close(whole[i : i + 1], alone, atol=1e-9, rtol=0)


def test_no_images_no_steps_no_radius() -> None:
    model, x = network(), torch.rand(2, 2, 3, 4)
    y = predicted(model(x))
    none = Seen(model)
    assert fab(none, x[:0], y[:0], norm=L2(), eps=0.1).shape == (0, 2, 3, 4)
    assert not none.calls
    assert torch.equal(fab(model, x, y, norm=Linf(), eps=0.5, steps=0), x)
    assert torch.equal(fab(model, x, y, norm=L2(), eps=0.0, steps=3), x)


def test_leaves_no_trace() -> None:
    model, x = network(), torch.rand(2, 2, 3, 4).requires_grad_()
    y, before = predicted(model(x)), x.detach().clone()
    model[1].weight.grad = torch.full((16, 24), 7.0)
    with torch.no_grad():
        found = fab(model, x, y, norm=Linf(), eps=0.3, steps=5)
    assert not torch.equal(found, before)
    assert not found.requires_grad
    assert torch.equal(x, before)
    assert x.grad is None
    assert model[1].weight.grad.unique().tolist() == [7]
    assert model.training


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"norm": L1()}, "expected norm Linf or L2, got L1"),
        ({"eps": -0.1}, "expected a finite eps >= 0, got -0.1"),
        ({"eps": float("nan")}, "got nan"),
        ({"steps": -1}, "expected steps >= 0, got -1"),
        ({"targets": 0}, "expected targets >= 1 and restarts >= 1, got targets=0"),
        ({"restarts": 0}, "restarts=0"),
        ({"alpha_max": 1.1}, "expected alpha_max and beta in .* got alpha_max=1.1"),
        ({"beta": -0.1}, "beta=-0.1"),
        ({"eta": 0.9}, "eta=0.9"),
        ({"y": torch.zeros(2, dtype=torch.long)}, r"expected labels of shape \(1,\)"),
    ],
)
def test_bad_arguments(bad: dict[str, Any], message: str) -> None:
    model = Seen(threshold(0.6))
    with pytest.raises(ValueError, match=message):
        fab(model, **{"x": HALF, "y": ZERO, "norm": Linf(), "eps": 0.1, **bad})
    assert not model.calls
