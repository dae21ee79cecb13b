"""Patches, positions, masks and blocks of the vision transformer."""

from __future__ import annotations

import math

import pytest
import torch

from art_ext.nn.vit import ViTBlock, hidden_patches, patchify, positions, unpatchify


def test_patches_go_row_by_row_and_back() -> None:
    x = torch.arange(2 * 3 * 4 * 6).float().view(2, 3, 4, 6)
    patches = patchify(x, 2)
    assert patches.shape == (2, 6, 12)
    assert patches[1, 4].tolist() == x[1, :, 2:4, 2:4].reshape(-1).tolist()  # second row of patches, second of three
    assert torch.equal(unpatchify(patches, (4, 6), 2), x)
    with pytest.raises(ValueError, match=r"multiples of the patch, 4, got \(4, 6\)"):
        patchify(x, 4)


def test_positions_by_hand() -> None:
    found = positions(3, 5, 8)
    assert found.shape == (15, 8)
    row, column = 2, 3  # frequencies 1 and 10000 ** -0.5 = 0.01
    expected = [f(v * w) for v in (row, column) for f in (math.sin, math.cos) for w in (1, 0.01)]
    assert found[row * 5 + column].tolist() == pytest.approx(expected, abs=1e-6)
    assert len({tuple(p) for p in found.tolist()}) == 15


def test_two_masks_of_a_half_are_complementary() -> None:
    order = torch.rand(7, 10).argsort(1)
    first, second = hidden_patches(order, 2, 0.5)
    assert torch.equal(first, ~second)
    assert (first.sum(1) == 5).all()
    for row, mask in zip(order, first, strict=True):
        assert set(row[:5].tolist()) == set(mask.nonzero().flatten().tolist())


@pytest.mark.parametrize(
    ("patches", "count", "ratio", "hide"),
    [
        (10, 2, 0.3, [3, 3]),
        (10, 2, 0.7, [7, 7]),
        (10, 4, 0.25, [2, 3, 2, 3]),  # from 0, 2.5, 5 and 7.5 on
        (10, 3, 0.01, [1, 1, 1]),
        (10, 2, 0.99, [9, 9]),
        (49, 2, 0.5, [24, 25]),  # 28 x 28 in patches of 4
        (49, 2, 0.3, [14, 15]),
        (49, 2, 0.7, [34, 34]),
        (256, 2, 0.5, [128, 128]),  # the paper's
        (2, 2, 0.5, [1, 1]),
    ],
)
def test_every_mask_hides_its_share(patches: int, count: int, ratio: float, hide: list[int]) -> None:
    masks = hidden_patches(torch.rand(6, patches).argsort(1), count, ratio)
    assert masks.shape == (count, 6, patches)
    assert torch.equal(masks.sum(2), torch.tensor(hide)[:, None].expand(count, 6))
    if ratio == 0.3:  # no patch is hidden twice
        assert int(masks.sum(0).max()) == 1
    if ratio == 0.7:  # none is seen twice
        assert int(masks.sum(0).min()) == 1


@pytest.mark.parametrize("patches", [6, 7, 49, 256])
@pytest.mark.parametrize("count", [2, 3, 5, 6])
def test_masks_are_partitions_at_one_part_and_at_all_but_one(patches: int, count: int) -> None:
    order = torch.rand(4, patches).argsort(1)
    assert (hidden_patches(order, count, 1 / count).sum(0) == 1).all()
    assert (hidden_patches(order, count, 1 - 1 / count).sum(0) == count - 1).all()


def test_one_patch_cannot_be_masked() -> None:
    with pytest.raises(ValueError, match="at least 2 patches, got 1"):
        hidden_patches(torch.zeros(3, 1).long(), 2, 0.5)


def test_attention_by_hand() -> None:
    """With zero queries every token attends to all alike: the block adds the mean value, merged."""
    block = ViTBlock(4, 2)
    with torch.no_grad():
        block.mix.weight[:4] = 0
        block.perceptron[2].weight.zero_()
        block.perceptron[2].bias.zero_()
        tokens = torch.randn(1, 5, 4)
        values = block.norm_attention(tokens) @ block.mix.weight[8:].T
        expected = tokens + block.merge(values.mean(1, keepdim=True).expand_as(values))
        assert torch.allclose(block(tokens), expected, atol=1e-6)


def test_attention_is_torchs() -> None:
    block = ViTBlock(8, 2)
    other = torch.nn.MultiheadAttention(8, 2, bias=False, batch_first=True)
    with torch.no_grad():
        other.in_proj_weight.copy_(block.mix.weight)
        other.out_proj.weight.copy_(block.merge.weight)
        block.merge.bias.zero_()
        block.perceptron[2].weight.zero_()
        block.perceptron[2].bias.zero_()
        tokens = torch.randn(3, 6, 8)
        seen = block.norm_attention(tokens)
        assert torch.allclose(block(tokens) - tokens, other(seen, seen, seen)[0], atol=1e-5)
