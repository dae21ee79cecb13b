"""One step of training of each method, against the passes that it is made of, and in bfloat16."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from lightning_fabric import Fabric

from art_ext import presets
from art_ext.classifiers.drrdn import DRRDNObjective
from art_ext.data import fashion_mnist
from art_ext.nn import FeatureExtractor, seeded
from art_ext.nn.precision import has_bfloat16
from art_ext.objectives import (
    AToPFineTuning,
    AToPPretraining,
    CDVAEGame,
    CDVAETraining,
    DIRPretraining,
    DIRRestoration,
    RDPObjective,
)
from art_ext.training import Batches, Objective, fit
from benchmarks.performance.measure import Comparison, Contender, Run
from benchmarks.performance.passes import again, passes_of
from benchmarks.performance.problems import Options

N, EPS = 64, 0.1
OURS, PASSES, HALF = "training step", "its passes alone", "training step, bfloat16 and channels-last"
FOREVER = 10**9


def _load(name: str) -> Any:
    return presets.load(f"fashion_mnist_{name}")


OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "RDP": lambda: RDPObjective(_load("rdp"), FeatureExtractor(_load("vgg"), "features.relu3_3"), eps=EPS, steps=10),
    "CD-VAE": lambda: CDVAETraining(_load("cdvae")),
    "CD-VAE, game": lambda: CDVAEGame(_load("cdvae"), _load("cdvae_classifier"), eps=EPS, steps=10),
    "DIR, pre-training": lambda: DIRPretraining(_load("dir"), _load("robust"), eps=EPS, steps=5),
    "DIR, restoration": lambda: DIRRestoration(_load("dir"), _load("robust"), eps=EPS, steps=5),
    "AToP, pre-training": lambda: AToPPretraining(_load("atop")),
    "AToP, fine-tuning": lambda: AToPFineTuning(_load("atop"), _load("cnn"), eps=EPS),
    "DRRDN": lambda: DRRDNObjective(_load("drrdn"), eps=EPS, steps=7),
}
"""Each stage of each method on the presets' networks."""


def training(options: Options) -> list[Comparison]:
    """A comparison a stage; a batch is the first training images."""
    return [_comparison(name, options) for name in OBJECTIVES]


def _comparison(name: str, options: Options) -> Comparison:
    n = options.n(N)
    contenders = [
        Contender(OURS, lambda: step(objective(name, options), n, options)),
        Contender(PASSES, lambda: bare(objective(name, options), n, options)),
        Contender(HALF, lambda: halved_step(objective(name, options), n, options)),
    ]
    settings = {"method": name, "n": n, "images": "training images that ship with the package"}
    return Comparison("training", f"training step, {name}", contenders, OURS, settings)


def objective(name: str, options: Options) -> Objective:
    """A stage of a method, beginning at its preset's weights; what it adds to them is of a fixed seed."""
    with seeded(options.seed):
        return OBJECTIVES[name]().to(options.device)


def step(stage: Objective, n: int, options: Options, precision: Any = "32-true") -> Run:
    """The next step of `fit`, on a batch of n images."""
    data = fashion_mnist("train", n)
    fabric = Fabric(accelerator=options.device.type, devices=1, precision=precision)
    steps = fit(stage, Batches(data.x, data.y, batch_size=n, seed=options.seed), epochs=FOREVER, fabric=fabric)
    return lambda: next(steps)


def halved_step(stage: Objective, n: int, options: Options) -> Run:
    """The same in bfloat16 where the device has it, channels-last.

    Raises:
        ValueError: the device has no bfloat16 instructions.
    """
    if not has_bfloat16(options.device):
        raise ValueError("expected a device with bfloat16 instructions, got one without")
    stage.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return step(stage, n, options, "bf16-mixed")


def bare(stage: Objective, n: int, options: Options) -> Run:
    """Forward and backward passes of one step, without loop, losses and optimiser."""
    data = fashion_mnist("train", n)
    with seeded(options.seed):
        return again(passes_of(stage, data.x.to(options.device), data.y.to(options.device)))
