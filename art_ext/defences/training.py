"""From ART's arrays and generators to the training loop: one place for preprocessors that fit and for trainers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from art.data_generators import DataGenerator
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from art_ext.defences.view import View, as_tensor, check_array, class_indices
from art_ext.images import check_images
from art_ext.training import Batches, Checkpoint, Data, Objective, Scheduler, Step, fit

logger = logging.getLogger(__name__)
CHECKED_AT_ONCE = 4096
Validate = Callable[[], float | Mapping[str, float]]
"""Run at the end of each epoch; a number is the accuracy, more of them have names."""


class TrainingRun:
    """Trains the stages of a method in order.

    Args:
        stages: objectives.
        view: of the user's images.
        seed: of the order of the images and of every step.
        checkpoint: a file; each stage keeps its state beside it, "name.1", "name.2" and so on.
        verbose: show a progress bar.
        classes: number of classes, None where labels are not needed.
    """

    def __init__(
        self,
        stages: Sequence[Objective],
        view: View,
        seed: int = 0,
        checkpoint: str | Path | None = None,
        verbose: bool = False,
        classes: int | None = None,
    ) -> None:
        self.stages, self.view, self.seed = stages, view, seed
        self.checkpoint, self.verbose, self.classes = checkpoint, verbose, classes
        self.history: list[dict[str, float]] = []

    def fit(
        self,
        x: NDArray[Any],
        y: NDArray[Any] | None,
        *,
        epochs: int,
        batch_size: int,
        schedulers: Sequence[Scheduler] = (),
        optimizers: dict[str, torch.optim.Optimizer] | None = None,
        validate: Validate | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Trains on arrays, until `stop` says so after an epoch. Everything is checked before anything is trained.

        Raises:
            TypeError: images or labels are not numeric arrays.
            ValueError: images not of rank 4, none at all, out of range, or labels that do not fit.
        """
        images = self.images(x)
        labels = None if y is None or self.classes is None else class_indices(y, len(x), self.classes)
        data = Batches(images, labels, batch_size=batch_size, seed=self.seed)
        self._train(data, epochs, schedulers, optimizers, validate, stop)

    def fit_generator(
        self,
        generator: DataGenerator,
        *,
        epochs: int,
        schedulers: Sequence[Scheduler] = (),
        optimizers: dict[str, torch.optim.Optimizer] | None = None,
        validate: Validate | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Trains on an ART data generator, whose order is its own: a resumed run is not bit-identical.

        Raises:
            TypeError: not an ART data generator.
            ValueError: a generator of unknown size.
        """
        if not isinstance(generator, DataGenerator):
            raise TypeError(f"expected an ART DataGenerator, got {type(generator).__name__}")
        if generator.size is None:
            raise ValueError("expected a generator with a size, got None")
        self._train(_Generated(generator, self), epochs, schedulers, optimizers, validate, stop)

    def images(self, x: Any) -> Tensor:
        """The user's array as (N, C, H, W) in [0, 1], float32, checked; a copy."""
        check_array(x)
        if not len(x):
            raise ValueError("expected at least one image to train on, got none")
        pieces = []
        for at in range(0, len(x), CHECKED_AT_ONCE):
            piece = self.view.enter(as_tensor(x[at : at + CHECKED_AT_ONCE])).contiguous()
            check_images(piece, channels=self._channels())
            pieces.append(piece)
        return torch.cat(pieces)

    def _channels(self) -> int | None:
        return next((getattr(m, "channels", None) for m in self.stages[0].children()), None)

    def _train(
        self,
        data: Data,
        epochs: int,
        schedulers: Sequence[Scheduler],
        optimizers: dict[str, torch.optim.Optimizer] | None,
        validate: Validate | None,
        stop: Callable[[], bool],
    ) -> None:
        if epochs < 1:
            raise ValueError(f"expected at least one epoch, got {epochs}")
        for number, stage in enumerate(self.stages, start=1):
            path = None if self.checkpoint is None else Checkpoint(f"{self.checkpoint}.{number}", every=len(data))
            steps = fit(
                stage, data, epochs=epochs, seed=self.seed, optimizers=optimizers, schedulers=schedulers,
                checkpoint=path, stop=stop,
            )  # fmt: skip
            title = f"{type(stage).__name__} {number}/{len(self.stages)}"
            with tqdm(total=epochs * len(data), desc=title, disable=not self.verbose) as bar:
                self._watch(steps, len(data), bar, validate)

    def _watch(self, steps: Iterator[Step], batches: int, bar: Any, validate: Validate | None) -> None:
        sums: dict[str, float] = {}
        for step in steps:
            bar.update(step.number - bar.n)
            sums = {k: sums.get(k, 0.0) + v for k, v in step.terms.items()}
            if step.number % batches:
                continue
            row = {k: v / batches for k, v in sums.items()} | {"epoch": float(step.epoch)}
            if validate is not None:
                found = validate()
                row |= found if isinstance(found, Mapping) else {"validation_accuracy": found}
            self.history.append(row)
            bar.set_postfix({k: f"{v:.4g}" for k, v in row.items() if k != "epoch"})
            logger.info("epoch %d: %s", step.epoch, row)
            sums = {}


class _Generated:
    """An ART generator as `Data`: each epoch takes ceil(size / batch_size) batches."""

    def __init__(self, generator: DataGenerator, run: TrainingRun) -> None:
        self.generator, self.run = generator, run

    def __len__(self) -> int:
        return -(-int(self.generator.size) // int(self.generator.batch_size))

    def epoch(self, index: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor | None]]:
        for _ in range(start, len(self)):
            x, *rest = self.generator.get_batch()
            labels = None
            if rest and self.run.classes is not None:
                labels = class_indices(np.asarray(rest[0]), len(x), self.run.classes)
            yield self.run.images(x), labels


def listed(scheduler: Scheduler | Sequence[Scheduler] | None) -> list[Scheduler]:
    """The schedulers that a caller gave, none, one or several.

    Raises:
        TypeError: one that cannot be stepped.
    """
    schedulers = [] if scheduler is None else list(scheduler) if isinstance(scheduler, Sequence) else [scheduler]
    for s in schedulers:
        if not callable(getattr(s, "step", None)):
            raise TypeError(f"expected a scheduler with a method step(), got {type(s).__name__}")
    return schedulers
