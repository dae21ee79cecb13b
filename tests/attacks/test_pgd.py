"""The one PGD loop: by hand on linear losses, against a plain reference, inside the ball and the box."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from art_ext.attacks import L1, L2, NORMS, Linf, ascent, cross_entropy, logit_margin, pgd


def test_one_step_by_hand_in_every_norm() -> None:
    x = torch.full((1, 1, 1, 2), 0.5)

    def slope(v: Tensor) -> Tensor:
        return torch.tensor([3.0, -4.0]).view(1, 1, 1, 2).expand_as(v)

    options = {"eps": 0.2, "steps": 1, "step_size": 0.1, "random_start": False}
    assert pgd(slope, x, norm=Linf(), **options).flatten().tolist() == pytest.approx([0.6, 0.4])
    assert pgd(slope, x, norm=L2(), **options).flatten().tolist() == pytest.approx([0.56, 0.42])
    assert pgd(slope, x, norm=L1(), **options).flatten().tolist() == pytest.approx([0.5, 0.4])
    many = options | {"steps": 10}  # the border of the ball
    assert pgd(slope, x, norm=Linf(), **many).flatten().tolist() == pytest.approx([0.7, 0.3])
    assert pgd(slope, x, norm=L2(), **many).flatten().tolist() == pytest.approx([0.62, 0.34])
    far = many | {"eps": 0.8}  # the border of the box
    assert pgd(slope, x, norm=Linf(), **far).flatten().tolist() == [1, 0]


def test_momentum_by_hand() -> None:
    gradients = iter([torch.tensor([2.0, -2.0]), torch.tensor([-1.0, -3.0])])

    def gradient(v: Tensor) -> Tensor:
        return next(gradients).view(1, 1, 1, 2)

    x = torch.full((1, 1, 1, 2), 0.5)
    # Scaled to mean absolute value 1: (1, -1), then (-0.5, -1.5). Velocity with momentum 1: (1, -1), (0.5, -2.5).
    found = pgd(gradient, x, norm=Linf(), eps=0.4, steps=2, step_size=0.1, random_start=False, momentum=1.0)
    assert found.flatten().tolist() == pytest.approx([0.7, 0.3])  # without momentum the second step is (-1, -1): 0.5


def test_equals_a_plain_reference() -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(24, 8), nn.Tanh(), nn.Linear(8, 3))
    x, y = torch.rand(5, 2, 3, 4), torch.arange(5) % 3
    plain = x.clone()
    for _ in range(7):
        plain.requires_grad_()
        loss = nn.functional.cross_entropy(model(plain), y)
        (g,) = torch.autograd.grad(loss, plain)
        plain = torch.min(torch.max(plain.detach() + 0.02 * g.sign(), x - 0.05), x + 0.05).clamp(0, 1)
    ours = pgd(ascent(cross_entropy(model, y)), x, norm=Linf(), eps=0.05, steps=7, step_size=0.02, random_start=False)
    assert torch.allclose(ours, plain, atol=1e-6)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("steps", [0, 1, 6])
def test_stays_in_the_ball_and_the_box(name: str, steps: int) -> None:
    x = torch.rand(3, 2, 4, 5).round(decimals=1)
    eps = {"Linf": 0.1, "L2": 0.5, "L1": 2.0}[name]
    found = pgd(torch.randn_like, x, norm=NORMS[name], eps=eps, steps=steps)
    assert found.shape == x.shape
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    assert float(NORMS[name].size(found - x).max()) <= eps * (1 + 1e-5)
    assert not torch.equal(found, x)  # at least the random start moved it


def test_no_steps_and_no_start_give_the_images_back() -> None:
    x = torch.rand(2, 1, 3, 4)
    found = pgd(torch.randn_like, x, norm=Linf(), eps=0.1, steps=0, random_start=False)
    assert torch.equal(found, x)
    assert found is not x


def test_score_keeps_each_samples_best_iterate() -> None:
    x = torch.full((2, 1, 1, 1), 0.5)

    def score(v: Tensor) -> Tensor:  # best at 0.6 for the first sample, at the end for the second
        return torch.stack([-(v[0] - 0.6).abs().sum(), v[1].sum()])

    options = {"norm": Linf(), "eps": 0.4, "steps": 4, "step_size": 0.1, "random_start": False}
    assert pgd(torch.ones_like, x, **options, score=score).flatten().tolist() == pytest.approx([0.6, 0.9])
    assert pgd(torch.ones_like, x, **options).flatten().tolist() == pytest.approx([0.9, 0.9])


def test_samples_do_not_mix() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(24, 3))
    x, y = torch.rand(4, 2, 3, 4), torch.tensor([0, 1, 2, 0])
    options = {"norm": L2(), "eps": 0.5, "steps": 5, "random_start": False, "momentum": 0.5}
    whole = pgd(ascent(cross_entropy(model, y)), x, **options)
    for i in range(4):
        alone = pgd(ascent(cross_entropy(model, y[i : i + 1])), x[i : i + 1], **options)
        assert torch.allclose(whole[i : i + 1], alone, atol=1e-6)


def test_breaks_an_undefended_model() -> None:
    x = torch.rand(200, 1, 4, 4)
    y = (x.flatten(1)[:, :8].sum(1) > x.flatten(1)[:, 8:].sum(1)).long()
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert float((model(x).argmax(1) == y).float().mean()) > 0.95
    x_adv = pgd(ascent(cross_entropy(model, y)), x, norm=Linf(), eps=0.3, steps=10)
    assert float((logit_margin(model(x_adv), y) < 0).float().mean()) < 0.05


@pytest.mark.parametrize("bad", [{"eps": -0.1, "steps": 1}, {"eps": 0.1, "steps": -1}])
def test_bad_arguments(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected eps >= 0 and steps >= 0"):
        pgd(torch.ones_like, torch.rand(1, 1, 2, 2), norm=Linf(), **bad)
