"""Auto-PGD in L1: projection, sparse step and checkpoints by hand, and its strength beside AutoAttack's own."""

from __future__ import annotations

import pytest
import torch
from pyautoattack.autopgd_base import APGDAttack, L1_projection
from torch import Tensor, nn

from art_ext.attacks import L1, Leave, apgd, cross_entropy, margin
from art_ext.attacks.climbs import SparseClimb


def test_the_projection_by_hand() -> None:
    """The box stops the first value at + 0.5; half a unit is left for the other two, which lose 0.75 each."""
    x, delta = torch.tensor([[0.5, 0.5, 0.0]]), torch.tensor([[2.0, -1.0, 1.0]])
    assert L1().project_in_box(delta, 1.0, x).tolist() == [pytest.approx([0.5, -0.25, 0.25], abs=1e-6)]
    assert L1().project_in_box(delta, 9.0, x).tolist() == [[0.5, -0.5, 1.0]]  # the box alone
    assert L1().project_in_box(delta, 0.0, x).abs().sum() == 0
    assert L1().project_in_box(torch.zeros(1, 3), 1.0, x).abs().sum() == 0


@pytest.mark.parametrize("eps", [0.5, 3.0, 10.0, 100.0])
def test_the_projection_is_that_of_autoattack(eps: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x, delta = torch.rand(20, 1, 6, 6, generator=generator), 2 * torch.randn(20, 1, 6, 6, generator=generator)
    found = L1().project_in_box(delta, eps, x)
    torch.testing.assert_close(found, delta + L1_projection(x, delta, eps), atol=2e-5, rtol=0)
    assert float(found.abs().flatten(1).sum(1).max()) <= eps * (1 + 1e-6)
    assert bool(((x + found >= -1e-7) & (x + found <= 1 + 1e-7)).all())


def climb(start: list[float], gradient: list[float]) -> SparseClimb:
    x = torch.full((1, 10), 0.5)
    return SparseClimb(x, x + torch.tensor([start]), (torch.zeros(1), torch.tensor([gradient])), 1.0)


def test_the_first_step_changes_a_fifth_of_the_pixels() -> None:
    """From the clean image: the two largest of ten gradients share the step of size eps; eps 0.4 cuts it."""
    moved = climb([0.0] * 10, [3, -2, 1, 0, 0, 0, 0, 0, 0, 0]).aim(L1(), 0.4, first=True)
    assert (moved - 0.5).flatten().tolist() == pytest.approx([0.2, -0.2, *[0] * 8], abs=1e-6)


def test_checkpoints_by_hand() -> None:
    """A start in six pixels steps in 6 / 10 / 1.5 of them. A best point in three is sparser, one in six is not."""
    for changed, size, place in [(3, 1.0, "best"), (6, 1 / 1.5, "here")]:
        found = climb([0.1] * 6 + [0.0] * 4, [1.0] * 10)
        assert found.share.tolist() == pytest.approx([0.4])
        best = 0.5 + torch.tensor([[0.2] * changed + [0.0] * (10 - changed)])
        found.move(best, torch.ones(1), torch.zeros(1, 10))
        here = torch.full((1, 10), 0.6)
        found.move(here, torch.zeros(1), torch.zeros(1, 10))
        found.judge(2, 0.75)
        assert found.share.tolist() == pytest.approx([changed / 15])
        assert found.step_size.tolist() == pytest.approx([size])
        assert torch.equal(found.x, best if place == "best" else here)
    for _ in range(9):
        found.judge(2, 0.75)
    assert found.step_size.tolist() == pytest.approx([0.1])  # never below a tenth


class Counted:
    """A loss whose passes are counted."""

    def __init__(self, model: nn.Module, y: Tensor) -> None:
        self.loss, self.passes = cross_entropy(model, y), 0

    def __call__(self, v: Tensor) -> Tensor:
        self.passes += 1
        return self.loss(v)


def problem() -> tuple[nn.Module, Tensor, Tensor]:
    """A small network, 24 images that it gets right, and their labels."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 5)).requires_grad_(False)
    x = torch.rand(24, 1, 8, 8, generator=generator)
    return model, x, model(x).argmax(1)


def left(model: nn.Module, x_adv: Tensor, y: Tensor) -> float:
    return float((model(x_adv).argmax(1) == y).float().mean())


def test_it_leaves_as_few_as_autoattacks_own() -> None:
    model, x, y = problem()
    rates = []
    for eps in (0.3, 0.6, 1.0):
        torch.manual_seed(0)
        ours = apgd(cross_entropy(model, y), x, norm=L1(), eps=eps, steps=50, score=margin(model, y))
        assert float((ours - x).abs().flatten(1).sum(1).max()) <= eps * (1 + 1e-5)
        assert torch.equal(ours, ours.clamp(0, 1))
        theirs = APGDAttack(model, n_iter=50, norm="L1", eps=eps, device="cpu", loss="ce", use_largereps=True).perturb(
            x, y
        )
        rates.append((left(model, ours, y), left(model, theirs, y)))
    assert all(a <= b + 1 / 24 for a, b in rates), rates
    assert rates[0][0] > rates[-1][0]  # the radii tell something


def test_it_takes_the_passes_that_it_says_and_leaves_when_it_may() -> None:
    model, x, y = problem()
    counted = Counted(model, y)
    apgd(counted, x, norm=L1(), eps=0.5, steps=10)
    assert counted.passes == 10 + 3  # one more in each ball
    rated = {"score": margin(model, y), "norm": L1(), "eps": 2.0, "steps": 20}
    torch.manual_seed(0)
    whole = left(model, apgd(cross_entropy(model, y), x, **rated), y)
    torch.manual_seed(0)
    parted = apgd(cross_entropy(model, y), x, leave=Leave(1, margin(model, y)), **rated)
    assert left(model, parted, y) == whole < 0.5


def test_what_breaks_in_a_larger_ball_counts_for_nothing() -> None:
    """An image that only leaves its class beyond eps is not lost to the run: it comes back inside."""
    model, x, y = problem()
    out = apgd(cross_entropy(model, y), x, norm=L1(), eps=1e-3, steps=10, score=margin(model, y))
    assert float((out - x).abs().flatten(1).sum(1).max()) <= 1e-3 * (1 + 1e-3)
    assert left(model, out, y) == 1
