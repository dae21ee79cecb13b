"""From ART's arrays and generators to the training loop: one place for preprocessors that fit and for trainers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from art.data_generators import DataGenerator
from numpy.typing import NDArray
from torch import Tensor

from art_ext.data.augmentations import Augmentation, augmentation_of, check_augmentation
from art_ext.defences.view import View, as_tensor, check_array, class_indices
from art_ext.images import check_images
from art_ext.nn.identity import identity
from art_ext.plain import seed_of
from art_ext.training import (
    Batches,
    Callbacks,
    Data,
    Objective,
    Optimizers,
    Scheduler,
    Validate,
    Validation,
    check_labels,
    check_settings,
    launched,
    local_rank,
    make_fabric,
    run,
)

CHECKED_AT_ONCE = 4096


class Common(TypedDict, total=False):
    """The arguments that every training has, whatever its method; see `How`."""

    seed: int
    checkpoint: str | Path | None
    verbose: bool
    precision: str
    devices: int
    augment: str | Augmentation | None


@dataclass(frozen=True)
class How:
    """How a method is trained.

    Attributes:
        seed: of the order of the images and of every step.
        checkpoint: a file; each stage keeps its state beside it, "name.1", "name.2" and so on.
        verbose: show a progress bar.
        precision: 32-true, bf16-mixed or 16-mixed.
        devices: of the machine; on the CPU, processes. More than one run the program again from its beginning, unless
            torchrun, `fabric run` or `srun` has started them.
        augment: changes the images of each batch: shift_and_flip:2, crop:32, or a function of images (N, C, H, W) in
            [0, 1], which draws from torch's ambient generator.

    Raises:
        TypeError: an augmentation that is neither, or a seed that is no whole number.
        ValueError: an unknown augmentation or precision, a negative seed, or a number of devices below 1.
    """

    seed: int = 0
    checkpoint: str | Path | None = None
    verbose: bool = False
    precision: str = "32-true"
    devices: int = 1
    augment: str | Augmentation | None = None

    def check(self, device: torch.device) -> None:
        """Refuses what cannot work.

        Args:
            device: where the networks are.
        """
        seed_of(self.seed)
        augmentation_of(self.augment)
        check_settings(device, self.devices, self.precision)


class Settled:
    """Options of a trainer, which do not change any more."""

    how: How

    @property
    def seed(self) -> int:
        """Of the order of the images and of every step."""
        return self.how.seed

    @property
    def checkpoint(self) -> str | Path | None:
        """The file of the training's state."""
        return self.how.checkpoint

    @property
    def verbose(self) -> bool:
        """Whether there is a progress bar."""
        return self.how.verbose


class TrainingRun:
    """Trains the stages of a method in order.

    Args:
        stages: objectives.
        view: of the user's images.
        how: seeds, checkpoint, precision and the like.
        classes: number of classes, None where labels are not needed.

    Raises:
        TypeError: see `How`.
        ValueError: likewise.
    """

    def __init__(
        self, stages: Sequence[Objective], view: View, how: How = How(), classes: int | None = None
    ) -> None:  # fmt: skip
        self.stages, self.view, self.how, self.classes = stages, view, how, classes
        self.history: list[dict[str, float]] = []
        self.augment = augmentation_of(how.augment)
        self.device = next(p.device for stage in stages for p in stage.parameters())
        kinds = {p.dtype for stage in stages for p in stage.parameters()} - {torch.float32}
        if kinds:
            raise ValueError(
                f"expected networks in float32 to train, got {', '.join(sorted(map(str, kinds)))}: precision says what "
                "passes are made in"
            )
        how.check(self.device)

    def fit(
        self,
        x: NDArray[Any],
        y: NDArray[Any] | None,
        *,
        epochs: int,
        batch_size: int,
        schedulers: Sequence[Scheduler] | None = None,
        optimizers: Sequence[Optimizers] | None = None,
        validate: Validate | Validation | None = None,
    ) -> None:
        """Trains on arrays. Everything is checked before anything is trained.

        Raises:
            TypeError: images or labels are not numeric arrays.
            ValueError: images not of rank 4, none at all, out of range, labels that do not fit, or none where a stage
                needs them.
        """
        check_labels(self.stages, y is not None)
        images = self.images(x)
        labels = None if y is None or self.classes is None else class_indices(y, len(x), self.classes)
        check_augmentation(self.augment, images[:2])
        data = Batches(images, labels, batch_size=batch_size, seed=self.how.seed, augment=self.augment)
        self._train(data, epochs, schedulers, optimizers, validate)

    def fit_generator(
        self,
        generator: DataGenerator,
        *,
        epochs: int,
        schedulers: Sequence[Scheduler] | None = None,
        optimizers: Sequence[Optimizers] | None = None,
        validate: Validate | Validation | None = None,
    ) -> None:
        """Trains on an ART data generator, whose order is its own: a resumed run is not bit-identical.

        Raises:
            TypeError: not an ART data generator.
            ValueError: a generator of unknown size, or several processes, each of which would draw another order.
        """
        if not isinstance(generator, DataGenerator):
            raise TypeError(f"expected an ART DataGenerator, got {type(generator).__name__}")
        if generator.size is None:
            raise ValueError("expected a generator with a size, got None")
        if self.how.devices > 1:
            raise ValueError(f"expected arrays to train on {self.how.devices} devices with, got a generator")
        self._train(_Generated(generator, self), epochs, schedulers, optimizers, validate)

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
        schedulers: Sequence[Scheduler] | None,
        optimizers: Sequence[Optimizers] | None,
        validate: Validate | Validation | None,
    ) -> None:
        fabric = make_fabric(self.device, devices=self.how.devices, precision=self.how.precision)
        if fabric.world_size > 1 and self.device.type == "cuda" and self.device.index != local_rank():
            raise ValueError(
                f"expected the networks of process {local_rank()} on cuda:{local_rank()}, got them on {self.device}: "
                "begin the program with torch.cuda.set_device(int(os.environ.get('LOCAL_RANK', 0)))"
            )
        run(
            self.stages, data, epochs=epochs, seed=self.how.seed, optimizers=optimizers, schedulers=schedulers,
            checkpoint=self.how.checkpoint, validate=validate, fabric=launched(fabric), progress=self.how.verbose,
            callbacks=Callbacks(on_epoch=lambda _, row: self.history.append(row)),
        )  # fmt: skip


class _Generated:
    """An ART generator as `Data`: each epoch takes ceil(size / batch_size) batches."""

    def __init__(self, generator: DataGenerator, run: TrainingRun) -> None:
        self.generator, self.run = generator, run
        self.checked = False

    def __len__(self) -> int:
        return -(-int(self.generator.size) // int(self.generator.batch_size))

    def identity(self) -> dict[str, Any]:
        """The generator's images as a hash where it has arrays or a data set of torch, its size, the augmentation."""
        held = [getattr(self.generator, name, None) for name in ("x", "y")]
        held.append(getattr(getattr(self.generator, "iterator", None), "dataset", None))
        return {
            "generator": type(self.generator).__name__,
            "images": identity(*held).sha256,
            "size": int(self.generator.size),
            "batch size": int(self.generator.batch_size),
            "augmentation": None if self.run.augment is None else identity(self.run.augment).sha256,
        }

    def epoch(self, index: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor | None]]:
        for _ in range(start, len(self)):
            x, *rest = self.generator.get_batch()
            labels = None
            if rest and self.run.classes is not None:
                labels = class_indices(np.asarray(rest[0]), len(x), self.run.classes)
            check_labels(self.run.stages, labels is not None)
            images = self.run.images(x)
            if not self.checked:
                check_augmentation(self.run.augment, images[:2])
                self.checked = True
            yield images if self.run.augment is None else self.run.augment(images), labels


def listed(scheduler: Scheduler | Sequence[Scheduler] | None) -> list[Scheduler] | None:
    """The schedulers that a caller gave, one or several; None where the paper's are to be used."""
    return None if scheduler is None else list(scheduler) if isinstance(scheduler, Sequence) else [scheduler]


def images_and_labels(data: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Validation data, checked for its form.

    Raises:
        TypeError: no pair.
        ValueError: not two arrays.
    """
    if not isinstance(data, tuple | list):
        raise TypeError(f"expected validation data as images and labels, got {type(data).__name__}")
    if len(data) != 2:
        raise ValueError(f"expected validation data as images and labels, got {len(data)} arrays")
    return data[0], data[1]
