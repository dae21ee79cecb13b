"""Networks that several papers' tables share, and what is asked of networks outside reports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from art_ext import presets
from art_ext.attacks import Linf, ascent, cross_entropy, pgd
from art_ext.classifiers import VGG, ClassifierObjective, ResNet18, SmallCNN, WideResNet
from art_ext.nn import FeatureExtractor, seeded
from experiments.core import Nets, Network, Recipe, adam, falling, sgd
from experiments.data import SETS

PRESETS = {
    "fashion_mnist": {"classifier": "cnn", "surrogate": "surrogate", "robust": "robust", "vgg": "vgg"},
    "cifar10": {"classifier": "resnet", "surrogate": "surrogate", "robust": "robust", "vgg": "features"},
}
"""Classifiers that ship: the one that is defended, another one, an adversarially trained one, one for features."""
OF_CLASSIFIERS = {"small": Recipe(10), "paper": Recipe(60, sgd(0.1, 5e-4), falling(0.5, 0.75), batch=128)}


def preset(name: str) -> Network:
    """A network that ships with its weights."""
    return Network(lambda _: presets.load(name))


def trained(make: Callable[[], nn.Module], recipe: Recipe, of: str = "", **attack: Any) -> Network:
    """A classifier of images, or of what a purifier called `of` gives; under attack where settings of one are given."""
    return Network(
        lambda _: make(),
        lambda net, nets: ClassifierObjective(net, purifier=nets(of) if of else None, **attack),
        recipe,
    )


def classifiers(data: str, scale: str, wide: bool = False) -> dict[str, Network]:
    """`classifier`, `surrogate`, `robust` and `vgg`: presets at the small scale, if there are, or trained.

    Args:
        data: of `SETS`.
        scale: of `SCALES`.
        wide: WRN-28-10 at the papers' scale, not ResNet-18.
    """
    if scale == "small" and data in PRESETS:
        return {k: preset(f"{data}_{v}") for k, v in PRESETS[data].items()}
    d, recipe = SETS[data], OF_CLASSIFIERS[scale]

    def made() -> nn.Module:
        if scale == "small":
            return SmallCNN(d.channels, 10, 16)
        return (WideResNet if wide else ResNet18)(d.channels, 10, **d.moments)

    vgg = trained(lambda: VGG(d.channels, 10, 16 if scale == "small" else 64), recipe)
    attack: dict[str, Any] = {"eps": d.eps, "steps": 10, "step_size": d.eps / 4}
    return {
        "classifier": trained(made, recipe),
        "surrogate": vgg,
        "robust": trained(made, recipe, **attack),
        "vgg": vgg,
    }


def features(nets: Nets) -> FeatureExtractor:
    """RDP's F: an inner layer of a network that is independent of the classifier."""
    return FeatureExtractor(nets("vgg"), "features.relu3_3")


class Ensemble(nn.Module):
    """The mean of several networks' logits."""

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) to logits (N, K)."""
        return torch.stack([network(x) for network in self.networks]).mean(0)


def attacked(model: nn.Module, x: Tensor, y: Tensor, eps: float, steps: int, share: float = 0.25) -> Tensor:
    """PGD in Linf, in steps of that share of eps, 64 images at a time; randomness is the ambient one."""
    pieces = zip(x.split(64), y.split(64), strict=True)
    options: dict[str, Any] = {"norm": Linf(), "eps": eps, "steps": steps, "step_size": share * eps}
    return torch.cat([pgd(ascent(cross_entropy(model, b)), a, **options) for a, b in pieces])


def seeded_attack(model: nn.Module, x: Tensor, y: Tensor, eps: float, steps: int, share: float = 0.25) -> Tensor:
    """The same, whatever was drawn before."""
    with seeded(0):
        return attacked(model, x, y, eps, steps, share)


def answers(model: nn.Module, x: Tensor, y: Tensor) -> list[bool]:
    """Whether each image (N, C, H, W) is classified as y (N,)."""
    with torch.no_grad():
        right = [model(a).argmax(1) == b for a, b in zip(x.split(250), y.split(250), strict=True)]
    found: list[bool] = torch.cat(right).tolist()
    return found


def fine(rate: float, **more: Any) -> Mapping[str, Any]:
    """Keywords of a recipe with Adam at a rate."""
    return {"optimizers": adam(rate), **more}
