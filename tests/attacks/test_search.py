"""What StAdv, ReColorAdv and the JPEG attack have in common: one search, one set of refusals, no traces."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.attacks import jpeg_attack, logit_margin, recoloradv, stadv
from art_ext.attacks.search import adam, best_iterate, roughness, sign_steps

ATTACKS: dict[str, tuple[Callable[..., Tensor], dict[str, Any]]] = {
    "stadv": (stadv, {"bound": 0.2, "step_size": 0.05}),
    "recoloradv": (recoloradv, {"bound": 0.2, "step_size": 0.05, "grid": (3, 4, 5)}),
    "jpeg": (jpeg_attack, {"eps": 1.0}),
}
EVERY = pytest.mark.parametrize("name", ATTACKS)


def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(60, 8), nn.Tanh(), nn.Linear(8, 3))


def images(n: int = 3) -> Tensor:
    return torch.rand(n, 3, 4, 5)


def run(name: str, model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, **options: Any) -> Tensor:
    attack, defaults = ATTACKS[name]
    return attack(model, x, y, **{"steps": 4, **defaults, **options})


def test_best_iterate_by_hand() -> None:
    x = torch.zeros(4, 1, 1, 1)
    variable = torch.zeros(4, requires_grad=True)
    graphs: list[bool] = []

    def attempt(v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        graphs.append(torch.is_grad_enabled())
        a, b, c, d = v
        # Best after two steps; after the last; before the first; NaN, which beats nothing: the clean image stays.
        value = torch.stack([-(a - 0.2).abs(), b, -c, d * torch.nan])
        return v.view(4, 1, 1, 1) + 0.5, value, v

    found = best_iterate(x, variable, attempt, sign_steps(variable, bound=1.0, step_size=0.1), 4)
    assert found.flatten().tolist() == pytest.approx([0.7, 0.9, 0.5, 0.0])
    assert graphs == [True] * 4 + [False]
    assert not found.requires_grad


def test_updates_by_hand() -> None:
    gradient = torch.tensor([3.0, -0.5, 0.0])
    for update_of, slack in ((adam, 1e-6), (sign_steps, 1e-8)):  # Adam's first step is the sign too, but for its 1e-8
        variable = torch.zeros(3, requires_grad=True)
        update = update_of(variable, bound=0.15, step_size=0.1)
        update(gradient)
        assert variable.tolist() == pytest.approx([0.1, -0.1, 0.0], abs=slack)
        update(gradient)
        assert variable.tolist() == pytest.approx([0.15, -0.15, 0.0], abs=slack)
    # Adam remembers: mean 0.9 * 0.1 * 3 - 0.1 * 3 = -0.03 over 1 - 0.9^2, square 9. The sign alone would go back to 0.
    variable = torch.zeros(1, requires_grad=True)
    update = adam(variable, bound=1.0, step_size=0.1)
    update(torch.tensor([3.0]))
    update(torch.tensor([-3.0]))
    assert variable.tolist() == pytest.approx([0.1 - 0.1 * (0.03 / 0.19) / 3])


def test_roughness_by_hand() -> None:
    pair = torch.tensor([[0.0, 3.0], [0.0, 4.0]]).view(1, 2, 1, 2)  # two points whose vectors differ by (3, 4)
    assert roughness(pair).tolist() == pytest.approx([2 * 5])
    corner = torch.zeros(2, 1, 2, 2, 2)
    corner[1, 0, 0, 1, 0] = 0.5  # one point of a cube, three neighbours, seen from both ends
    assert roughness(corner).tolist() == pytest.approx([0, 6 * 0.5], abs=1e-3)  # 24 times sqrt(1e-10)
    assert roughness(torch.full((2, 2, 3, 4), 0.7)).tolist() == pytest.approx([34 * 1e-5] * 2)  # 17 pairs
    flat = torch.zeros(1, 2, 3, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(roughness(flat).sum(), flat)
    assert not gradient.any()


@EVERY
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_one_pass_a_step_and_images_in_the_box(name: str, steps: int) -> None:
    x, y, model = images().round(), torch.arange(3), network()
    seen: list[Tensor] = []
    x_adv = run(name, lambda v: seen.append(v) or model(v), x, y, steps=steps)
    assert len(seen) == steps + 1
    for v in (*seen, x_adv):
        assert v.shape == x.shape
        assert 0 <= v.min() <= v.max() <= 1
    assert not x_adv.requires_grad


@EVERY
@pytest.mark.parametrize("targeted", [False, True])
def test_gives_the_iterate_of_highest_margin(name: str, targeted: bool) -> None:
    x, y, smooth = images(), torch.arange(3), network()
    seen: list[Tensor] = []

    def model(v: Tensor) -> Tensor:  # up and down: the last iterate is not the best one of every image
        return torch.sin(20 * smooth(v))

    options: dict[str, Any] = {"steps": 6, "targeted": targeted}
    x_adv = run(name, lambda v: seen.append(v.detach()) or model(v), x, y, **options)
    sign = -1 if targeted else 1
    margins = torch.stack([sign * logit_margin(model(v), y) for v in seen]).detach()
    torch.testing.assert_close(x_adv, torch.stack(seen)[margins.argmax(0), torch.arange(3)], atol=1e-6, rtol=0)
    assert bool((margins[-1] < margins.amax(0)).any())
    assert bool((margins.amax(0) > margins[0]).any())


@EVERY
def test_samples_do_not_mix(name: str) -> None:
    model, x, y = network(), images(), torch.arange(3)
    others = torch.cat([x[:1], images(2)])
    torch.manual_seed(1)
    first = run(name, model, x, y)
    torch.manual_seed(1)  # the same start
    second = run(name, model, others, torch.tensor([0, 0, 1]))
    torch.testing.assert_close(first[0], second[0], atol=1e-6, rtol=0)
    assert not torch.allclose(first[1], second[1], atol=1e-2)


@EVERY
@pytest.mark.parametrize("training", [False, True])
def test_leaves_no_trace(name: str, training: bool) -> None:
    model = network().train(training)
    x, y = images().requires_grad_(), torch.arange(3)
    before = x.detach().clone()
    modes: set[bool] = set()
    run(name, lambda v: modes.add(model.training) or model(v), x, y)
    assert modes == {training}
    assert model.training == training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert x.grad is None
    assert torch.equal(x, before)


@EVERY
def test_randomness_is_torchs_global_generator(name: str) -> None:
    model, x, y = network(), images(), torch.arange(3)
    torch.manual_seed(3)
    first = run(name, model, x, y)
    assert torch.initial_seed() == 3
    torch.manual_seed(3)
    assert torch.equal(run(name, model, x, y), first)
    if name != "recoloradv":  # which draws nothing
        assert not torch.equal(run(name, model, x, y), first)
    with torch.no_grad():
        torch.manual_seed(3)
        assert torch.equal(run(name, model, x, y), first)


@EVERY
def test_no_images_and_doubles(name: str) -> None:
    x_adv = run(name, network(), torch.zeros(0, 3, 4, 5), torch.zeros(0, dtype=torch.long))
    assert x_adv.shape == (0, 3, 4, 5)
    x_adv = run(name, network().double(), images().double(), torch.arange(3))
    assert x_adv.dtype == torch.float64


@EVERY
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"steps": -1}, "expected steps >= 0, got -1"),
        ({"step_size": 0.0}, "expected a finite step_size > 0, got 0.0"),
        ({"radius": 0.0}, "expected a finite (bound|eps) > 0, got 0.0"),
        ({"radius": math.inf}, "expected a finite (bound|eps) > 0, got inf"),
        ({"radius": math.nan}, "expected a finite (bound|eps) > 0, got nan"),
        ({"y": torch.arange(2)}, r"expected labels of shape \(3,\), got shape \(2,\)"),
        ({"y": torch.zeros(3, 3)}, r"expected labels of shape \(3,\), got shape \(3, 3\)"),
        ({"x": torch.rand(3, 4, 5)}, r"expected images of shape \(N, C, H, W\), got shape \(3, 4, 5\)"),
    ],
)
def test_bad_arguments(name: str, bad: dict[str, Any], message: str) -> None:
    given = {"x": images(), "y": torch.arange(3), **bad}
    if "radius" in given:
        given["eps" if name == "jpeg" else "bound"] = given.pop("radius")
    with pytest.raises(ValueError, match=message):
        run(name, lambda v: pytest.fail("the model was called"), given.pop("x"), given.pop("y"), **given)


@pytest.mark.parametrize("name", ["stadv", "recoloradv"])
@pytest.mark.parametrize("smoothness", [-1.0, math.inf, math.nan])
def test_bad_smoothness(name: str, smoothness: float) -> None:
    with pytest.raises(ValueError, match=f"expected a finite smoothness >= 0, got {smoothness}"):
        run(name, network(), images(), torch.arange(3), smoothness=smoothness)
