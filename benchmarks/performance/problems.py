"""Networks, images and threats that the attacks are measured on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from art_ext import presets
from art_ext.data import fashion_mnist, from_arrays
from art_ext.evaluation import Threat
from art_ext.nn import predicted
from art_ext.purifiers import RDP, Purifier

WEAK, ROBUST, RESNET = "fashion_mnist_cnn", "fashion_mnist_robust", "cifar10_surrogate"
CIFAR10 = "cifar10_exact.npz"
NOISE = 0.05
"""Standard deviation of the noise of dynamic RDP, in units of [0, 1]."""


@dataclass(frozen=True)
class Options:
    """What the command line says.

    Attributes:
        images: of every row, instead of its own number.
        device: of networks and images.
        data: folder with `cifar10_exact.npz` (`x_test` uint8 (N, 3, 32, 32), `y_test`); random images without one.
        seed: of everything.
    """

    images: int | None = None
    device: torch.device = torch.device("cpu")  # noqa: RUF009  immutable
    data: Path | None = None
    seed: int = 0

    def n(self, usual: int) -> int:
        """Images of a row that usually has so many."""
        return usual if self.images is None else self.images


@dataclass(frozen=True)
class Problem:
    """A network in eval mode, images (N, C, H, W) in [0, 1] with labels (N,), the threat, and a purifier if any."""

    network: nn.Module
    x: Tensor
    y: Tensor
    threat: Threat
    purifier: Purifier | None = None

    @cached_property
    def module(self) -> nn.Module:
        """What a library attacks."""
        return self.network if self.purifier is None else nn.Sequential(self.purifier, self.network).eval()

    def rated(self, x_adv: Tensor, repeats: int = 1) -> str:
        """For each image how many of `repeats` answers (at most 9) to its example are right, as a digit.

        Raises:
            ValueError: the examples lie outside the ball or the box.
        """
        x_adv = x_adv.to(self.x)
        self.threat.refuse_cheats(self.x, x_adv, "the contender")
        with torch.no_grad():
            right = [predicted(self.module(x_adv)) == self.y for _ in range(repeats)]
        return "".join(str(k) for k in torch.stack(right).sum(0).tolist())


@lru_cache(maxsize=16)
def problem(network: str, n: int, options: Options) -> Problem:
    """The first n images for a preset network.

    Raises:
        ValueError: more images than there are.
    """
    module = presets.load(network).to(options.device)
    x, y = cifar10(n, options, module) if network == RESNET else shipped(n, options)
    return Problem(module, x, y, Threat("Linf", 8 / 255 if network == RESNET else 0.1))


@lru_cache(maxsize=4)
def dynamic_rdp(n: int, options: Options) -> Problem:
    """Randomised RDP before the weak network."""
    plain = problem(WEAK, n, options)
    purifier = preset_rdp().set_noise(NOISE).to(options.device)
    return Problem(plain.network, plain.x, plain.y, plain.threat, purifier)


def preset_rdp() -> RDP:
    """The preset's RDP without noise."""
    purifier = presets.load("fashion_mnist_rdp")
    assert isinstance(purifier, RDP)
    return purifier


def shipped(n: int, options: Options) -> tuple[Tensor, Tensor]:
    """The first n Fashion-MNIST test images that ship with the package, and their labels."""
    data = fashion_mnist("test", n)
    return data.x.to(options.device), data.y.to(options.device)


def cifar10(n: int, options: Options, module: nn.Module) -> tuple[Tensor, Tensor]:
    """CIFAR-10 test images of the folder; without one random images, labelled as the network sees them.

    Raises:
        ValueError: fewer images in the folder.
    """
    if options.data is None:
        x = torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(options.seed)).to(options.device)
        with torch.no_grad():
            return x, module(x).argmax(1)
    with np.load(options.data / CIFAR10) as arrays:
        x_test, y_test = arrays["x_test"][:n], arrays["y_test"][:n]
    if len(x_test) < n:
        raise ValueError(f"expected at least {n} test images in {options.data / CIFAR10}, got {len(x_test)}")
    data = from_arrays(x_test, y_test, channels_first=True)
    return data.x.to(options.device), data.y.to(options.device)


def facts(network: str, n: int, options: Options, **more: Any) -> dict[str, Any]:
    """The settings of a row about a network, as JSON values."""
    images = "the test images that ship with the package"
    if network == RESNET:
        images = "uniform noise, labelled by the network" if options.data is None else f"test images of {CIFAR10}"
    return {"network": network, "n": n, "images": images, "threat": "Linf 8/255" if network == RESNET else "Linf 0.1"
            } | more  # fmt: skip


def rater(make: Callable[[], Problem], repeats: int = 1) -> Callable[[Tensor], str]:
    """What a `Comparison` rates with; the problem is made when it is first needed."""
    return lambda x_adv: make().rated(x_adv, repeats)
