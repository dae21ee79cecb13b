"""Blocks, losses, feature extraction and borrowed modes."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from torch import Tensor, nn

from art_ext.nn import (
    RRDB,
    DenseBlock,
    FeatureExtractor,
    ResidualBlock,
    evaluating,
    imagenet_vgg16,
    mean_l1,
    relativistic,
    seeded,
    trainable,
)
from art_ext.nn.losses import per_sample_mse


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_block_sizes() -> None:
    # 64 -> 32, 96 -> 32, 128 -> 32, 160 -> 32, 192 -> 64, all 3x3 with bias
    dense = 64 * 288 + 96 * 288 + 128 * 288 + 160 * 288 + 192 * 576 + 4 * 32 + 64
    assert count(DenseBlock(64, 32)) == dense == 239_808
    assert count(RRDB(64)) == 3 * dense
    assert count(ResidualBlock(64)) == 2 * (64 * 64 * 9 + 64)


def test_blocks_by_hand() -> None:
    x = torch.randn(2, 4, 3, 5)
    zero = ResidualBlock(4)
    nn.init.zeros_(zero.conv2.weight)
    assert torch.equal(zero(x), x)
    dense = DenseBlock(4, 2)
    nn.init.zeros_(dense.last.weight)
    nn.init.ones_(dense.last.bias)
    assert torch.allclose(dense(x), x + 0.2)
    rrdb = RRDB(4, 2)
    for block in rrdb.blocks:
        block.load_state_dict(dense.state_dict())
    # Three blocks give x + 0.6; then x + 0.2 * (x + 0.6)
    assert torch.allclose(rrdb(x), 1.2 * x + 0.12, atol=1e-6)


def test_residual_blocks_start_small() -> None:
    # Kaiming fan-in: std sqrt(2 / (9 * 64)) = 0.0589, times 0.1
    assert float(ResidualBlock(64).conv1.weight.detach().std()) == pytest.approx(0.1 * math.sqrt(2 / 576), rel=0.03)


def test_losses_by_hand() -> None:
    a, b = torch.tensor([[1.0, 2.0], [3.0, 5.0]]), torch.tensor([[0.0, 4.0], [3.0, 1.0]])
    assert mean_l1(a, b).item() == (1 + 2 + 0 + 4) / 4
    assert per_sample_mse(a, b).tolist() == [(1 + 4) / 2, (0 + 16) / 2]
    # -log sigmoid(2) and -log sigmoid(-1), mean
    preferred, other = torch.tensor([[2.0], [0.0]]), torch.tensor([[0.0], [1.0]])
    expected = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(1))) / 2
    assert relativistic(preferred, other).item() == pytest.approx(expected)
    assert relativistic(preferred, other).item() < relativistic(other, preferred).item()


class Chain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 3, 3)
        self.unused = nn.ReLU()
        self.reached_the_end = 0

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x).relu())
        self.reached_the_end += 1
        return x


def test_feature_extractor_stops_at_its_layer_and_leaves_no_hook() -> None:
    chain, x = Chain(), torch.rand(2, 1, 6, 7).requires_grad_()
    features = FeatureExtractor(chain, "first")
    out = features(x)
    assert torch.equal(out, chain.first(x))
    assert chain.reached_the_end == 0
    assert torch.autograd.grad(out.sum(), x)[0].abs().min() > 0
    with pytest.raises(RuntimeError, match="expected input"):
        features(torch.rand(2, 5, 6, 7))
    assert not chain.first._forward_hooks
    chain(x)
    assert chain.reached_the_end == 1


def test_feature_extractor_refuses_layers_that_are_not_there_or_not_called() -> None:
    with pytest.raises(ValueError, match="first, second, unused; got 'third'"):
        FeatureExtractor(Chain(), "third")
    with pytest.raises(RuntimeError, match="did not call its layer 'unused'"):
        FeatureExtractor(Chain(), "unused")(torch.rand(1, 1, 6, 7))


def test_vgg_without_torchvision_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(ImportError, match="pip install torchvision"):
        imagenet_vgg16()


def test_modes_are_put_back_also_after_an_exception() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout())
    model[0].eval()

    def fail() -> None:
        assert not any(m.training for m in model.modules())
        raise KeyError("inside")

    with pytest.raises(KeyError), evaluating(model, model[1]):
        fail()
    assert [m.training for m in model.modules()] == [True, False, True]


def test_only_the_chosen_are_trainable_and_flags_come_back() -> None:
    chain = Chain()
    chain.second.bias.requires_grad_(False)
    flags = [p.requires_grad for p in chain.parameters()]

    def fail() -> None:
        assert [p.requires_grad for p in chain.parameters()] == [False, False, True, True]
        raise KeyError("inside")

    with pytest.raises(KeyError), trainable(chain.second.parameters(), chain.parameters()):
        fail()
    assert [p.requires_grad for p in chain.parameters()] == flags


def test_seeded_randomness_is_a_parenthesis() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first = torch.rand(1)
    with seeded(9):
        inside = torch.rand(1)
    assert torch.equal(torch.cat([first, torch.rand(1)]), expected)
    with seeded(9):
        assert torch.equal(torch.rand(1), inside)
