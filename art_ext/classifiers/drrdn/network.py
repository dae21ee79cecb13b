"""The networks of DRRDN around any encoder; at inference c_s(d_s(g(x))) alone."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from art_ext.classifiers.cnn import SmallCNN
from art_ext.classifiers.drrdn.mine import Mine
from art_ext.classifiers.resnet import PreActResNet, WideResNet
from art_ext.nn.loaded import Loaded


class Representations(NamedTuple):
    """What an image becomes: z = g(x) (N, F), z_s = d_s(z) and z_i = d_i(z), both (N, D) [Eqs. 3 and 5]."""

    z: Tensor
    z_s: Tensor
    z_i: Tensor


class DRRDN(Loaded):
    """A classifier of images that reads only the class-specific part of its representation [Yang et al., AAAI 2021].

    Calling it runs g, d_s and c_s, an ordinary differentiable classifier; d_i, c_i, the critic and the reconstructor
    are there for training and inspection. All of these are fully connected, as in the paper, whose sizes are in a
    supplement that is not to be had: these are our own.

    Args:
        encoder: g, images to (N, F) or to anything that flattens to it: `headless(network)`, or a
            `art_ext.nn.FeatureExtractor` for any inner layer.
        features: F.
        classes: logits of c_s.
        width: D, of z_s and z_i; both disentanglers are one layer and a ReLU.
        hidden: units of the hidden layers of c_s and of c_i, which see representations of the same width.
        dropout: probability before the last layer of both.
        critic_width: units of the critic's three hidden layers.
    """

    def __init__(
        self,
        encoder: nn.Module,
        features: int,
        classes: int = 10,
        *,
        width: int = 200,
        hidden: Sequence[int] = (),
        dropout: float = 0.0,
        critic_width: int = 400,
    ) -> None:
        super().__init__()
        self.features, self.classes, self.width = features, classes, width
        self.encoder = encoder
        self.d_s, self.d_i = (nn.Sequential(nn.Linear(features, width), nn.ReLU()) for _ in range(2))
        self.c_s, self.c_i = (_head(width, hidden, outputs, dropout) for outputs in (classes, 1))
        self.critic = Mine(2 * width, critic_width)
        self.reconstructor = nn.Sequential(
            nn.Linear(2 * width, 2 * width), nn.ReLU(), nn.Linear(2 * width, features)
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of images: c_s(d_s(g(x)))."""
        logits: Tensor = self.c_s(self.d_s(self.encode(x)))
        return logits

    def encode(self, x: Tensor) -> Tensor:
        """Z = g(x), (N, F).

        Raises:
            ValueError: the encoder gives another number of features.
        """
        z: Tensor = self.encoder(x).flatten(1)
        if z.shape[1] != self.features:
            raise ValueError(f"expected {self.features} features from the encoder, got {z.shape[1]}")
        return z

    def represent(self, x: Tensor) -> Representations:
        """The representation of images and its two parts."""
        return self.disentangle(self.encode(x))

    def disentangle(self, z: Tensor) -> Representations:
        """The two parts of representations (N, F)."""
        return Representations(z, self.d_s(z), self.d_i(z))

    def natural(self, part: Tensor) -> Tensor:
        """The logit, (N,), with which c_i takes parts (N, D) for those of natural images."""
        logits: Tensor = self.c_i(part).squeeze(1)
        return logits

    def reconstruct(self, z_s: Tensor, z_i: Tensor) -> Tensor:
        """r(z_s, z_i), (N, F)."""
        z: Tensor = self.reconstructor(torch.cat([z_s, z_i], 1))
        return z

    def hybrids(self, x: Tensor, x_adv: Tensor) -> dict[str, Tensor]:
        """Representations (N, F) rebuilt from parts of images and of their adversaries (primed), as in Table 3.

        They mean something only where the reconstructor was trained (lambda_rec above 0).
        """
        natural, adversarial = self.represent(x), self.represent(x_adv)
        return {
            "z_s + z_i": self.reconstruct(natural.z_s, natural.z_i),
            "z_s' + z_i": self.reconstruct(adversarial.z_s, natural.z_i),
            "z_s + z_i'": self.reconstruct(natural.z_s, adversarial.z_i),
            "z_s' + z_i'": self.reconstruct(adversarial.z_s, adversarial.z_i),
        }


class SmallDRRDN(DRRDN):
    """DRRDN for MNIST: the four convolutions of `SmallCNN`, whose three fully connected layers become d_s and c_s.

    At inference it has exactly the layers of a `SmallCNN` of the same arguments, so that the two cost the same.

    Args:
        channels: image channels.
        classes: logits.
        width: channels of the first pair of convolutions, twice as many in the second (32 in TRADES).
        hidden: units of the fully connected layers, and D.
        dropout: probability before the last layer of c_s and c_i.
        critic_width: units of the critic's hidden layers.
        original: the convolutions of TRADES itself, see `SmallCNN`.
    """

    def __init__(
        self, channels: int = 1, classes: int = 10, width: int = 32, *, hidden: int = 200, dropout: float = 0.3,
        critic_width: int = 400, original: bool = False,
    ) -> None:  # fmt: skip
        cnn = SmallCNN(channels, classes, width, original=original)
        super().__init__(
            cnn.features, cnn.outputs, classes, width=hidden, hidden=(hidden,), dropout=dropout,
            critic_width=critic_width,
        )  # fmt: skip


class WideDRRDN(DRRDN):
    """DRRDN for CIFAR-10: WRN-28-10 by default, then d_s and a linear c_s.

    Args:
        channels: image channels.
        classes: logits.
        depth: of the wide residual network.
        widen: of the wide residual network; its representations have 64 * widen values, and D is as large.
        mean: subtracted from each channel of the image; 0 unless given.
        std: divides each channel; 1 unless given.
        critic_width: units of the critic's hidden layers.
    """

    def __init__(
        self, channels: int = 3, classes: int = 10, depth: int = 28, widen: int = 10, *,
        mean: Sequence[float] | None = None, std: Sequence[float] | None = None, critic_width: int = 400,
    ) -> None:  # fmt: skip
        encoder = headless(WideResNet(channels, classes, depth, widen, mean=mean, std=std))
        super().__init__(encoder, 64 * widen, classes, width=64 * widen, critic_width=critic_width)


class PreActDRRDN(DRRDN):
    """DRRDN for small images at a small cost: a `PreActResNet` without its head, then d_s and a linear c_s.

    Args:
        channels: image channels.
        classes: logits.
        width: channels of the first stage of the residual network, 2, 4 and 8 times as many in the others; its
            representations have 8 * width values.
        blocks: of each stage.
        hidden: D, of z_s and z_i.
        mean: subtracted from each channel of the image; 0 unless given.
        std: divides each channel; 1 unless given.
        critic_width: units of the critic's hidden layers.
    """

    def __init__(
        self, channels: int = 3, classes: int = 10, width: int = 32, blocks: int = 1, *, hidden: int = 128,
        mean: Sequence[float] | None = None, std: Sequence[float] | None = None, critic_width: int = 400,
    ) -> None:  # fmt: skip
        encoder = headless(PreActResNet(channels, classes, width, blocks, mean=mean, std=std))
        super().__init__(encoder, 8 * width, classes, width=hidden, critic_width=critic_width)


def headless(network: nn.Module, head: str = "head") -> nn.Module:
    """A copy of a classifier that gives what goes into its submodule `head`, which should be its last.

    Raises:
        ValueError: there is no such submodule, with the names of those that are there.
    """
    names = [name for name, _ in network.named_modules() if name]
    if head not in names:
        raise ValueError(f"expected head to be one of {', '.join(names) or 'none'}; got {head!r}")
    copied = copy.deepcopy(network)
    parent, _, name = head.rpartition(".")
    setattr(copied.get_submodule(parent), name, nn.Identity())
    return copied


def _head(inputs: int, hidden: Sequence[int], outputs: int, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for units in hidden:
        layers += [nn.Linear(inputs, units), nn.ReLU()]
        inputs = units
    return nn.Sequential(*layers, nn.Dropout(dropout), nn.Linear(inputs, outputs))
