"""What a DRRDN is worth on held-out images: its accuracy, also under attack, and how far its parts have come apart."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from art_ext.attacks import ascent, cross_entropy, pgd
from art_ext.classifiers.drrdn import DRRDNObjective, diagnose
from art_ext.nn.hashing import sha256
from art_ext.nn.modes import evaluating, seeded, trainable
from art_ext.training import Validation

BEST = "validation_robust_accuracy"
"""The figure by which an epoch is the best."""


@dataclass(frozen=True)
class Robustness:
    """PGD on held-out images, in the norm and radius of the training.

    Attributes:
        objective: whose attack and parts are meant.
        module: the classifier that is attacked, images in [0, 1] to logits.
        x: images (N, C, H, W) in [0, 1].
        y: class indices (N,).
        steps: of PGD.
        batch_size: images attacked at once.
        seed: of the attack, the same at each epoch.
    """

    objective: DRRDNObjective
    module: nn.Module
    x: Tensor
    y: Tensor
    steps: int
    batch_size: int
    seed: int

    def measure(self) -> dict[str, float]:
        """Accuracies of the classifier, natural and under attack, and the diagnosis of its parts."""
        model, device = self.objective.model, next(self.objective.model.parameters()).device
        x_adv, right, robust = [], 0, 0
        with evaluating(self.module), trainable((), self.module.parameters()), seeded(self.seed):
            for x, y in zip(self.x.split(self.batch_size), self.y.split(self.batch_size), strict=True):
                x, y = x.to(device), y.to(device)
                gradient = ascent(cross_entropy(self.module, y))
                x_adv.append(pgd(gradient, x, norm=self.objective.norm, eps=self.objective.eps, steps=self.steps))
                with torch.no_grad():
                    right += int((self.module(x).argmax(1) == y).sum())
                    robust += int((self.module(x_adv[-1]).argmax(1) == y).sum())
            seen = [self.objective.enter(images) for images in (self.x.to(device), torch.cat(x_adv))]
            found = diagnose(model, seen[0], seen[1], self.y.to(device), batch_size=self.batch_size)
        shares = {"validation_accuracy": right, BEST: robust}
        return {**{k: v / len(self.x) for k, v in shares.items()}, **found}

    def kept(self, patience: int | None) -> Validation:
        """Its use after each epoch, which keeps the weights of the highest robust accuracy.

        Args:
            patience: epochs without a higher one after which the training ends; None for no end.
        """
        about = {"steps": self.steps, "seed": self.seed, "images": len(self.x), "sha256": sha256([self.x, self.y])}
        return Validation(self.measure, BEST, patience, about)
