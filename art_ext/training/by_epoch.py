"""Schedulers that set something of a method by how many epochs have ended."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any


class ByEpoch(ABC):
    """A scheduler for `fit` or a trainer that sets something at once and after each epoch; checkpoints keep its place.

    Attributes:
        epoch: how many epochs have ended.
    """

    epoch = 0

    @abstractmethod
    def apply(self) -> None:
        """Sets what belongs to `epoch`."""

    def step(self) -> None:
        """An epoch has ended."""
        self.load_state_dict({"epoch": self.epoch + 1})

    def state_dict(self) -> dict[str, Any]:
        """How many epochs have ended."""
        return {"epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what `state_dict` gave."""
        self.epoch = int(state["epoch"])
        self.apply()
