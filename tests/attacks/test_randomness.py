"""Randomised models averaged and frozen."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from art_ext.attacks import Averaged, Frozen, ascent, cross_entropy
from art_ext.nn.checkpointing import Pieces
from tests.allocated import Allocated


class Counter(nn.Module):
    """Logits: the sum of the image, and its place in the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        return torch.stack([x.flatten(1).sum(1), torch.arange(len(x)).float()], 1)


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        noisy = x + torch.randn_like(x)
        return torch.stack([noisy.flatten(1).sum(1), -noisy.flatten(1).sum(1)], 1)


def test_each_image_is_averaged_over_its_own_draws() -> None:
    x = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1)
    # 2 samples of 3 images are rows 0..5: image i sits in rows i and i + 3, whose numbers average to i + 1.5
    assert Averaged(Counter(), 2)(x).tolist() == [[1, 1.5], [2, 2.5], [3, 3.5]]


@pytest.mark.parametrize(("at_once", "sizes"), [(None, [15]), (7, [6, 6, 3]), (1, [3] * 5), (15, [15]), (6, [6, 6, 3])])
def test_draws_run_in_bounded_batches(at_once: int | None, sizes: list[int]) -> None:
    counter = Counter()
    out = Averaged(counter, 5, at_once=at_once)(torch.ones(3, 1, 1, 2))
    assert counter.sizes == sizes
    assert out[:, 0].tolist() == [2, 2, 2]


def test_averaging_shrinks_the_noise() -> None:
    x = torch.zeros(400, 1, 1, 1)
    single, many = Noisy()(x)[:, 0].std(), Averaged(Noisy(), 25)(x)[:, 0].std()
    assert float(many / single) == pytest.approx(1 / 5, rel=0.2)


def test_frozen_is_one_draw_for_every_image_call_and_batch() -> None:
    frozen, x = Frozen(Noisy(), 3), torch.rand(5, 1, 2, 2)
    state = torch.get_rng_state()
    whole = frozen(x)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(frozen(x[[4, 1]]), whole[[4, 1]])
    noise = whole[:, 0] - x.flatten(1).sum(1)
    assert torch.allclose(noise, noise[0].expand(5), atol=1e-5)
    assert not torch.allclose(Frozen(Noisy(), 4)(x), whole)


def test_gradients_pass_both() -> None:
    x, y = torch.rand(4, 1, 2, 2), torch.tensor([0, 1, 0, 1])
    for module in (Averaged(Noisy(), 3), Frozen(Noisy(), 0)):
        assert bool((ascent(cross_entropy(module, y))(x).flatten(1).abs().sum(1) > 0).all())


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="eot_samples=0"):
        Averaged(Noisy(), 0)
    with pytest.raises(ValueError, match="at_once=0"):
        Averaged(Noisy(), 2, at_once=0)
    with pytest.raises(ValueError, match="logits, gradients"):
        Averaged(Noisy(), 2, "losses")


def test_no_images() -> None:
    class Linear(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)

    for module in (Averaged(Linear(), 3), Averaged(Linear(), 3, at_once=1), Frozen(Linear(), 0)):
        assert module(torch.rand(0, 1, 2, 2)).shape == (0, 4)


class Network(nn.Module):
    """A noisy network that counts its passes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 200, 3), nn.Tanh(), nn.Conv2d(200, 3, 3), nn.Flatten())
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return self.layers(x + 0.1 * torch.randn_like(x))  # type: ignore[no-any-return]


@pytest.mark.parametrize("at_once", [2, 4, 5])
def test_samples_in_several_passes_have_the_gradient_of_the_mean(at_once: int) -> None:
    network, x = Network(), torch.rand(2, 1, 6, 6, requires_grad=True)
    torch.manual_seed(1)
    sums = [network(x.repeat(k, 1, 1, 1)).view(k, 2, -1).sum(0) for k in ([1] * 5 if at_once == 2 else [2, 2, 1])]
    logits = torch.stack(sums).sum(0) / 5
    expected = torch.autograd.grad((logits**2).sum(), [x, *network.parameters()])
    torch.manual_seed(1)
    averaged = Averaged(network, 5, at_once=at_once)(x)
    after = torch.rand(3)  # what is drawn before the backward pass changes nothing
    found = torch.autograd.grad((averaged**2).sum(), [x, *network.parameters()])
    torch.testing.assert_close(averaged, logits)
    assert not torch.equal(torch.rand(3), after)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_passes_are_made_again_where_there_are_several_and_a_gradient() -> None:
    x = torch.rand(4, 1, 6, 6)

    def passes(model: Averaged, network: Network, wanted: bool) -> int:
        network.passes = 0
        if wanted:
            leaf = x.clone().requires_grad_()
            torch.autograd.grad(model(leaf).sum(), leaf)
        else:
            with torch.no_grad():
                model(x)
        return network.passes

    network = Network()
    several, pieces = Averaged(network, 3, at_once=1), Averaged(Pieces(network, 2), 3, at_once=1)
    assert passes(several, network, True) == 6
    assert passes(several, network, False) == 3
    assert passes(Averaged(network, 3), network, True) == 1
    assert passes(Averaged(network, 1, at_once=1), network, True) == 1
    assert passes(pieces, network, True) == 12  # pieces make their own passes again, and nobody theirs


@pytest.mark.parametrize("size", [None, 4])
def test_memory_does_not_grow_with_the_samples(size: int | None) -> None:
    most, x = {}, torch.rand(16, 1, 12, 12, requires_grad=True)
    network = Network()
    for samples in (2, 32):
        model = Averaged(network if size is None else Pieces(network, size), samples, at_once=1)
        with Allocated() as memory:
            torch.autograd.grad(model(x).sum(), x)
        most[samples] = memory.most
    assert most[32] < 1.2 * most[2], most
