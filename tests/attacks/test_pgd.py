"""The one PGD loop: by hand on linear losses, against a plain reference, inside the ball and the box."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.attacks import L1, L2, NORMS, Gradient, Leave, Linf, apgd, ascent, cross_entropy, logit_margin, margin, pgd

EPS = {"Linf": 0.1, "L2": 0.5, "L1": 2.0}


def slope(v: Tensor) -> Tensor:
    return torch.tensor([3.0, -4.0]).view(1, 1, 1, 2).expand_as(v)


def sequence(*gradients: list[float]) -> Gradient:
    """The n-th call gives the n-th of these, for one image of two pixels."""
    left = iter(gradients)
    return lambda v: torch.tensor(next(left)).view_as(v)


def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(24, 8), nn.Tanh(), nn.Linear(8, 3))


@pytest.mark.parametrize(
    ("norm", "one", "border", "box"),
    [
        # One step of 0.1; the ball of 0.2; the ball of 0.75, which the box cuts.
        (Linf(), [0.6, 0.4], [0.7, 0.3], [1.0, 0.0]),
        # The unit direction is (0.6, -0.8). In the box both pixels get to the end: 0.5^2 + 0.5^2 < 0.75^2.
        (L2(), [0.56, 0.42], [0.62, 0.34], [1.0, 0.0]),
        # A twentieth of two pixels is the second one alone, and it gets the whole step. At 0 the box stops it, and the
        # first one gets the 0.75 - 0.5 that are left. Beyond that the projection takes from both by turns, with this
        # point at every even step: delta (0.375, -0.5) to (0.3125, -0.4375), (0.3125, -0.5625) to (0.25, -0.5).
        (L1(), [0.5, 0.4], [0.5, 0.3], [0.75, 0.0]),
    ],
    ids=["Linf", "L2", "L1"],
)
def test_linear_model_by_hand(norm: Linf | L2 | L1, one: list[float], border: list[float], box: list[float]) -> None:
    x = torch.full((1, 1, 1, 2), 0.5)
    options: dict[str, Any] = {"norm": norm, "random_start": False}
    assert pgd(slope, x, **options, eps=0.2, steps=1, step_size=0.1).flatten().tolist() == pytest.approx(one)
    assert pgd(slope, x, **options, eps=0.2, steps=10, step_size=0.1).flatten().tolist() == pytest.approx(border)
    assert pgd(slope, x, **options, eps=0.75, steps=20, step_size=0.125).flatten().tolist() == pytest.approx(box)


def test_default_step_size() -> None:
    x = torch.full((1, 1, 1, 2), 0.5)
    # 2.5 * eps / steps = 2.5 * 0.2 / 5 = 0.1: two steps of the five already reach the border.
    found = []
    pgd(lambda v: found.append(v) or slope(v), x, norm=Linf(), eps=0.2, steps=5, random_start=False)
    trace = [v.flatten().tolist() for v in found]
    assert trace[1] == pytest.approx([0.6, 0.4])
    assert trace[2] == trace[4] == pytest.approx([0.7, 0.3])


@pytest.mark.parametrize(
    ("momentum", "norm", "expected"),
    [
        # The gradients (2, -2) and (-4, -12), scaled to mean absolute value 1: (1, -1) and (-0.5, -1.5).
        # Unscaled, both velocities would end at the signs (-1, -1).
        (0.5, Linf(), [0.6, 0.3]),  # velocity 0.5 * (1, -1) + (-0.5, -1.5) = (0, -2)
        (1.0, Linf(), [0.7, 0.3]),  # (1, -1) + (-0.5, -1.5) = (0.5, -2.5)
        (0.0, Linf(), [0.5, 0.3]),  # (-4, -12) alone
        (0.5, L2(), [0.570711, 0.329289]),  # 0.1 * (1, -1) / sqrt(2), then 0.1 * (0, -1)
    ],
)
def test_momentum_by_hand(momentum: float, norm: Linf | L2, expected: list[float]) -> None:
    x = torch.full((1, 1, 1, 2), 0.5)
    gradient = sequence([2.0, -2.0], [-4.0, -12.0])
    found = pgd(gradient, x, norm=norm, eps=0.4, steps=2, step_size=0.1, random_start=False, momentum=momentum)
    assert found.flatten().tolist() == pytest.approx(expected, abs=1e-6)


def test_momentum_scales_every_gradient_of_every_sample_however_small() -> None:
    x = torch.full((2, 1, 1, 2), 0.5)
    first, second = torch.tensor([2.0, -2.0]), torch.tensor([-4.0, -12.0])
    # The first sample's gradients shrink to 1e-20, a zero gradient follows; the second sample's stay.
    both = [torch.stack([first, first]), torch.stack([1e-20 * second, second]), torch.zeros(2, 2)]
    gradients = iter(both)
    # Velocities (1, -1), (0, -2), (0, -1): the last step goes where the velocity points.
    options: dict[str, Any] = {"eps": 0.4, "steps": 3, "step_size": 0.1, "random_start": False, "momentum": 0.5}
    found = pgd(lambda v: next(gradients).view_as(v), x, norm=Linf(), **options)
    assert found.flatten(1).tolist() == [pytest.approx([0.6, 0.2])] * 2


@pytest.mark.parametrize("random_start", [False, True])
def test_equals_a_plain_linf_reference(random_start: bool) -> None:
    model, x, y = network(), torch.rand(5, 2, 3, 4), torch.arange(5) % 3
    torch.manual_seed(7)
    plain = x.clone()
    if random_start:
        plain = (x + torch.empty_like(x).uniform_(-0.05, 0.05)).clamp(0, 1)
    for _ in range(7):
        plain.requires_grad_()
        (g,) = torch.autograd.grad(nn.functional.cross_entropy(model(plain), y), plain)
        plain = torch.min(torch.max(plain.detach() + 0.02 * g.sign(), x - 0.05), x + 0.05).clamp(0, 1)
    torch.manual_seed(7)
    options: dict[str, Any] = {"eps": 0.05, "steps": 7, "step_size": 0.02, "random_start": random_start}
    ours = pgd(ascent(cross_entropy(model, y)), x, norm=Linf(), **options)
    torch.testing.assert_close(ours, plain, atol=1e-6, rtol=0)
    assert not torch.equal(ours, x)


def test_equals_a_plain_l2_reference() -> None:
    model, x, y = network(), torch.rand(5, 2, 3, 4), torch.arange(5) % 3
    expected = []
    for i in range(5):  # one image at a time
        plain = x[i].clone()
        for _ in range(7):
            plain.requires_grad_()
            (g,) = torch.autograd.grad(nn.functional.cross_entropy(model(plain[None]), y[i : i + 1]), plain)
            delta = plain.detach() + 0.1 * g / g.norm() - x[i]
            plain = (x[i] + delta * min(1.0, 0.4 / float(delta.norm()))).clamp(0, 1)
        expected.append(plain)
    ours = pgd(ascent(cross_entropy(model, y)), x, norm=L2(), eps=0.4, steps=7, step_size=0.1, random_start=False)
    torch.testing.assert_close(ours, torch.stack(expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("steps", [0, 1, 6])
def test_stays_in_the_ball_and_the_box(name: str, steps: int) -> None:
    x = torch.rand(3, 2, 4, 5).round()  # every pixel at a border of the box
    seen: list[Tensor] = []
    found = pgd(lambda v: seen.append(v) or torch.randn_like(v), x, norm=NORMS[name], eps=EPS[name], steps=steps)
    assert found.shape == x.shape
    assert len(seen) == steps
    for v in (*seen, found):  # the gradient too is only ever asked inside
        assert 0 <= v.min() <= v.max() <= 1
        assert NORMS[name].size(v - x).max() <= EPS[name] * (1 + 1e-5)
    assert not torch.equal(found, x)  # at least the random start moved it


def test_random_start_fills_the_ball() -> None:
    x = torch.full((500, 1, 2, 3), 0.5)
    found = pgd(torch.ones_like, x, norm=Linf(), eps=0.1, steps=0)
    assert float((found - x).abs().mean()) == pytest.approx(0.05, rel=0.05)
    assert len(found.flatten(1).unique(dim=0)) == 500
    assert not torch.equal(pgd(torch.ones_like, x, norm=Linf(), eps=0.1, steps=0), found)


def test_no_steps_and_no_start_give_the_images_back() -> None:
    x = torch.rand(2, 1, 3, 4)
    for norm in NORMS.values():
        found = pgd(torch.randn_like, x, norm=norm, eps=0.1, steps=0, random_start=False)
        assert torch.equal(found, x)
        found[:] = 0  # a copy: the clean images stay
        assert x.max() > 0
        assert torch.equal(pgd(torch.randn_like, x, norm=norm, eps=0.0, steps=3), x)


def test_no_images() -> None:
    x = torch.zeros(0, 1, 3, 4)
    for norm in NORMS.values():
        options: dict[str, Any] = {"norm": norm, "eps": 0.1, "steps": 2, "momentum": 1.0}
        assert pgd(torch.randn_like, x, **options, score=lambda v: v.flatten(1).sum(1)).shape == x.shape


def test_the_images_stay_as_they_were() -> None:
    x = torch.rand(2, 2, 3, 4).requires_grad_()
    before = x.detach().clone()
    found = pgd(ascent(cross_entropy(network(), torch.tensor([0, 1]))), x, norm=Linf(), eps=0.1, steps=3)
    assert torch.equal(x, before)
    assert not found.requires_grad
    assert x.grad is None


def test_score_keeps_each_samples_best_iterate() -> None:
    x = torch.full((4, 1, 1, 1), 0.5)
    graphs: list[bool] = []

    def score(v: Tensor) -> Tensor:
        graphs.append(torch.is_grad_enabled())
        a, b, c, d = v.flatten()
        # Best at 0.7 on the way, where 0.8 still beats the start; at the end; at the start; NaN, which beats nothing.
        return torch.stack([-(a - 0.7).abs(), b, -c, d * torch.nan])

    options: dict[str, Any] = {"norm": Linf(), "eps": 0.4, "steps": 4, "step_size": 0.1, "random_start": False}
    found = pgd(torch.ones_like, x, **options, score=score)
    assert found.flatten().tolist() == pytest.approx([0.7, 0.9, 0.5, 0.5])
    assert graphs == [False] * 5  # the start and four steps, none with a graph
    assert pgd(torch.ones_like, x, **options).flatten().tolist() == pytest.approx([0.9] * 4)


@pytest.mark.parametrize("name", NORMS)
def test_samples_do_not_mix(name: str) -> None:
    model, x, y = network(), torch.rand(4, 2, 3, 4), torch.tensor([0, 1, 2, 0])
    options: dict[str, Any] = {"norm": NORMS[name], "eps": EPS[name], "steps": 5, "random_start": False}

    def attack(chosen: slice) -> Tensor:
        loss = cross_entropy(model, y[chosen])
        return pgd(ascent(loss), x[chosen], **options, momentum=0.5, score=loss)

    whole = attack(slice(None))
    for i in range(4):
        torch.testing.assert_close(whole[i : i + 1], attack(slice(i, i + 1)), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("name", "eps"), [("Linf", 0.3), ("L2", 1.0), ("L1", 4.0)])
def test_breaks_an_undefended_model(name: str, eps: float) -> None:
    x = torch.rand(200, 1, 4, 4)
    y = (x.flatten(1)[:, :8].sum(1) > x.flatten(1)[:, 8:].sum(1)).long()
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert float((model(x).argmax(1) == y).float().mean()) > 0.95
    noise = (x + NORMS[name].project(torch.randn_like(x), eps)).clamp(0, 1)
    assert float((model(noise).argmax(1) == y).float().mean()) > 0.5  # the budget alone does not do it
    x_adv = pgd(ascent(cross_entropy(model, y)), x, norm=NORMS[name], eps=eps, steps=20)
    assert float((logit_margin(model(x_adv), y) < 0).float().mean()) < 0.05


@pytest.mark.parametrize("bad", [{"eps": -0.1, "steps": 1}, {"eps": 0.1, "steps": -1}])
def test_bad_arguments(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"expected eps >= 0 and steps >= 0, got eps={bad['eps']}.*={bad['steps']}"):
        pgd(torch.ones_like, torch.rand(1, 1, 2, 2), norm=Linf(), **bad)


def test_start() -> None:
    x = torch.full((1, 1, 1, 2), 0.5)
    options: dict[str, Any] = {"norm": Linf(), "eps": 0.2}
    # A start inside the ball is taken, one outside is projected to it, and then a step of 0.1 follows.
    begun = torch.tensor([0.45, 0.95]).view_as(x)
    assert pgd(slope, x, **options, steps=0, start=begun).flatten().tolist() == pytest.approx([0.45, 0.7])
    assert pgd(slope, x, **options, steps=1, step_size=0.1, start=begun).flatten().tolist() == pytest.approx(
        [0.55, 0.6]
    )
    with pytest.raises(ValueError, match=r"start of shape \(1, 1, 1, 2\), got \(2,\)"):
        pgd(slope, x, **options, steps=1, start=torch.zeros(2))


class Counted(nn.Module):
    """Two classes: whether the pixels sum to more than half; counts the images that pass."""

    def __init__(self) -> None:
        super().__init__()
        self.forwards = 0

    def forward(self, v: Tensor) -> Tensor:
        self.forwards += len(v)
        total = v.flatten(1).mean(1) - 0.5
        return torch.stack([-total, total], 1)


@pytest.mark.parametrize("attack", [pgd, apgd])
def test_a_score_of_the_same_logits_costs_one_pass_more_and_changes_nothing(attack: Any) -> None:
    model, x, y = Counted(), torch.rand(6, 1, 4, 4), torch.tensor([0, 1] * 3)
    loss, start = cross_entropy(model, y), {"norm": Linf(), "eps": 0.05, "steps": 7}
    found = []
    for score in (margin(model, y), lambda v: margin(model, y)(v)):
        torch.manual_seed(1)
        model.forwards = 0
        found.append((attack(ascent(loss) if attack is pgd else loss, x, score=score, **start), model.forwards))
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1] == 6 * 8
    assert found[1][1] > 6 * 14


@pytest.mark.parametrize("attack", [pgd, apgd])
def test_an_image_leaves_when_it_is_broken_and_the_others_do_not_notice(attack: Any) -> None:
    model, x, y = Counted(), torch.linspace(0.3, 0.49, 8).view(8, 1, 1, 1).expand(8, 1, 3, 3), torch.zeros(8).long()
    options = {"norm": Linf(), "eps": 0.1, "steps": 20, "score": margin(model, y)}
    loss = cross_entropy(model, y)
    torch.manual_seed(0)
    every = attack(ascent(loss) if attack is pgd else loss, x, **options)
    passes, model.forwards = model.forwards, 0
    torch.manual_seed(0)
    some = attack(ascent(loss) if attack is pgd else loss, x, **options, leave=Leave())
    left = margin(model, y)(every) <= 0
    assert 0 < int(left.sum()) < 8
    assert torch.equal(left, margin(model, y)(some) <= 0)
    assert torch.equal(every[left], some[left])
    assert model.forwards < passes


@pytest.mark.parametrize("attack", [pgd, apgd])
@pytest.mark.parametrize(("wrong", "gradients"), [([True, False], 8), ([True], 1), ([False], 8)])
def test_a_randomised_model_is_asked_again_before_an_image_leaves(
    attack: Any, wrong: list[bool], gradients: int
) -> None:
    """Wrong in every second pass: no image leaves. Wrong in all of them: each does after the first."""
    answers, graphs = itertools.cycle(wrong), []

    def model(v: Tensor) -> Tensor:
        graphs.append(torch.is_grad_enabled())
        one = 0 * v.flatten(1).mean(1)
        return torch.stack([one, one + (1 if next(answers) else -1)], 1)

    y, x = torch.zeros(3).long(), torch.rand(3, 1, 2, 2)
    loss = cross_entropy(model, y)
    options = {"norm": Linf(), "eps": 0.1, "steps": 8, "score": margin(model, y), "leave": Leave(4)}
    attack(ascent(loss) if attack is pgd else loss, x, **options)
    assert sum(graphs) == gradients


@pytest.mark.parametrize("attack", [pgd, apgd])
def test_leaving_wants_a_score_and_losses_of_logits(attack: Any) -> None:
    model, x, y = Counted(), torch.full((2, 1, 2, 2), 0.6), torch.zeros(2).long()
    loss = cross_entropy(model, y)
    options = {"norm": Linf(), "eps": 0.1, "steps": 3, "leave": Leave()}
    with pytest.raises(ValueError, match="expected a score with leave"):
        attack(ascent(loss) if attack is pgd else loss, x, **options)
    y[1] = 1
    with pytest.raises(TypeError, match="loss of logits"):
        attack(ascent(loss) if attack is pgd else loss, x, **options, score=lambda v: margin(model, y)(v))
    with pytest.raises(ValueError, match="confirm"):
        Leave(-1)
