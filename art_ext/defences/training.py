"""From ART's arrays and generators to the training loop: one place for preprocessors that fit and for trainers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from art.data_generators import DataGenerator
from numpy.typing import NDArray
from torch import Tensor

from art_ext.defences.view import View, as_tensor, check_array, class_indices
from art_ext.images import check_images
from art_ext.objectives import check_labels
from art_ext.training import Batches, Callbacks, Data, Objective, Optimizers, Scheduler, Validate, run

CHECKED_AT_ONCE = 4096


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
        optimizers: Sequence[Optimizers] | None = None,
        validate: Validate | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Trains on arrays, until `stop` says so after an epoch. Everything is checked before anything is trained.

        Raises:
            TypeError: images or labels are not numeric arrays.
            ValueError: images not of rank 4, none at all, out of range, labels that do not fit, or none where a stage
                needs them.
        """
        check_labels(self.stages, y is not None)
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
        optimizers: Sequence[Optimizers] | None = None,
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
        optimizers: Sequence[Optimizers] | None,
        validate: Validate | None,
        stop: Callable[[], bool],
    ) -> None:
        run(
            self.stages, data, epochs=epochs, seed=self.seed, optimizers=optimizers, schedulers=schedulers,
            checkpoint=self.checkpoint, validate=validate, stop=stop, progress=self.verbose,
            callbacks=Callbacks(on_epoch=lambda _, row: self.history.append(row)),
        )  # fmt: skip


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
            check_labels(self.run.stages, labels is not None)
            yield self.run.images(x), labels


def listed(scheduler: Scheduler | Sequence[Scheduler] | None) -> list[Scheduler]:
    """The schedulers that a caller gave, none, one or several."""
    return [] if scheduler is None else list(scheduler) if isinstance(scheduler, Sequence) else [scheduler]
