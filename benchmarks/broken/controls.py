"""Honest models beside the broken ones: they need not be robust, and must fail no check."""

from __future__ import annotations

import torch
from art.defences.preprocessor import JpegCompression
from torch import Tensor, nn

from art_ext.classifiers.drrdn import DRRDN, DRRDNObjective
from art_ext.defences import as_purifier
from art_ext.evaluation import Defended
from art_ext.purifiers import DIR, AToP, Purifier
from art_ext.training import Batches, Objective, fit
from benchmarks.broken.case import Case, claimed, purifies
from benchmarks.broken.problem import CLASSES, EPS, TRAINED_ON, Net, Problem, fresh, images, trained

EPOCHS = 8


class Ensemble(nn.Module):
    """The mean of several networks' logits."""

    def __init__(self, networks: list[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([network(x) for network in self.networks]).mean(0)


def run(objectives: list[Objective]) -> None:
    """Trains stage after stage on the training images."""
    x, y = images(TRAINED_ON, 1)
    for objective in objectives:
        for _ in fit(objective, Batches(x, y, batch_size=64), epochs=EPOCHS):
            pass


def purifier(name: str, problem: Problem, made: Purifier, stages: list[Objective]) -> Defended:
    run(stages)
    return Defended(name, problem.classifier, made.eval().requires_grad_(False))


def dir_(name: str, problem: Problem) -> Defended:
    made = fresh(lambda: DIR(1, patch=2, width=16, heads=2, depth=1, decoder_depth=1))
    assert isinstance(made, DIR)
    stages = made.stages(problem.classifier, eps=EPS, steps=1, pretraining_rate=2e-3, restore=False)
    return purifier(name, problem, made, stages)  # the second one wants more than a few epochs


def atop(name: str, problem: Problem) -> Defended:
    made = fresh(lambda: AToP(1, width=8, dilations=[2], grid=4, noise=0.05, restorer="autoencoder"))
    assert isinstance(made, AToP)
    return purifier(name, problem, made, made.stages(problem.classifier, eps=EPS, learning_rate=3e-3))


def drrdn(name: str, problem: Problem) -> Defended:
    def make() -> nn.Module:
        encoder = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten())
        return DRRDN(encoder, 128, CLASSES, width=32, critic_width=32)

    made = fresh(make)
    assert isinstance(made, DRRDN)
    small = {"domain": 0.1, "adversarial": 0.05, "entropy": 0.1}
    objective = DRRDNObjective(made, eps=EPS, steps=3, weights=small)
    objective.learning_rate = 0.1
    run([objective])
    return claimed(name, made.eval().requires_grad_(False))


def ensemble(name: str, problem: Problem) -> Defended:
    return Defended(name, Ensemble([problem.classifier, *(trained(fresh(Net, s), seed=s) for s in (1, 2))]))


def jpeg(name: str, problem: Problem) -> Defended:
    preprocessor = JpegCompression(clip_values=(0.0, 1.0), quality=75, channels_first=True)
    return Defended(name, problem.classifier, as_purifier(preprocessor))


CONTROLS: dict[str, Case] = {
    "undefended": Case("the plain classifier", lambda name, p: Defended(name, p.classifier)),
    "robust": Case("trained on adversaries", lambda name, p: claimed(name, trained(fresh(Net), eps=EPS, steps=100))),
    "ensemble": Case("mean logits of three networks", ensemble),
    "DRRDN": Case("trained for a few epochs", drrdn),
    "JPEG": Case("ART's, under BPDA", jpeg),
    "noise": Case("Gaussian, seen through EOT", purifies(lambda x: x + 0.05 * torch.randn_like(x), stochastic=True)),
    "DIR": Case("pre-trained for a few epochs", dir_),
    "AToP": Case("trained for a few epochs", atop),
}
"""By name; every one is made anew at each call."""
