"""Networks and how they are trained: recipes, those that several papers' tables share, and what is asked of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from art_ext import presets
from art_ext.classifiers import VGG, ClassifierObjective, ResNet18, SmallCNN, WideResNet
from art_ext.nn import FeatureExtractor
from art_ext.training import Objective
from experiments.data import SETS

Nets = Callable[[str], Any]
"""Gives a network of the experiment by name, trained, frozen, in eval mode; whoever changes it copies it first.

`name/part` is a module inside a network."""


def adam(rate: float, betas: tuple[float, float] = (0.9, 0.999)) -> Callable[[Objective], dict[str, Any]]:
    """Adam for every player."""
    return lambda o: {k: torch.optim.Adam(p, lr=rate, betas=betas) for k, p in o.players().items()}


def sgd(rate: float, decay: float, momentum: float = 0.9) -> Callable[[Objective], dict[str, Any]]:
    """SGD with momentum for every player."""
    return lambda o: {k: torch.optim.SGD(p, rate, momentum, weight_decay=decay) for k, p in o.players().items()}


def own(objective: Objective) -> dict[str, Any]:
    """The optimisers that the paper gives the players."""
    return {k: objective.optimizer(k, p) for k, p in objective.players().items()}


def cosine(least: float = 0.02) -> Callable[[Any, int], Any]:
    """From the rate to a share of it over the training, epoch by epoch."""
    return lambda o, epochs: torch.optim.lr_scheduler.CosineAnnealingLR(o, epochs, o.param_groups[0]["lr"] * least)


def falling(*shares: float) -> Callable[[Any, int], Any]:
    """A tenth of the rate after each of these shares of the epochs."""
    return lambda o, epochs: torch.optim.lr_scheduler.MultiStepLR(o, [max(1, round(s * epochs)) for s in shares])


FROM_SCRATCH, BY_COSINE = adam(1e-3), cosine()


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        epochs: passes over the images.
        optimizers: of an objective, by player.
        schedule: of an optimiser and the epochs, stepped at the end of each epoch.
        images: the first so many training images, all unless given.
        batch: images a step.
        more: further schedulers of the objective, such as the curriculum of a loss.
        pace: shares of the training in which the rates and the attack's radius rise, see `lab.Paced`.
    """

    epochs: int
    optimizers: Callable[[Objective], Mapping[str, Any]] = FROM_SCRATCH
    schedule: Callable[[Any, int], Any] | None = BY_COSINE
    images: int | None = None
    batch: int = 64
    more: Callable[[Any], Sequence[Any]] = lambda _: ()
    pace: tuple[float, float] | None = None


@dataclass(frozen=True)
class Network:
    """A network: how it is made, and how it is trained unless it comes with its weights.

    Attributes:
        make: the network before its training, from others.
        objective: of that network, what is minimised; None for nothing.
        recipe: how.
        kept: a file of weights, taken where its header says `facts`.
        facts: what those weights were trained by.
    """

    make: Callable[[Nets], nn.Module]
    objective: Callable[[Any, Nets], Objective] | None = None
    recipe: Recipe = Recipe(1)
    kept: Path | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


PRESETS = {
    "fashion_mnist": {"classifier": "cnn", "surrogate": "surrogate", "robust": "robust", "vgg": "vgg"},
    "cifar10": {"classifier": "resnet", "surrogate": "surrogate", "robust": "robust", "vgg": "features"},
}
"""Classifiers that ship: the one that is defended, another one, an adversarially trained one, one for features."""
OF_CLASSIFIERS = {"small": Recipe(10), "paper": Recipe(60, sgd(0.1, 5e-4), falling(0.5, 0.75), batch=128)}


def preset(name: str) -> Network:
    """A network that ships with its weights."""
    return Network(lambda _: presets.load(name))


def shipped(name: str, otherwise: Network) -> Network:
    """The preset of that name, if there is one."""
    return preset(name) if name in presets.names() else otherwise


def trained(make: Callable[[], nn.Module], recipe: Recipe, **attack: Any) -> Network:
    """A classifier of images, trained under attack where settings of one are given."""
    return Network(lambda _: make(), lambda net, _: ClassifierObjective(net, **attack), recipe)


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
    robust = trained(made, recipe, eps=d.eps, steps=10, step_size=d.eps / 4)
    return {"classifier": trained(made, recipe), "surrogate": vgg, "robust": robust, "vgg": vgg}


def copied(name: str) -> Callable[[Nets], Any]:
    """A copy of a network, to go on with."""
    return lambda nets: copy.deepcopy(nets(name))


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
