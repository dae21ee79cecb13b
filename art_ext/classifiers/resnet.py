"""Residual networks for small images: ResNet-18 with a 3x3 stem, its pre-activation form, wide residual networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from art_ext.images import Normalize


class ResNet18(nn.Module):
    """ResNet-18 for 28x28 and 32x32: a 3x3 stem without pooling, four stages of two blocks [He et al. 2016].

    Args:
        channels: image channels.
        classes: logits.
        width: channels of the first stage, doubled at each further one (64 in the paper).
        mean: subtracted from each channel of the image; 0 unless given.
        std: divides each channel; 1 unless given.
    """

    def __init__(
        self,
        channels: int = 3,
        classes: int = 10,
        width: int = 64,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        widths = [width * 2**i for i in range(4)]
        self.stem = nn.Sequential(_normalize(channels, mean, std), _conv3(channels, width), nn.BatchNorm2d(width))
        self.stages = nn.Sequential(
            *(_stage(BasicBlock, ([width, *widths])[i], widths[i], 2, stride=1 if i == 0 else 2) for i in range(4))
        )
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.stages(self.stem(x).relu()).mean((2, 3)))
        return logits


class PreActResNet(nn.Module):
    """Pre-activation ResNet of four stages, PreActResNet-18 by default [He et al. 2016, arXiv:1603.05027].

    Width 32 with one block a stage has 1.2 M weights.

    Args:
        channels: image channels.
        classes: logits.
        width: channels of the first stage, doubled at each further one.
        blocks: of each stage.
        mean: subtracted from each channel of the image; 0 unless given.
        std: divides each channel; 1 unless given.

    Raises:
        ValueError: if blocks is below 1.
    """

    def __init__(
        self,
        channels: int = 3,
        classes: int = 10,
        width: int = 64,
        blocks: int = 2,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if blocks < 1:
            raise ValueError(f"expected at least 1 block a stage, got {blocks}")
        widths = [width * 2**i for i in range(4)]
        self.stem = nn.Sequential(_normalize(channels, mean, std), _conv3(channels, width))
        self.stages = nn.Sequential(
            *(_stage(WideBlock, ([width, *widths])[i], widths[i], blocks, stride=1 if i == 0 else 2) for i in range(4))
        )
        self.norm = nn.BatchNorm2d(widths[-1])
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.stages(self.stem(x))).relu().mean((2, 3)))
        return logits


class WideResNet(nn.Module):
    """WRN-depth-widen of pre-activation blocks; WRN-28-10 by default [Zagoruyko & Komodakis 2016].

    Args:
        channels: image channels.
        classes: logits.
        depth: 6 n + 4 convolutional layers.
        widen: factor on the widths 16, 32, 64.
        dropout: probability between the two convolutions of a block.
        mean: subtracted from each channel of the image; 0 unless given.
        std: divides each channel; 1 unless given.

    Raises:
        ValueError: if depth is not 6 n + 4.
    """

    def __init__(
        self,
        channels: int = 3,
        classes: int = 10,
        depth: int = 28,
        widen: int = 10,
        *,
        dropout: float = 0.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"expected depth = 6 n + 4 with n >= 1, got {depth}")
        n, widths = (depth - 4) // 6, [16, 16 * widen, 32 * widen, 64 * widen]
        self.stem = nn.Sequential(_normalize(channels, mean, std), _conv3(channels, 16))
        self.stages = nn.Sequential(
            *(
                _stage(WideBlock, widths[i], widths[i + 1], n, stride=1 if i == 0 else 2, dropout=dropout)
                for i in range(3)
            )
        )
        self.norm = nn.BatchNorm2d(widths[-1])
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.stages(self.stem(x))).relu().mean((2, 3)))
        return logits


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation and a shortcut; (N, inputs, H, W) to (N, outputs, H/s, W/s)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = _conv3(inputs, outputs, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.norm2 = _conv3(outputs, outputs), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(outputs))  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        return F.relu(y + self.shortcut(x))


class WideBlock(nn.Module):
    """Pre-activation block: normalise, rectify, convolve, twice; (N, inputs, H, W) to (N, outputs, H/s, W/s)."""

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), _conv3(inputs, outputs, stride)
        self.norm2, self.conv2 = nn.BatchNorm2d(outputs), _conv3(outputs, outputs)
        self.dropout = nn.Dropout(dropout)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = self.norm1(x).relu()
        y = self.conv2(self.dropout(self.norm2(self.conv1(activated)).relu()))
        through = x if isinstance(self.shortcut, nn.Identity) else self.shortcut(activated)
        out: Tensor = y + through
        return out


def _conv3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


def _stage(
    block: type[BasicBlock | WideBlock], inputs: int, outputs: int, count: int, *, stride: int, **options: float
) -> nn.Sequential:
    first = block(inputs, outputs, stride, **options)
    return nn.Sequential(first, *(block(outputs, outputs, 1, **options) for _ in range(count - 1)))


def _normalize(channels: int, mean: Sequence[float] | None, std: Sequence[float] | None) -> nn.Module:
    return Normalize(mean or [0.0] * channels, std or [1.0] * channels)
