"""The networks of AToP: DeepFillv2's generator and discriminator [Yu et al. 2019, arXiv:1806.03589], an auto-encoder.

None normalises over the batch: a purifier must not mix samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from art_ext.nn.vit import attention

DILATIONS = (1, 1, 2, 4, 8, 16, 1, 1)
"""Of the released generator's bottleneck."""
FOLDS = (1, 2, 4)
"""Sides of the blocks of pixels that `encoder` can make channels of; the released networks have 1."""


class GatedConv(nn.Module):
    """ELU(a) * sigmoid(b), a and b the halves of one convolution; its padding keeps the size at stride 1.

    Weights are drawn so that values keep their mean square: variance 6 / fan-in for a, 1 / fan-in for b. With torch's
    default a stack of these forgets its input: the released generator starts from trained weights, this one need not.

    Args:
        inputs: channels in.
        outputs: channels out; the convolution has twice as many.
        kernel: its side, odd.
        stride: of the convolution.
        dilation: of the convolution.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv = _conv(inputs, 2 * outputs, kernel, stride, dilation, 6.0)
        self.conv.weight.data[outputs:] /= 6**0.5

    def forward(self, x: Tensor) -> Tensor:
        feature, gate = self.conv(x).chunk(2, 1)
        return F.elu(feature) * gate.sigmoid()


class PlainConv(nn.Sequential):
    """ELU of a convolution, drawn with variance 1.6 / fan-in; arguments as those of `GatedConv`."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, dilation: int = 1) -> None:
        super().__init__(_conv(inputs, outputs, kernel, stride, dilation, 1.6), nn.ELU())


Conv = Callable[..., nn.Module]


def encoder(conv: Conv, inputs: int, width: int, fold: int) -> nn.Sequential:
    """Images (N, inputs, H, W) to features (N, 4 * width, H / 4, W / 4).

    With a fold of 2 or 4 blocks of fold x fold pixels become channels, and no convolution works at a finer resolution.
    """
    if fold == 4:
        return nn.Sequential(nn.PixelUnshuffle(4), conv(16 * inputs, 4 * width))
    if fold == 2:
        first: list[nn.Module] = [nn.PixelUnshuffle(2), conv(4 * inputs, 2 * width)]
    else:
        first = [conv(inputs, width, 5), conv(width, 2 * width, stride=2)]
    return nn.Sequential(*first, conv(2 * width, 2 * width), conv(2 * width, 4 * width, stride=2))


def bottleneck(conv: Conv, width: int, dilations: Sequence[int]) -> nn.Sequential:
    """One convolution a dilation, features (N, width, h, w) to the same."""
    return nn.Sequential(*(conv(width, width, dilation=dilation) for dilation in dilations))


def decoder(conv: Conv, width: int, outputs: int, fold: int) -> nn.Sequential:
    """Features (N, 4 * width, H / 4, W / 4) to images (N, outputs, H, W), no output activation; `encoder` undone."""
    if fold == 4:
        out = nn.Conv2d(4 * width, 16 * outputs, 3, padding=1)
        return nn.Sequential(conv(4 * width, 4 * width), out, nn.PixelShuffle(4))
    if fold == 2:
        last: list[nn.Module] = [nn.Conv2d(2 * width, 4 * outputs, 3, padding=1), nn.PixelShuffle(2)]
    else:
        half = max(1, width // 2)
        last = [nn.Upsample(scale_factor=2), conv(2 * width, width), conv(width, half)]
        last += [nn.Conv2d(half, outputs, 3, padding=1)]
    first = [nn.Upsample(scale_factor=2), conv(4 * width, 2 * width), conv(2 * width, 2 * width)]
    return nn.Sequential(*first, *last)


class SeenAttention(nn.Module):
    """Features made of those at other places; a place counts by the share of its pixels that was seen.

    Args:
        width: channels in and out.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix, self.merge = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)

    def forward(self, features: Tensor, hidden: Tensor) -> Tensor:
        """Features (N, width, h, w) to the same; `hidden`, (N, 1, h, w), is the hidden share of each place."""
        n, width, *size = features.shape
        # As rows: torch takes another path for 3-D products where gradients are wanted, which rounds differently.
        rows = self.mix(features.flatten(2).transpose(1, 2).reshape(-1, width))
        query, key, value = rows.view(n, -1, 3, width).unbind(2)
        seen = (1 - hidden).clamp_min(1e-6).log().flatten(2)
        attended = self.merge(attention(query, key, value, seen).reshape(-1, width))
        return attended.view(n, -1, width).transpose(1, 2).reshape(n, width, *size)


class Generator(nn.Module):
    """Fills holes in two stages of gated convolutions: a coarse image, and a refined one that sees it in the hole.

    Differs from DeepFillv2: the contextual attention of the second stage is plain self-attention over the bottleneck,
    which prefers what was seen, so that every image may have its own mask (the released code takes the first image's
    for all); its two branches share one encoder; the whole bottleneck stands before they are joined.

    Args:
        channels: image channels.
        width: channels of the first convolution, gates included, even; the released code has 48.
        dilations: of the bottleneck's convolutions.
        fold: 1 as released; with 2 or 4 no convolution works at the full, or the full and half the resolution, see
            `encoder`.
    """

    def __init__(self, channels: int = 3, width: int = 48, dilations: Sequence[int] = DILATIONS, fold: int = 1) -> None:
        super().__init__()
        half = width // 2
        self.coarse = nn.Sequential(
            encoder(GatedConv, channels + 2, half, fold),
            bottleneck(GatedConv, 4 * half, dilations),
            decoder(GatedConv, half, channels, fold),
        )
        self.encoder = encoder(GatedConv, channels + 2, half, fold)
        self.dilated = bottleneck(GatedConv, 4 * half, dilations)
        self.attention = SeenAttention(4 * half)
        self.join = GatedConv(8 * half, 4 * half)
        self.decoder = decoder(GatedConv, half, channels, fold)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The coarse and the refined image, (N, C, H, W) each, in [-1, 1].

        Args:
            x: images (N, C, H, W) in [-1, 1], 0 where hidden; sides that are no multiples of 4 are padded inside.
            mask: 1 where hidden, (N, 1, H, W), an own one for each image.
        """
        height, width = x.shape[2:]
        x, mask = _padded(x), _padded(mask.to(x.dtype))
        planes = [torch.ones_like(mask), mask]
        coarse = self.coarse(torch.cat([x, *planes], 1)).tanh()
        filled = coarse * mask + x * (1 - mask)
        features = self.encoder(torch.cat([filled, *planes], 1))
        attended = self.attention(features, F.avg_pool2d(mask, 4))
        refined = self.decoder(self.join(torch.cat([self.dilated(features), attended], 1))).tanh()
        return coarse[:, :, :height, :width], refined[:, :, :height, :width]


class AutoEncoder(nn.Sequential):
    """Restores images (N, C, H, W) in [0, 1] from themselves alone, through a quarter of their height and width.

    Sides that are no multiples of 4 are padded inside.

    Args:
        channels: image channels.
        width: of the first convolution.
        dilations: of the bottleneck's convolutions.
        fold: as the generator's.
    """

    def __init__(self, channels: int = 3, width: int = 48, dilations: Sequence[int] = DILATIONS, fold: int = 1) -> None:
        super().__init__(
            encoder(PlainConv, channels, width, fold),
            bottleneck(PlainConv, 4 * width, dilations),
            decoder(PlainConv, width, channels, fold),
        )

    def forward(self, x: Tensor) -> Tensor:
        restored: Tensor = super().forward(_padded(x)).sigmoid()
        return restored[:, :, : x.shape[2], : x.shape[3]]


class PatchDiscriminator(nn.Module):
    """SN-PatchGAN: strided convolutions with spectral norm, each followed by LeakyReLU(0.2), the last one too.

    In train mode every pass is a step of the norm's power iteration.

    Args:
        channels: image channels.
        width: of the first layer; the second has twice, all others four times as many channels.
        layers: each halves the sides; the released code has 6, for 256 pixels.
    """

    def __init__(self, channels: int = 3, width: int = 64, layers: int = 6) -> None:
        super().__init__()
        if min(channels, width, layers) < 1:
            raise ValueError(f"expected channels, width and layers >= 1, got {channels=}, {width=}, {layers=}")
        widths = [channels + 1, *(width * min(4, 2**i) for i in range(layers))]
        convs = [spectral_norm(nn.Conv2d(a, b, 5, stride=2, padding=2)) for a, b in pairwise(widths)]
        self.layers = nn.Sequential(*(part for conv in convs for part in (conv, nn.LeakyReLU(0.2))))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """A score for each patch and feature, (N, F), high for real images.

        Args:
            x: images (N, C, H, W) in [0, 1].
            mask: 1 where hidden, (N, 1, H, W).
        """
        scores: Tensor = self.layers(torch.cat([2 * x - 1, mask.to(x.dtype)], 1))
        return scores.flatten(1)


def _conv(inputs: int, outputs: int, kernel: int, stride: int, dilation: int, variance: float) -> nn.Conv2d:
    """With weights of a variance, in units of 1 / fan-in, and no bias to start with."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, dilation * (kernel // 2), dilation)
    nn.init.normal_(conv.weight, std=(variance / conv.weight[0].numel()) ** 0.5)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


def _padded(x: Tensor) -> Tensor:
    """Its last rows and columns repeated until the sides are multiples of 4."""
    down, across = (-side % 4 for side in x.shape[2:])
    return F.pad(x, (0, across, 0, down), mode="replicate") if down or across else x
