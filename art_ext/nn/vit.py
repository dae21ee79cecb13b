"""Vision transformer parts: patches, positions, pre-norm blocks, and masks over patches."""

from __future__ import annotations

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
        # As rows, and attention written out: where gradients are wanted, torch takes another path for 3-D products and
        # in its fused attention, which rounds differently.
        rows = self.mix(self.norm_attention(tokens).reshape(-1, width))
        mixed = rows.view(n, t, 3, self.heads, width // self.heads)
        query, key, value = mixed.permute(2, 0, 3, 1, 4)
        weights = (query @ key.transpose(2, 3) / (width // self.heads) ** 0.5).softmax(3)
        attended = (weights @ value).transpose(1, 2).reshape(n, t, width)
        tokens = tokens + self.merge(attended)
        return tokens + self.perceptron(self.norm_perceptron(tokens))


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

    Two masks at ratio 0.5 are complementary: each patch is hidden in exactly one. At other ratios the hidden sets
    overlap, or leave patches that no mask hides.

    Args:
        order: a permutation of the patches for each image, (N, T).
        count: masks an image.
        ratio: share that a mask hides; round(ratio * T) patches, at least one seen and one hidden.
    """
    n, t = order.shape
    hide = min(max(1, round(ratio * t)), t - 1)
    masks = torch.zeros(count, n, t, dtype=torch.bool, device=order.device)
    for k in range(count):
        masks[k].scatter_(1, order.roll(-((k * t) // count), 1)[:, :hide], True)
    return masks
