"""Vision transformer parts: patches, positions, pre-norm blocks, and masks over patches."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ViTBlock(nn.Module):
    """Self-attention and a two-layer perceptron, each after a layer norm and with a skip [Dosovitskiy et al. 2021].

    Args:
        width: of the tokens.
        heads: of the attention; width must be a multiple of it.
        expansion: hidden width of the perceptron in units of width.
    """

    def __init__(self, width: int, heads: int, expansion: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_perceptron = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.merge = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        self.perceptron = nn.Sequential(
            nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width)
        )  # fmt: skip

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (N, T, width) to the same."""
        n, t, width = tokens.shape
        # As rows: where gradients are wanted, torch takes another path for 3-D products, which rounds differently.
        rows = self.mix(self.norm_attention(tokens).reshape(-1, width))
        mixed = rows.view(n, t, 3, self.heads, width // self.heads)
        query, key, value = mixed.permute(2, 0, 3, 1, 4)
        attended = attention(query, key, value).transpose(1, 2).reshape(n, t, width)
        tokens = tokens + self.merge(attended)
        return tokens + self.perceptron(self.norm_perceptron(tokens))


def attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(query key^T / sqrt(D) + bias) value, of (..., T, D) each; bias is (..., 1 or T, T).

    Written out on the CPU: torch's fused attention takes another path there where gradients are wanted, which rounds
    differently. On other devices it is the fused one, which keeps no T x T matrix for the backward pass.
    """
    if query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, None if bias is None else bias.to(query.dtype))
    weights = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    return (weights if bias is None else weights + bias).softmax(-1) @ value


def patchify(x: Tensor, patch: int) -> Tensor:
    """Images (N, C, H, W) to patches (N, T, C * patch^2), row by row.

    Raises:
        ValueError: a side that is no multiple of the patch.
    """
    if x.shape[2] % patch or x.shape[3] % patch:
        raise ValueError(f"expected image sides that are multiples of the patch, {patch}, got {tuple(x.shape[2:])}")
    return F.unfold(x, patch, stride=patch).transpose(1, 2).contiguous()


def unpatchify(tokens: Tensor, size: tuple[int, int], patch: int) -> Tensor:
    """Patches (N, T, C * patch^2) to images (N, C, *size); the inverse of `patchify`."""
    return F.fold(tokens.transpose(1, 2), size, patch, stride=patch)


def positions(rows: int, columns: int, width: int) -> Tensor:
    """Sine and cosine of both coordinates at falling frequencies, (rows * columns, width); width is a multiple of 4."""
    quarter = width // 4
    frequency = 10000.0 ** -(torch.arange(quarter) / quarter)
    down, across = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = [axis.reshape(-1, 1) * frequency for axis in (down, across)]
    return torch.cat([f(a) for a in angles for f in (torch.sin, torch.cos)], 1)


def hidden_patches(order: Tensor, count: int, ratio: float) -> Tensor:
    """Masks that hide a share of the patches each, spread evenly over one random order: (count, N, T), True is hidden.

    At ratio 1 / count the hidden sets are a partition: each patch is hidden in exactly one mask, so that two masks at
    0.5 are complementary. At 1 - 1 / count the seen sets are one. In between they overlap as little as they can: two
    masks at 0.3 hide no patch twice, two at 0.7 see none twice.

    Args:
        order: a permutation of the patches for each image, (N, T); T is at least 2.
        count: masks an image.
        ratio: share that a mask hides; ratio * T patches, rounded down or up, at least one seen and one hidden. The
            masks of one place k hide the same number in every image.

    Raises:
        ValueError: fewer than 2 patches, of which none could be both hidden and left to restore from.
    """
    n, t = order.shape
    if t < 2:
        raise ValueError(f"expected images of at least 2 patches, got {t}")
    masks = torch.zeros(count, n, t, dtype=torch.bool, device=order.device)
    for k, hide in enumerate(hidden_counts(t, count, ratio)):
        masks[k].scatter_(1, order.roll(-((k * t) // count), 1)[:, :hide], True)
    return masks


def hidden_counts(patches: int, count: int, ratio: float) -> list[int]:
    """How many of the patches of an image each mask of `hidden_patches` hides."""
    found = []
    for k in range(count):
        end = math.floor((k / count + ratio) * patches + 1e-9)  # 1e-9: a product that should be whole is not cut down
        found.append(min(max(1, end - (k * patches) // count), patches - 1))
    return found
