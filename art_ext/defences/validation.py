"""Held-out images under attack at the end of each epoch, and the state of the best one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from art_ext.attacks import ascent, cross_entropy, pgd
from art_ext.classifiers.drrdn import DRRDNObjective, diagnose
from art_ext.defences.view import Logits
from art_ext.files import replacing
from art_ext.nn.hashing import sha256
from art_ext.nn.modes import evaluating, seeded, trainable


class Validation:
    """PGD on held-out images at the end of each epoch, and the state of the epoch that stood it best.

    To the loop it is a scheduler: it runs before an epoch's checkpoint is written, which holds what it has counted.

    Args:
        objective: whose state is kept.
        module: the classifier that is attacked, images in [0, 1] to logits.
        x: images (N, C, H, W) in [0, 1].
        y: class indices (N,).
        steps: of PGD, in the objective's norm and radius.
        batch_size: images attacked at once.
        seed: of the attack, the same at each epoch.
        patience: epochs without a higher robust accuracy before `exhausted`; None for no end.
        path: a file for the best state, which a resumed run needs.

    Attributes:
        row: what the last epoch measured.
        best_epoch: from 0, the first of highest robust accuracy; -1 before any.
    """

    def __init__(
        self, objective: DRRDNObjective, module: Logits, x: Tensor, y: Tensor, *, steps: int, batch_size: int,
        seed: int, patience: int | None = None, path: Path | None = None,
    ) -> None:  # fmt: skip
        self.objective, self.module, self.x, self.y = objective, module, x, y
        self.steps, self.batch_size, self.seed = steps, batch_size, seed
        self.patience, self.path = patience, path
        self.row: dict[str, float] = {}
        self.epochs, self.best_epoch, self.best = 0, -1, -1.0
        self._state: dict[str, Tensor] = {}

    def step(self) -> None:
        """Measures, and keeps the state if it is the best so far."""
        self.row = self.measure()
        if self.row["validation_robust_accuracy"] > self.best:
            self.best, self.best_epoch = self.row["validation_robust_accuracy"], self.epochs
            self._state = {k: v.detach().cpu().clone() for k, v in self.objective.trained_state().items()}
            if self.path is not None:
                with replacing(self.path) as temporary:
                    torch.save(self._state, temporary)
        self.epochs += 1

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
        shares = {"validation_accuracy": right, "validation_robust_accuracy": robust}
        return {**{k: v / len(self.x) for k, v in shares.items()}, **found}

    def exhausted(self) -> bool:
        """Whether patience is at its end."""
        return self.patience is not None and self.epochs - 1 - self.best_epoch >= self.patience

    def restore(self) -> None:
        """Puts the best state back into the model."""
        self.objective.load_trained_state(self._state)

    def state_dict(self) -> dict[str, Any]:
        """What has been counted, and by which measurement."""
        counted = {"epochs": self.epochs, "best_epoch": self.best_epoch, "best": self.best}
        return {**counted, "measurement": self._measurement()}

    def _measurement(self) -> dict[str, Any]:
        return {"steps": self.steps, "seed": self.seed, "images": len(self.x), "sha256": sha256([self.x, self.y])}

    def check_state(self, state: dict[str, Any]) -> None:
        """Whether `load_state_dict` would take it.

        Raises:
            ValueError: the file of the best state is gone, or other images or another attack were counted with.
        """
        mine, theirs = self._measurement(), state["measurement"]
        if mine != theirs:
            raise ValueError(f"expected a checkpoint whose validation is {mine}, got one with {theirs}")
        if self.path is None or not self.path.exists():
            raise ValueError(f"expected the best state beside the checkpoint, in {self.path}, got no such file")

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there, with the best state from its file.

        Raises:
            ValueError: see `check_state`.
        """
        self.check_state(state)
        assert self.path is not None
        self._state = torch.load(self.path, map_location="cpu", weights_only=True)
        for name in ("epochs", "best_epoch", "best"):
            setattr(self, name, state[name])
