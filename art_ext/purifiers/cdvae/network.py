"""The networks of CD-VAE: a VAE for small images, a VQ-VAE for large ones, and a classifier of residuals.

Each autoencoder standardises pixels first, as the released code's loader does, and gives images in the units of x.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from art_ext.attacks import bpda
from art_ext.images import Normalize

SHRINK = 4
"""Image sides over those of the latent map."""
LARGEST = 2**29
"""The most weights of a VAE's fully connected layers, 2 GiB of float32."""


class Coded(NamedTuple):
    """What an autoencoder makes of images.

    Attributes:
        image: G(x), (N, C, H, W) in the units of x, not clamped.
        latent: z, (N, Z).
        penalties: of each sample, (N,), by name: "kl" of a VAE, over twice the values of an image; "codebook" and
            "commitment" of a VQ-VAE, means over the latent map.
    """

    image: Tensor
    latent: Tensor
    penalties: dict[str, Tensor]


class Autoencoder(nn.Module, ABC):
    """G: what both kinds share, which are pixels standardised on the way in and set back on the way out.

    The decoder ends with tanh and a batch normalisation, as the released one does. In train mode the statistics of the
    batch are used, and samples mix.

    Args:
        channels: image channels.
        mean: of the pixels, one value a channel.
        std: likewise.
    """

    def __init__(self, channels: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.standardise = Normalize(mean, std)
        self.output = nn.Sequential(nn.Tanh(), nn.BatchNorm2d(channels))

    @abstractmethod
    def forward(self, x: Tensor, sample: bool = False) -> Coded:
        """Codes images.

        Args:
            x: (N, C, H, W) in [0, 1].
            sample: draw z from q(z|x); otherwise z is its mean.

        Raises:
            ValueError: sides that the network does not take.
        """

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Latents (N, Z) of images (N, C, H, W), without randomness."""

    def squared_error(self, image: Tensor, x: Tensor) -> Tensor:
        """Squared difference of each sample, (N,): the mean over standardised pixels."""
        return (self.standardise(image) - self.standardise(x)).square().flatten(1).mean(1)

    def image(self, decoded: Tensor) -> Tensor:
        """What the decoder gives, (N, C, H, W), as an image in the units of x."""
        return self.output(decoded) * self.standardise.std + self.standardise.mean


class VAE(Autoencoder):
    """Two convolutions of stride 2, residual blocks, Gaussian latents, and the way back [Yang et al. 2021, code].

    Args:
        channels: image channels.
        size: (H, W), multiples of 4 and at least 8.
        width: of the latent map (released: 32).
        latent: Z; unless given as many as the map holds, width * H * W / 16 (2048 in the released one).
        mean: of the pixels, one value a channel.
        std: likewise.

    Raises:
        ValueError: the fully connected layers would have more than `LARGEST` weights.
    """

    def __init__(
        self, channels: int, size: tuple[int, int], width: int, latent: int | None, mean: Sequence[float],
        std: Sequence[float],
    ) -> None:  # fmt: skip
        super().__init__(channels, mean, std)
        self.size, self.map = size, (width, size[0] // SHRINK, size[1] // SHRINK)
        features = self.map[0] * self.map[1] * self.map[2]
        latent = latent or features
        if 3 * features * latent > LARGEST:
            raise ValueError(
                f"expected fully connected layers of at most {LARGEST / 2**28:.0f} GiB, got images of "
                f"{size[0]} x {size[1]} at width {width}, whose three take {12 * features * latent / 2**30:.1f} GiB: "
                "use kind='vqvae', which has none, or a smaller latent"
            )
        self.encoder = encoder(channels, width)
        self.mean, self.log_variance = nn.Linear(features, latent), nn.Linear(features, latent)
        self.spread = nn.Linear(latent, features)
        self.decoder = decoder(width, channels)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of q(z|x), (N, Z) each."""
        if tuple(x.shape[2:]) != self.size:
            raise ValueError(f"expected images of size {self.size}, got {tuple(x.shape[2:])}")
        features = self.encoder(self.standardise(x)).flatten(1)
        return self.mean(features), self.log_variance(features)

    def encode(self, x: Tensor) -> Tensor:
        return self.posterior(x)[0]

    def forward(self, x: Tensor, sample: bool = False) -> Coded:
        mean, log_variance = self.posterior(x)
        z = mean + (log_variance / 2).exp() * torch.randn_like(mean) if sample else mean
        image = self.image(self.decoder(self.spread(z).view(-1, *self.map)))
        divergence = gaussian_kl(mean, log_variance) / (2 * math.prod(x.shape[1:]))
        return Coded(image, z, {"kl": divergence})


class VQVAE(Autoencoder):
    """The same without fully connected layers: each place of the latent map takes the nearest code of a book.

    The gradient of what was looked up goes straight to what was encoded [van den Oord et al. 2017, arXiv:1711.00937].
    Images of sides that are no multiples of 4 are continued at the right and at the bottom, and cut afterwards.

    Args:
        channels: image channels.
        width: of the latent map and of each code.
        codes: how many there are (released: 10).
        mean: of the pixels, one value a channel.
        std: likewise.
    """

    def __init__(self, channels: int, width: int, codes: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__(channels, mean, std)
        self.encoder, self.decoder = encoder(channels, width), decoder(width, channels)
        self.book = nn.Parameter(torch.empty(codes, width).uniform_(-1 / codes, 1 / codes))

    def encoded(self, x: Tensor) -> Tensor:
        """What is looked up, (N, width, H / 4, W / 4), sides rounded up."""
        right, below = (-side % SHRINK for side in (x.shape[3], x.shape[2]))
        return self.encoder(self.standardise(F.pad(x, (0, right, 0, below), mode="replicate")))

    def looked_up(self, encoded: Tensor) -> Tensor:
        """The nearest code at each place, (N, width, h, w); its gradient goes to the book."""
        places = encoded.detach().movedim(1, -1)
        book = self.book.detach()
        index = (book.square().sum(1) - 2 * places @ book.T).argmin(-1)  # |place|^2 is the same for every code
        return self.book[index].movedim(-1, 1)

    def encode(self, x: Tensor) -> Tensor:
        return bpda(self.looked_up)(self.encoded(x)).flatten(1)

    def forward(self, x: Tensor, sample: bool = False) -> Coded:
        encoded = self.encoded(x)
        codes = self.looked_up(encoded)
        z = bpda(lambda _: codes.detach())(encoded)
        penalties = {
            "codebook": (codes - encoded.detach()).square().flatten(1).mean(1),
            "commitment": (encoded - codes.detach()).square().flatten(1).mean(1),
        }
        image = self.image(self.decoder(z))[..., : x.shape[2], : x.shape[3]]
        return Coded(image, z.flatten(1), penalties)


class ResidualClassifier(nn.Module):
    """D: residuals (N, C, H, W) in the units of x to logits, by four stages and the mean over places.

    A light stand-in for the paper's WRN-28-10 and ResNet-50; any module in its place does, see `CDVAETraining`.

    Args:
        channels: image channels.
        classes: logits.
        width: of the first two stages; the next two double it, and halve the resolution.
        std: of the pixels, by which residuals are divided.
    """

    def __init__(self, channels: int, classes: int, width: int, std: Sequence[float]) -> None:
        super().__init__()
        self.standardise = Normalize([0.0] * channels, std)
        self.stages = nn.Sequential(
            _convolved(channels, width), _convolved(width, width, 2), _convolved(width, 2 * width, 2),
            _convolved(2 * width, 4 * width),
        )  # fmt: skip
        self.head = nn.Linear(4 * width, classes)

    def forward(self, residual: Tensor) -> Tensor:
        logits: Tensor = self.head(self.stages(self.standardise(residual)).mean((2, 3)))
        return logits


class Block(nn.Module):
    """x + conv1(act(norm(conv3(act(x))))), (N, width, H, W) to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LeakyReLU(), nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width),
            nn.LeakyReLU(), nn.Conv2d(width, width, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def encoder(channels: int, width: int) -> nn.Sequential:
    """Images (N, channels, H, W) to features (N, width, H / 4, W / 4)."""
    half = max(1, width // 2)
    return nn.Sequential(
        nn.Conv2d(channels, half, 4, 2, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU(),
        nn.Conv2d(half, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        Block(width), nn.BatchNorm2d(width), Block(width),
    )  # fmt: skip


def decoder(width: int, channels: int) -> nn.Sequential:
    """Features (N, width, H / 4, W / 4) to images (N, channels, H, W), no output activation."""
    half = max(1, width // 2)
    return nn.Sequential(
        Block(width), nn.BatchNorm2d(width), Block(width), nn.BatchNorm2d(width),
        nn.ConvTranspose2d(width, half, 4, 2, 1, bias=False), nn.BatchNorm2d(half), nn.LeakyReLU(),
        nn.ConvTranspose2d(half, channels, 4, 2, 1),
    )  # fmt: skip


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, I)) of each sample, (N,), from (N, Z) each."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


def _convolved(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())
