"""AutoAttack: each part breaks what only it can, in order; randomised models are judged over fresh passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.attacks import L1, L2, Linf, Norm, autoattack
from art_ext.attacks.autoattack import rated

OPTIONS: dict[str, Any] = {"norm": Linf(), "eps": 0.1, "steps": 5, "targets": 3, "queries": 20}


class Linear(nn.Module):
    """Logits of flattened images; counts passes with a gradient and without one."""

    def __init__(self, classes: int = 5, pixels: int = 12) -> None:
        super().__init__()
        self.weight = torch.randn(classes, pixels, generator=torch.Generator().manual_seed(1))
        self.gradients = self.forwards = 0

    def forward(self, v: Tensor) -> Tensor:
        self.gradients += v.requires_grad
        self.forwards += 1
        return v.flatten(1) @ self.weight.T


def images(n: int) -> Tensor:
    return torch.rand(n, 3, 2, 2, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(("norm", "eps"), [(Linf(), 0.3), (L2(), 1.0)])
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_it_stays_inside_and_breaks_what_the_ball_reaches(norm: Norm, eps: float, classes: int) -> None:
    model, x = Linear(classes), images(12)
    y = model(x).argmax(1)
    x_adv = autoattack(model, x, y, **(OPTIONS | {"norm": norm, "eps": eps}))
    assert bool((norm.size(x_adv - x) <= eps + 1e-5).all())
    assert 0 <= float(x_adv.min()) <= float(x_adv.max()) <= 1
    assert int((model(x_adv).argmax(1) != y).sum()) > 3


def test_an_image_that_is_wrong_already_stays_and_costs_one_pass() -> None:
    model, x = Linear(), images(4)
    y = (model(x).argmax(1) + 1) % 5
    model.forwards = 0
    assert torch.equal(autoattack(model, x, y, **OPTIONS), x)
    assert (model.forwards, model.gradients) == (1, 0)
    assert autoattack(model, x[:0], y[:0], **OPTIONS).shape == (0, 3, 2, 2)


def test_each_part_gets_what_the_earlier_ones_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six images; each part breaks the first that it gets."""
    import sys

    file = sys.modules["art_ext.attacks.autoattack"]
    seen: list[tuple[str, int]] = []

    def breaks(name: str) -> Callable[..., Tensor]:
        def attack(first: Any, x: Tensor, *_: Any, **__: Any) -> Tensor:
            seen.append((name, len(x)))
            x = x.clone()
            x[0] = 1
            return x

        return attack

    for name in ("apgd", "fab", "square"):
        monkeypatch.setattr(file, name, breaks(name))

    def model(v: Tensor) -> Tensor:
        wrong = (v.flatten(1) == 1).all(1).float()
        return torch.stack([1 - wrong, wrong, *[torch.full_like(wrong, -1.0)] * 3], 1)

    x, y = torch.full((7, 1, 2, 2), 0.5), torch.zeros(7).long()
    x_adv = autoattack(model, x, y, **(OPTIONS | {"eps": 0.5}))
    assert seen == [("apgd", 7), ("apgd", 6), ("apgd", 5), ("apgd", 4), ("fab", 3), ("square", 2)]
    assert int((model(x_adv).argmax(1) != y).sum()) == 6
    seen.clear()
    autoattack(model, x, y, **(OPTIONS | {"eps": 0.5, "eot_samples": 2}))
    assert [name for name, _ in seen] == ["apgd"] * 4 + ["square"]


def test_one_wrong_pass_of_a_randomised_model_breaks_nothing() -> None:
    """Wrong in every third pass, whatever the image: nothing is broken, and every part is run."""
    calls = 0

    def model(v: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        side = torch.where(torch.arange(len(v)) * 0 + calls % 3 == 0, 1.0, -1.0) + 0 * v.flatten(1).sum(1)
        return torch.stack([-side, side], 1)

    x, y = images(3), torch.zeros(3).long()
    autoattack(model, x, y, **OPTIONS, confirm=6)
    assert calls > 20
    value, broken = rated(model, x, y, 6, len(x))
    assert not bool(broken.any())
    torch.testing.assert_close(value, torch.full((3,), (2 * 2 - 4 * 2) / 6))


@pytest.mark.parametrize("average", ["gradients", "logits"])
def test_a_randomised_model_is_broken_where_every_pass_is_wrong(average: str) -> None:
    linear, x = Linear(), images(8)
    y = linear(x).argmax(1)

    def noisy(v: Tensor) -> Tensor:
        return linear(v + 0.01 * torch.randn_like(v))

    x_adv = autoattack(noisy, x, y, **(OPTIONS | {"eps": 0.4, "queries": 4}), eot_samples=3, average=average)
    assert int(rated(noisy, x_adv, y, 20, None)[1].sum()) >= 6
    assert bool((Linf().size(x_adv - x) <= 0.4 + 1e-5).all())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"norm": L1()}, "Linf or L2"),
        ({"average": "both"}, "average"),
        ({"confirm": -1}, "confirm"),
        ({"targets": 0}, "targets"),
        ({"eot_samples": 0}, "eot_samples"),
    ],
)
def test_bad_arguments(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        autoattack(Linear(), images(2), torch.zeros(2).long(), **(OPTIONS | wrong))
