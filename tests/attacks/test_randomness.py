"""Randomised models averaged and frozen."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from art_ext.attacks import Averaged, Frozen, ascent, cross_entropy


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
