"""A measurement at the end of each epoch, the state of the best one, and when to stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from art_ext.training.checkpoint import Checkpoint
from art_ext.training.objective import Objective

Measure = Callable[[], Mapping[str, float]]


@dataclass
class Validation:
    """What `run` measures after each epoch of a stage, which then ends with the weights of its best epoch.

    Attributes:
        measure: figures by name.
        best: the name of the figure that is to be high; of equal ones the first epoch counts.
        patience: epochs without a higher figure after which a stage ends; None for no end.
        about: what else decides the figures, in plain values: a checkpoint is gone on with under the same ones alone.
        best_epochs: of each stage that has measured, from 0; filled by `run`.

    Raises:
        ValueError: patience below 1.
    """

    measure: Measure
    best: str
    patience: int | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    best_epochs: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"expected patience >= 1 or None, got {self.patience}")


class Kept:
    """What has been measured of a stage, and its best state.

    To the loop it is a scheduler: it runs before an epoch's checkpoint is written, which holds what it has counted.

    Args:
        validation: what is measured.
        objective: whose state is kept.
        path: a file for the best state, which a resumed training needs.
        writes: whether this process writes it.

    Attributes:
        row: what the last epoch measured.
        best_epoch: from 0; -1 before any.
    """

    def __init__(self, validation: Validation, objective: Objective, path: Path | None, writes: bool = True) -> None:
        self.validation, self.objective, self.writes = validation, objective, writes
        self.file = None if path is None else Checkpoint(path)
        self.row: dict[str, float] = {}
        self.epochs, self.best_epoch, self.best = 0, -1, -float("inf")
        self._state: dict[str, Tensor] = {}

    def step(self) -> None:
        """Measures, and keeps the state if it is the best so far.

        Raises:
            ValueError: the figure that is to be high was not measured.
        """
        self.row = dict(self.validation.measure())
        if self.validation.best not in self.row:
            raise ValueError(f"expected a measurement of {self.validation.best!r}, got {', '.join(self.row) or 'none'}")
        if self.row[self.validation.best] > self.best:
            self.best, self.best_epoch = self.row[self.validation.best], self.epochs
            self._state = {k: v.detach().cpu().clone() for k, v in self.objective.trained_state().items()}
            if self.file is not None and self.writes:
                self.file.save({"objective": self._state})
        self.epochs += 1

    def exhausted(self) -> bool:
        """Whether patience is at its end."""
        patience = self.validation.patience
        return patience is not None and self.epochs - 1 - self.best_epoch >= patience

    def restore(self) -> None:
        """Puts the best state back, where there is one."""
        if self.best_epoch >= 0:
            self.objective.load_trained_state(self._state)

    def identity(self) -> dict[str, Any]:
        """Nothing: what was measured stands in the state, which `check_state` compares."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What has been counted, and by which measurement."""
        counted = {"epochs": self.epochs, "best_epoch": self.best_epoch, "best": self.best}
        return {**counted, "measurement": self._measurement()}

    def _measurement(self) -> dict[str, Any]:
        return {**self.validation.about, "best": self.validation.best}

    def check_state(self, state: dict[str, Any]) -> None:
        """Whether `load_state_dict` would take it.

        Raises:
            ValueError: the file of the best state is gone, or something else was measured.
        """
        mine, theirs = self._measurement(), state["measurement"]
        if mine != theirs:
            raise ValueError(f"expected a checkpoint whose validation is {mine}, got one with {theirs}")
        if state["best_epoch"] >= 0 and (self.file is None or self.file.load() is None):
            where = None if self.file is None else self.file.path
            raise ValueError(f"expected the best state beside the checkpoint, in {where}, got no such file")

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there, with the best state from its file.

        Raises:
            ValueError: see `check_state`.
        """
        self.check_state(state)
        found = None if self.file is None else self.file.load()
        self._state = {} if found is None else found["objective"]
        for name in ("epochs", "best_epoch", "best"):
            setattr(self, name, state[name])
