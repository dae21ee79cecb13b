"""Residual blocks of image restoration networks, all without batch normalisation: (N, C, H, W) to the same shape."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), weights Kaiming (fan-in) scaled by 0.1 so that a deep trunk starts near identity.

    Args:
        width: channels in and out.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(conv.weight)
            conv.weight.data.mul_(0.1)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.conv1(x).relu())


class DenseBlock(nn.Module):
    """Five convolutions, each on all that came before, the last added to x at a fifth [Wang et al. 2019, ESRGAN].

    Args:
        width: channels in and out.
        growth: channels that each of the first four convolutions adds.
    """

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.grow = nn.ModuleList(nn.Conv2d(width + i * growth, growth, 3, padding=1) for i in range(4))
        self.last = nn.Conv2d(width + 4 * growth, width, 3, padding=1)
        self.activation = nn.LeakyReLU(0.2)

    def forward(self, x: Tensor) -> Tensor:
        seen = x
        for conv in self.grow:
            seen = torch.cat([seen, self.activation(conv(seen))], dim=1)
        return x + 0.2 * self.last(seen)


class RRDB(nn.Module):
    """Residual-in-residual dense block: x + 0.2 * three dense blocks [Wang et al. 2019, ESRGAN].

    Args:
        width: channels in and out.
        growth: see `DenseBlock`.
    """

    def __init__(self, width: int, growth: int = 32) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(DenseBlock(width, growth) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.2 * self.blocks(x)
