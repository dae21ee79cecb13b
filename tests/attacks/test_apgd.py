"""Auto-PGD: checkpoints and moves by hand, the ball and the box, draws, scores, restarts."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.attacks import L2, Leave, Linf, Loss, Norm, apgd, cross_entropy, dlr, margin, pgd
from art_ext.attacks.apgd import checkpoints


class Fixed(Linf):
    """The n-th start lies at the n-th of these shifts of every pixel; the last one serves for ever."""

    def __init__(self, *shifts: float | list[float]) -> None:
        self.shifts, self.starts = shifts, 0

    def sample(self, like: Tensor, eps: float) -> Tensor:
        shift = torch.tensor(self.shifts[min(self.starts, len(self.shifts) - 1)])
        self.starts += 1
        return shift.view(-1, 1, 1, 1).expand_as(like).clone()


class Unknown(Linf):
    name = "L0"


class Seen:
    """A loss that remembers where it was asked."""

    def __init__(self, loss: Loss) -> None:
        self.loss, self.points = loss, []

    def __call__(self, v: Tensor) -> Tensor:
        self.points.append(v.detach().clone())
        return self.loss(v)

    def trace(self) -> list[float]:
        return [float(v) for v in self.points]


def hill(peak: float) -> Loss:
    return lambda v: -(v - peak).square().flatten(1).sum(1)


def still(v: Tensor) -> Tensor:
    """The value of the first pixel, without any gradient."""
    return v.flatten(1)[:, 0].detach() + 0 * v.flatten(1).sum(1)


def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(24, 8), nn.Tanh(), nn.Linear(8, 4))


HALF = torch.full((1, 1, 1, 1), 0.5)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (100, [0, 22, 41, 57, 70, 80, 87, 93, 99]),
        (50, [0, 11, 21, 29, 35, 40, 44, 47, 50]),  # 20.5, 28.5, 43.5, 46.5 and 49.5 rounded up
        (5, [0, 2, 3, 4, 5]),  # 1.1, 2.05, 2.85, 3.5, 4, 4.35, 4.65, 4.95
        (1, [0, 1]),
        (0, [0]),
    ],
)
def test_checkpoints(steps: int, expected: list[int]) -> None:
    assert checkpoints(steps) == expected


def test_moves_by_hand_before_any_checkpoint() -> None:
    loss = Seen(hill(0.6))
    apgd(loss, HALF, norm=Fixed(0.0), eps=0.4, steps=100)
    # Step 2 * 0.4. To 1.3, which the ball cuts: 0.9. Then 0.75 of the way to 0.1 and 0.25 of the last move (+ 0.4):
    # 0.9 - 0.6 + 0.1. Then to 0.9 (cut): 0.4 + 0.375 - 0.125. Then to 0.1 (cut): 0.65 - 0.4125 + 0.0625.
    assert loss.trace()[:5] == pytest.approx([0.5, 0.9, 0.4, 0.65, 0.3], abs=1e-6)
    assert len(loss.points) == 101


def test_condition_1_by_hand() -> None:
    loss = Seen(hill(0.62))
    found = apgd(loss, HALF, norm=Fixed(0.0), eps=0.4, steps=5)
    # Losses -0.0144, -0.0784, -0.0484: one rise in two moves, less than 0.75 * 2. The step becomes 0.4, from 0.5 again;
    # the last move is 0.5 - 0.9. To 0.5 + 0.3 - 0.1 = 0.7 at -0.0064: one rise in one move, the step stays.
    # To 0.7 - 0.3 + 0.05 = 0.45: no rise. The step becomes 0.2, from 0.7, where the last move is 0: to 0.55, -0.0049.
    assert loss.trace() == pytest.approx([0.5, 0.9, 0.4, 0.7, 0.45, 0.55], abs=1e-6)
    assert float(found) == pytest.approx(0.55)


def test_condition_1_alone_by_hand() -> None:
    loss = Seen(hill(0.85))
    apgd(loss, HALF, norm=Fixed(0.0), eps=0.4, steps=5)
    # The first move finds a new best point, so condition 2 does not hold; one rise in two moves is condition 1. The
    # step becomes 0.4, from 0.9 without a last move: - 0.3. No rise: 0.2, again from 0.9: - 0.15. No rise: 0.1.
    assert loss.trace() == pytest.approx([0.5, 0.9, 0.4, 0.6, 0.75, 0.825], abs=1e-6)


def test_condition_2_by_hand() -> None:
    loss = Seen(lambda v: (v + 10 * (v.detach() == 0.5)).flatten())
    found = apgd(loss, HALF, norm=Fixed(0.0), eps=0.4, steps=5, rho=0.0)
    # Nothing beats 0.5. After two moves the step becomes 0.4, from 0.5 again: 0.5 + 0.3 - 0.1. It was halved at
    # the last checkpoint, so one move later it stays: 0.7 + 0.15 + 0.05. One more: 0.2, and
    # 0.5 + 0.15 - 0.05.
    assert loss.trace() == pytest.approx([0.5, 0.9, 0.9, 0.7, 0.9, 0.6], abs=1e-6)
    assert float(found) == 0.5


def test_l2_moves_by_hand() -> None:
    x = torch.full((1, 1, 1, 2), 0.5)
    loss = Seen(lambda v: (v * torch.tensor([3.0, -4.0])).flatten(1).sum(1))
    norm = L2()
    norm.sample = lambda like, eps: torch.zeros_like(like)  # type: ignore[method-assign]
    found = apgd(loss, x, norm=norm, eps=0.25, steps=3)
    # The unit direction is (0.6, -0.8); 0.5 of it is cut to 0.25 and stays there.
    assert [v.flatten().tolist() for v in loss.points[1:]] == [pytest.approx([0.65, 0.3])] * 3
    assert found.flatten().tolist() == pytest.approx([0.65, 0.3])


def test_finds_a_maximum_that_a_fixed_step_misses() -> None:
    peak = 0.62
    fixed = pgd(lambda v: -2 * (v - peak), HALF, norm=Linf(), eps=0.4, steps=100, step_size=0.8, score=hill(peak))
    assert abs(float(fixed) - peak) > 0.01
    assert float(apgd(hill(peak), HALF, norm=Linf(), eps=0.4)) == pytest.approx(peak, abs=0.003)


@pytest.mark.parametrize("norm", [Linf(), L2()], ids=["Linf", "L2"])
@pytest.mark.parametrize("steps", [0, 1, 30])
def test_stays_in_the_ball_and_the_box(norm: Norm, steps: int) -> None:
    x, eps = torch.rand(3, 2, 4, 5).round(), {"Linf": 0.1, "L2": 0.5}[norm.name]
    loss = Seen(lambda v: (v * torch.randn_like(v)).flatten(1).sum(1))
    found = apgd(loss, x, norm=norm, eps=eps, steps=steps)
    assert len(loss.points) == steps + 1
    for v in (*loss.points, found):
        assert 0 <= v.min() <= v.max() <= 1
        assert norm.size(v - x).max() <= eps * (1 + 1e-5)
    assert not torch.equal(found, x)  # at least the random start moved it


@pytest.mark.parametrize("name", ["Linf", "L2"])
def test_samples_do_not_mix(name: str) -> None:
    norm: Norm = Linf() if name == "Linf" else L2()
    # In float64, because a batch of another size rounds otherwise, and 30 moves carry that on.
    model, x, y = network().double(), torch.rand(4, 2, 3, 4).double(), torch.tensor([0, 1, 2, 3])
    start = norm.sample(x, 0.1)

    def attack(chosen: slice, restarts: int, scored: bool) -> Tensor:
        norm.sample = lambda like, eps: start[chosen]  # type: ignore[method-assign]
        loss, score = dlr(model, y[chosen]), margin(model, y[chosen]) if scored else None
        return apgd(loss, x[chosen], norm=norm, eps=0.1, steps=30, restarts=restarts, score=score)

    for options in ((1, False), (2, True)):
        whole = attack(slice(None), *options)
        for i in range(4):
            torch.testing.assert_close(whole[i : i + 1], attack(slice(i, i + 1), *options), atol=1e-9, rtol=0)


@pytest.mark.parametrize(("at_once", "sizes"), [(None, [6]), (4, [4, 2]), (1, [2, 2, 2])])
def test_draws_average_losses_and_gradients_before_the_sign(at_once: int | None, sizes: list[int]) -> None:
    x = torch.full((2, 1, 1, 1), 0.5)
    seen: list[int] = []
    factors = iter([5.0, -1.0, -1.0] * 10)

    def loss(v: Tensor) -> Tensor:
        seen.append(len(v))
        each = torch.tensor([next(factors) for _ in range(len(v) // 2)]).repeat_interleave(2)
        return each * (v.flatten() - 0.5)

    found = apgd(loss, x, norm=Fixed(0.0), eps=0.2, steps=1, eot_samples=3, at_once=at_once)
    # The mean slope is 1: up, where two of three draws lead down. The mean loss there is 0.2, above that of the start.
    assert found.flatten().tolist() == pytest.approx([0.7, 0.7])
    assert seen == sizes * 2


def test_draws_of_a_deterministic_loss_change_nothing() -> None:
    model, x, y = network(), torch.rand(3, 2, 3, 4), torch.tensor([0, 1, 2])
    found = [apgd(cross_entropy(model, y), x, norm=Fixed(0.01), eps=0.1, steps=25, eot_samples=k) for k in (1, 3)]
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=0)


def test_the_point_of_highest_score_or_else_of_highest_loss() -> None:
    loss = Seen(hill(0.6))
    options: dict[str, Any] = {"norm": Fixed(0.0), "eps": 0.4, "steps": 40}
    found = apgd(loss, HALF, **options)
    assert float(found) == min(loss.trace(), key=lambda v: abs(v - 0.6))
    graphs: list[bool] = []

    def score(v: Tensor) -> Tensor:
        graphs.append(torch.is_grad_enabled())
        return -1 - (v - 0.42).abs().flatten()

    points = Seen(hill(0.6))
    assert float(apgd(points, HALF, **options, score=score)) == min(points.trace(), key=lambda v: abs(v - 0.42))
    assert graphs == [False] * 41


def test_restarts_keep_the_best() -> None:
    x = torch.full((2, 1, 1, 1), 0.5)
    norm = Fixed([0.1, 0.0], [0.3, -0.1], [0.2, 0.4])
    found = apgd(still, x, norm=norm, eps=0.4, steps=2, restarts=3)
    assert found.flatten().tolist() == pytest.approx([0.8, 0.9])
    assert norm.starts == 3


def test_a_settled_image_keeps_its_first_success_and_no_run_begins_when_all_are() -> None:
    x = torch.full((2, 1, 1, 1), 0.5)
    norm = Fixed([0.2, -0.2], [0.4, 0.0], [0.3, 0.3], [0.4, 0.4])
    found = apgd(still, x, norm=norm, eps=0.4, steps=2, restarts=9, score=lambda v: still(v) - 0.65)
    # The first image is there at once, and 0.9 does not replace 0.7. The second one gets there in the third run.
    assert found.flatten().tolist() == pytest.approx([0.7, 0.8])
    assert norm.starts == 3


def test_nan_keeps_the_clean_image_and_hurts_no_other() -> None:
    x = torch.full((2, 1, 1, 1), 0.5)
    broken = apgd(lambda v: v.flatten() * torch.tensor([torch.nan, 1]), x, norm=Linf(), eps=0.2, steps=20)
    assert broken.isfinite().all()
    assert float(broken[1]) == pytest.approx(0.7)
    scored = apgd(still, x, norm=Linf(), eps=0.2, steps=3, score=lambda v: still(v) * torch.nan)
    assert torch.equal(scored, x)


def test_no_images_and_no_radius() -> None:
    none = torch.zeros(0, 1, 3, 4)
    for norm in (Linf(), L2()):
        options: dict[str, Any] = {"norm": norm, "steps": 3, "restarts": 2}
        assert apgd(still, none, **options, eps=0.1, score=still).shape == none.shape
        x = torch.rand(2, 1, 3, 4)
        assert torch.equal(apgd(lambda v: v.flatten(1).sum(1), x, **options, eps=0.0), x)


def test_leaves_no_trace() -> None:
    model, x, y = network(), torch.rand(2, 2, 3, 4).requires_grad_(), torch.tensor([0, 1])
    model[1].weight.grad = torch.full((8, 24), 7.0)
    before = x.detach().clone()
    with torch.no_grad():
        found = apgd(cross_entropy(model, y), x, norm=Linf(), eps=0.1, steps=5, score=margin(model, y))
    assert not found.requires_grad
    assert torch.equal(x, before)
    assert x.grad is None
    assert model[1].weight.grad.unique().tolist() == [7]
    assert [p.grad is None for p in model.parameters()] == [False, True, True, True]
    assert model.training


def test_random_starts_are_those_of_the_ambient_generator() -> None:
    x = torch.rand(3, 1, 4, 4)
    options: dict[str, Any] = {"norm": Linf(), "eps": 0.1, "steps": 0}
    torch.manual_seed(3)
    first = apgd(still, x, **options)
    assert not torch.equal(apgd(still, x, **options), first)
    torch.manual_seed(3)
    assert torch.equal(apgd(still, x, **options), first)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"norm": Unknown()}, "expected norm Linf, L2, L1, got L0"),
        ({"eps": -0.1}, "expected eps >= 0, steps >= 0 and restarts >= 1, got eps=-0.1"),
        ({"eps": float("nan")}, "got eps=nan"),
        ({"steps": -1}, "got eps=0.1, steps=-1"),
        ({"restarts": 0}, "restarts=0"),
        ({"eot_samples": 0}, "expected eot_samples >= 1 and at_once >= 1, got eot_samples=0"),
        ({"at_once": 0}, "at_once=0"),
        ({"rho": 1.5}, r"expected rho in \[0, 1\], got 1.5"),
    ],
)
def test_bad_arguments(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        apgd(still, HALF, **{"norm": Linf(), "eps": 0.1, **bad})


def test_restarts_go_on_where_a_success_was_not_confirmed() -> None:
    """A randomised model scores above 0 in every gradient pass and below it in every pass that confirms."""
    graphs = []

    def model(v: Tensor) -> Tensor:
        graphs.append(torch.is_grad_enabled())
        one = 0 * v.flatten(1).sum(1)
        return torch.stack([one, one + (1 if torch.is_grad_enabled() else -1)], 1)

    y = torch.zeros(2).long()
    options = {"norm": Linf(), "eps": 0.1, "steps": 4, "score": margin(model, y), "leave": Leave(2)}
    apgd(cross_entropy(model, y), torch.rand(2, 1, 2, 2), **options, restarts=3)
    assert sum(graphs) == 3 * 4


def test_what_left_a_run_is_settled_and_not_replaced() -> None:
    """Beyond 0.5 each sample is wrong, towards one class or the other, so that the mean is right: margin below 0."""
    sides = itertools.cycle([(1.0, 2.0, -10.0), (1.0, -10.0, 2.0)])

    def model(v: Tensor) -> Tensor:
        beyond = (v.flatten(1).mean(1) > 0.5)[:, None]
        right = torch.tensor([1.0, 0.0, 0.0]) + 0 * v.flatten(1).sum(1, keepdim=True)
        return torch.where(beyond, torch.tensor(next(sides)), right)

    x, y = torch.full((20, 1, 1, 1), 0.5), torch.zeros(20).long()
    left = []
    for restarts in (1, 6):
        torch.manual_seed(0)
        options = {"norm": Linf(), "eps": 0.1, "steps": 0, "score": margin(model, y), "leave": Leave(2)}
        x_adv = apgd(cross_entropy(model, y), x, **options, restarts=restarts, eot_samples=2, at_once=1)
        left.append(int((x_adv.flatten() <= 0.5).sum()))
    assert left[0] > 3
    assert left[1] < left[0] / 2
