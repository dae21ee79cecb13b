"""The networks of RDP: purifier P, reconstructor R, discriminator D [Bai et al. 2021, arXiv:2110.07801, Fig. 2]."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from art_ext.nn import RRDB, ResidualBlock

BLOCKS: dict[str, Callable[[int], nn.Module]] = {"rrdb": RRDB, "residual": ResidualBlock}


class Trunk(NamedTuple):
    """What the trunks of P and R share: channels, kind of block, and the pixels that are folded into channels."""

    width: int
    block: str
    fold: int


class Encoder(nn.Module):
    """A convolution and a trunk of blocks: images (N, channels, H, W) to latents (N, width, H / fold, W / fold)."""

    def __init__(self, channels: int, trunk: Trunk, blocks: int) -> None:
        super().__init__()
        width, block = trunk.width, trunk.block
        self.fold = nn.PixelUnshuffle(trunk.fold)
        self.conv = nn.Conv2d(channels * trunk.fold**2, width, 3, padding=1)
        # NRP's light variant has an activation behind the first convolution, its RRDB variant has none.
        self.activation = nn.LeakyReLU(0.1) if block == "residual" else nn.Identity()
        self.trunk = nn.Sequential(*(BLOCKS[block](width) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        latent: Tensor = self.trunk(self.activation(self.conv(self.fold(x))))
        return latent


class Decoder(nn.Module):
    """Blocks and a convolution: latents to images (N, channels, H, W), no output activation."""

    def __init__(self, channels: int, trunk: Trunk, blocks: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*(BLOCKS[trunk.block](trunk.width) for _ in range(blocks)))
        self.conv = nn.Conv2d(trunk.width, channels * trunk.fold**2, 3, padding=1)
        self.unfold = nn.PixelShuffle(trunk.fold)

    def forward(self, latent: Tensor) -> Tensor:
        image: Tensor = self.unfold(self.conv(self.trunk(latent)))
        return image


class Reconstructor(nn.Module):
    """R: an adversarial image out of itself and the natural latent that P found in it.

    Its own encoder gives the adversarial latent; both are concatenated (natural first), fused, and decoded.
    """

    def __init__(self, channels: int, trunk: Trunk, blocks: int) -> None:
        super().__init__()
        self.encoder = Encoder(channels, trunk, blocks - blocks // 2)
        self.fuse = nn.Conv2d(2 * trunk.width, trunk.width, 3, padding=1)
        self.decoder = Decoder(channels, trunk, blocks // 2)

    def forward(self, x_adv: Tensor, natural_latent: Tensor) -> tuple[Tensor, Tensor]:
        """The reconstruction (N, channels, H, W) and the adversarial latent, shaped as the natural one."""
        latent = self.encoder(x_adv)
        return self.decoder(self.fuse(torch.cat([natural_latent, latent], dim=1))), latent


class Discriminator(nn.Module):
    """D: five convolutions of stride 2 and a fully connected layer; images of any size to a critic value (N, 1).

    Average pooling stands before the last layer, so that the image size is free; kernel, stride and widths are not in
    the paper.
    """

    def __init__(self, channels: int, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        widths = [channels, width, 2 * width, 4 * width, 4 * width, 4 * width]
        for inputs, outputs in pairwise(widths):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 1))

    def forward(self, x: Tensor) -> Tensor:
        value: Tensor = self.layers(x)
        return value
