"""Small networks and images for a device, made on the CPU so that they are the same on each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.classifiers import SmallDRRDN
from art_ext.classifiers.drrdn import DRRDNObjective
from art_ext.classifiers.objective import ClassifierObjective, TradesObjective
from art_ext.purifiers import PURIFIERS
from art_ext.training import Batches, Objective

SIDES = (8, 12)
CLASSES = 4


def classifier() -> nn.Sequential:
    """Of images (N, 3, 8, 12), in eval mode."""
    torch.manual_seed(1)
    features = (nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    return nn.Sequential(*features, nn.Linear(32, CLASSES)).eval()


def images(count: int = 6) -> tuple[Tensor, Tensor]:
    x = torch.rand(count, 3, *SIDES, generator=torch.Generator().manual_seed(2))
    return x, torch.arange(count) % CLASSES


def purifier(name: str, **options: object) -> Any:
    torch.manual_seed(3)
    kind = PURIFIERS[name]
    return kind(**{**kind.small, **options}).eval()


def batches(count: int = 6, size: int = 3) -> Batches:
    return Batches(*images(count), batch_size=size)


def stages(name: str) -> list[Objective]:
    """The objectives of a method, of each kind that it has."""
    if name == "drrdn":
        torch.manual_seed(4)
        return [DRRDNObjective(SmallDRRDN(3, CLASSES, 2, hidden=5, critic_width=6), steps=3)]
    if name == "classifier":
        attacks = ({}, {"eps": 0.1, "steps": 3}, {"eps": 0.1, "attack": "n-fgsm"})
        made: list[Objective] = [ClassifierObjective(classifier(), **attack) for attack in attacks]
        behind = ClassifierObjective(classifier(), eps=0.1, steps=3, purifier=purifier("dir"))
        return [*made, behind, TradesObjective(classifier(), eps=0.1, steps=3)]
    if name == "cdvae":
        found = purifier(name).stages(classifier(), train_classifier=True, game=True, steps=3)
        return [*found, *purifier(name).stages(classifier(), disentangle=False, game=True, variant="released", steps=3)]
    if name == "atop":
        return [
            *purifier(name).stages(classifier()),
            *purifier(name).stages(classifier(), attack="purifier", steps=3)[1:],
        ]
    return purifier(name).stages(classifier())


METHODS = (*PURIFIERS, "drrdn", "classifier")


VARIANTS: dict[str, Callable[[], Any]] = {name: partial(purifier, name) for name in PURIFIERS} | {
    "dir of pixels": lambda: purifier("dir", masking="pixels"),
    "dir of three masks": lambda: purifier("dir", masks=3, ratio=0.4, draws=2),
    "frozen dir": lambda: purifier("dir").set_masks(1),
    "frozen atop": lambda: purifier("atop").set_transform(1),
    "atop of RT3": lambda: purifier("atop", transform="RT3", size=16),
    "atop of an auto-encoder": lambda: purifier("atop", restorer="autoencoder"),
    "noisy rdp": lambda: purifier("rdp", noise_std=0.1),
    "sampling cdvae": lambda: purifier("cdvae", sample=True),
    "vqvae": lambda: purifier("cdvae", kind="vqvae"),
}
"""Every registered purifier, and the options of it that take another path."""
