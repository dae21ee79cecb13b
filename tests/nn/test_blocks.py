"""Blocks by hand: parameter counts, and values on images of one pixel, where only the centre of a kernel counts."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from art_ext.nn import RRDB, DenseBlock, ResidualBlock


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def ones(module: nn.Module) -> nn.Module:
    """Every weight 1, every bias 0."""
    for name, p in module.named_parameters():
        nn.init.constant_(p, 0 if name.endswith("bias") else 1)
    return module


def pixels(*values: float) -> Tensor:
    """Images of one pixel, one channel."""
    return torch.tensor(values).view(-1, 1, 1, 1)


def test_residual_block_parameters() -> None:
    # Two 3x3 convolutions with bias: 2 * (9 * 4 * 4 + 4)
    assert count(ResidualBlock(4)) == 296


def test_dense_block_parameters() -> None:
    # Width 4, growth 2: inputs of 4, 6, 8 and 10 channels to 2, 9 * 4 * 2 + 2 = 74, then 110, 146, 182; at last 12
    # channels to 4, 9 * 12 * 4 + 4 = 436.
    assert count(DenseBlock(4, 2)) == 948
    assert count(RRDB(4, 2)) == 3 * 948


def test_rrdb_parameters_are_those_of_esrgan() -> None:
    # The published RRDBNet (64 channels, growth 32, 23 blocks, x4) has 16 697 987 parameters. Without its first
    # convolution (1 792), trunk, two upsampling and HR convolutions (4 * 36 928) and the last one (1 731):
    # 16 546 752 = 23 * 719 424.
    assert count(RRDB(64)) == 719_424


def test_residual_block_values_by_hand() -> None:
    block = ResidualBlock(1)
    for conv, weight, bias in ((block.conv1, 2.0, -1.0), (block.conv2, -3.0, 0.5)):
        nn.init.constant_(conv.weight, weight)
        nn.init.constant_(conv.bias, bias)
    # x = 1: 2 - 1 = 1, -3 + 0.5 = -2.5, 1 - 2.5. x = 0: -1, cut to 0, 0.5, 0 + 0.5; nothing cuts the sum itself.
    assert block(pixels(1.0, 0.0)).flatten().tolist() == [-1.5, 0.5]


def test_dense_block_values_by_hand() -> None:
    block = ones(DenseBlock(1, 1))
    # x = 1: the convolutions add up all before them: 1, 2, 4, 8, then 16; 1 + 0.2 * 16.
    # x = -1, each sum times 0.2: -0.2; -1.2 -> -0.24; -1.44 -> -0.288; -1.728 -> -0.3456; the last one is not
    # activated: -2.0736; -1 - 0.2 * 2.0736.
    assert block(pixels(1.0, -1.0)).flatten().tolist() == pytest.approx([4.2, -1.41472])


def test_rrdb_values_by_hand() -> None:
    # A dense block of ones multiplies by 4.2 above zero, by 1.41472 below: x + 0.2 * 4.2^3 = 1 + 0.2 * 74.088, and
    # -1 - 0.2 * 1.41472^3 = -1 - 0.2 * 2.83147
    assert ones(RRDB(1, 1))(pixels(1.0, -1.0)).flatten().tolist() == pytest.approx([15.8176, -1.566294])


def test_residual_block_starts_near_the_identity() -> None:
    block = ResidualBlock(64)
    for conv in (block.conv1, block.conv2):
        # Kaiming, fan in 9 * 64: sqrt(2 / 576), a tenth of it. 36 864 draws: 5 standard errors are 2 %.
        assert float(conv.weight.detach().std()) == pytest.approx(0.1 * math.sqrt(2 / 576), rel=0.02)
        assert conv.bias.count_nonzero() == 0


@pytest.mark.parametrize("block", [ResidualBlock(4), DenseBlock(4, 2), RRDB(4, 2)], ids=lambda b: type(b).__name__)
def test_blocks_keep_shapes_and_samples_apart(block: nn.Module) -> None:
    x = torch.rand(3, 4, 5, 7)
    with torch.no_grad():
        whole = block(x)
        assert whole.shape == x.shape
        for i in range(3):
            torch.testing.assert_close(block(x[i : i + 1]), whole[i : i + 1])
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in block.modules())
