"""The order in memory of the images that a classifier gets in an evaluation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.evaluation import Attack, Defended, Threat
from art_ext.nn import predicted, seeded


class Convolutions(nn.Module):
    """Two convolutions, whose images are flattened by a view or by a reshape."""

    def __init__(self, viewed: bool, noise: float = 0.0) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.last, self.viewed, self.noise = nn.Linear(8 * 64, 4), viewed, noise
        self.seen: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.is_contiguous(memory_format=torch.channels_last))
        h = self.second(torch.relu(self.first(x + self.noise * torch.rand(len(x), 3, 8, 8))))
        return self.last(h.view(len(x), -1) if self.viewed else h.flatten(1))


def made(viewed: bool, noise: float = 0.0) -> Convolutions:
    with seeded(0):
        return Convolutions(viewed, noise).requires_grad_(False).eval()


@pytest.fixture
def x() -> Tensor:
    return torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_convolutions_get_channels_last_and_give_the_same(x: Tensor) -> None:
    network = made(viewed=False)
    guarded = Defended("network", network).network
    torch.testing.assert_close(guarded(x), network(x))
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(guarded(leaf).square().sum(), leaf)
    (expected,) = torch.autograd.grad(network(leaf).square().sum(), leaf)
    assert network.seen == [True, False, True, False]
    assert gradient.is_contiguous()
    torch.testing.assert_close(gradient, expected)


def test_a_network_that_wants_the_usual_order_gets_it(x: Tensor) -> None:
    network = made(viewed=True, noise=0.5)
    guarded = Defended("network", network).network
    with seeded(3):
        first, second = guarded(x), guarded(x)
    with seeded(3):
        assert torch.equal(first, network(x))
        assert torch.equal(second, network(x))
    assert network.seen == [True, False, False, False, False]  # tried once, and no draw is lost to it


def test_it_may_say_so_by_any_error(x: Tensor) -> None:
    class Strict(Convolutions):
        def forward(self, x: Tensor) -> Tensor:
            if not x.is_contiguous():
                raise ValueError("expected contiguous images")
            return super().forward(x)

    with seeded(0):
        network = Strict(viewed=False).eval()
    assert torch.equal(Defended("network", network).network(x), network(x))


def test_an_error_of_the_network_is_its_own(x: Tensor) -> None:
    network = made(viewed=False)
    guarded = Defended("network", network).network
    with pytest.raises(RuntimeError, match="size of tensor"):
        guarded(x[:, :, :7])
    guarded(x)
    assert network.seen[-1]  # an error in either order decides nothing


@pytest.mark.parametrize("network", [nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), made(False)])
def test_what_the_network_writes_into_is_a_copy(x: Tensor, network: Any) -> None:
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network

        def forward(self, given: Tensor) -> Tensor:
            logits: Tensor = self.inner(given)
            given.zero_()
            return logits

    before = x.clone()
    guarded = Defended("network", Writes()).network
    for _ in range(2):
        with torch.no_grad():
            guarded(x)
        assert torch.equal(x, before)


def test_attacks_find_the_same(x: Tensor) -> None:
    network = made(viewed=False)
    y = predicted(network(x))
    attack, threat = Attack("native", "PGD", {"steps": 5, "random_start": False}), Threat("Linf", 0.1)
    found = [attack(m, x, y, threat) for m in (network, Defended("network", network).network)]
    torch.testing.assert_close(*found)
