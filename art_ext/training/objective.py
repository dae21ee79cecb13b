"""What is a method's own in its training; everything else is the loop's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn


class Scheduler(Protocol):
    """Anything that is stepped once an epoch.

    Its attributes are part of what the training is, unless it has an `identity()` that gives plain values in their
    place. Its state is what `state_dict` and `load_state_dict` have, or else its plain attributes. One whose
    `load_state_dict` may refuse has a `check_state` that refuses the same, before anything else is loaded.
    """

    def step(self) -> None: ...


class Objective(nn.Module, ABC):
    """Players, what each of them minimises, and the adversaries they see.

    Submodules named in `frozen` are read, never trained: they stay in eval mode, out of the checkpoints, and come back
    bit-identical.

    Attributes:
        labelled: whether `perturb` or `terms` need labels.
        carried: names of plain attributes that `perturb` leaves for the `terms` of its step; they are no settings.
    """

    frozen: ClassVar[tuple[str, ...]] = ()
    carried: ClassVar[tuple[str, ...]] = ()
    labelled: ClassVar[bool] = False

    @abstractmethod
    def players(self) -> dict[str, list[nn.Parameter]]:
        """Names and parameters of those who minimise, in the order in which they move within a step."""

    @abstractmethod
    def terms(self, player: str, x: Tensor, x_adv: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        """The weighted, named scalar losses whose sum `player` minimises.

        Args:
            player: a key of `players()`.
            x: clean images (N, C, H, W) in [0, 1].
            x_adv: what `perturb` made of them.
            y: class indices (N,), or None where the data has no labels.
        """

    def perturb(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Training adversaries of x, made once a step before any player moves; x itself unless overridden."""
        return x

    def optimizer(self, player: str, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser that the paper gives this player; Adam at 1e-4 unless overridden."""
        return torch.optim.Adam(parameters, lr=1e-4)

    def schedulers(self, optimizers: Mapping[str, torch.optim.Optimizer], epochs: int) -> list[Scheduler]:
        """The schedule of a training of so many epochs that the paper gives; none unless overridden.

        Args:
            optimizers: by player.
            epochs: passes over the data.
        """
        return []

    def trained_state(self) -> dict[str, Tensor]:
        """The state dict without the frozen submodules: what a checkpoint holds."""
        return {k: v for k, v in self.state_dict().items() if k.split(".")[0] not in self.frozen}

    def load_trained_state(self, state: dict[str, Tensor]) -> None:
        """Takes back what `trained_state` gave.

        Raises:
            ValueError: if names or shapes differ; nothing is loaded then.
        """
        expected = {k: tuple(v.shape) for k, v in self.trained_state().items()}
        found = {k: tuple(v.shape) for k, v in state.items()}
        if found != expected:
            names = sorted(k for k in {*expected, *found} if expected.get(k) != found.get(k))
            wrong = ", ".join(f"{k}: {expected.get(k, 'none')}, got {found.get(k, 'none')}" for k in names)
            raise ValueError(f"expected a state of these shapes: {wrong}")
        self.load_state_dict(state, strict=False)


def needs_labels(stages: Sequence[Objective]) -> list[str]:
    """The names of the stages that cannot be trained without labels."""
    return [type(stage).__name__ for stage in stages if stage.labelled]


def check_labels(stages: Sequence[Objective], labelled: bool) -> None:
    """Refuses images without labels before the first step of any stage.

    Raises:
        ValueError: a stage needs labels and there are none.
    """
    names = needs_labels(stages)
    if names and not labelled:
        raise ValueError(f"expected labels to train {', '.join(names)}, got None")
