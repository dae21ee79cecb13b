"""Training a purifier for an ART classifier."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from art.data_generators import DataGenerator
from art.defences.trainer.trainer import Trainer
from art.estimators.classification import PyTorchClassifier
from numpy.typing import NDArray

from art_ext.data.augmentations import Augmentation
from art_ext.defences.preprocessor import PurifierPreprocessor
from art_ext.defences.training import How, Settled, TrainingRun, images_and_labels, listed
from art_ext.defences.view import as_module, class_indices
from art_ext.nn import evaluating, seeded
from art_ext.nn.copies import in_slices
from art_ext.objectives import check_options
from art_ext.purifiers import Purifier
from art_ext.training import Scheduler, made_optimizers


class PurifierTrainer(Settled, Trainer):
    """Trains the purifier that defends a classifier; the classifier's own weights, mode and gradients stay as they are.

    | Please keep in mind the limitations of defences: training accuracy against the training attack says nothing about
        an attacker who differentiates through the purifier.

    | Attributes: `history`, one dict an epoch with the mean of every loss term and the validation accuracy;
        `optimizers`, by player, of several stages by "Objective/player", for learning rate schedulers; `kind`, the
        class of purifiers that it trains; `how`, the arguments from `seed` to `augment`.
    """

    kind: ClassVar[type[Purifier]] = Purifier

    def __init__(
        self, classifier: PyTorchClassifier, seed: int = 0, checkpoint: str | Path | None = None, verbose: bool = False,
        precision: str = "32-true", devices: int = 1, augment: str | Augmentation | None = None, **options: Any,
    ) -> None:  # fmt: skip
        """Prepare the training of a classifier's purifier.

        :param classifier: An ART classifier with clip values and one `PurifierPreprocessor` among its
                           `preprocessing_defences`, which is trained in place, on the classifier's device: a purifier
                           elsewhere moves there, with a warning.
        :param seed: Of the order of the images and of everything random in a step.
        :param checkpoint: A file to keep the state of the training in; an existing one is resumed.
        :param verbose: Show a progress bar.
        :param precision: `32-true`, `bf16-mixed` or `16-mixed`.
        :param devices: Of the machine, on the CPU processes; see `art_ext.defences.training.How`.
        :param augment: Changes the images of each batch: `shift_and_flip:2`, `crop:32`, or a function of images
                        (N, C, H, W) in [0, 1].
        :param options: Of the purifier's method, see `art_ext.objectives.options_of`; others are refused.
        """
        super().__init__(classifier)
        self._module = as_module(classifier, postprocessing=False)  # refuses what is no ART classifier
        self.preprocessor = preprocessor_of(classifier)
        purifier = self.preprocessor.purifier
        if not isinstance(purifier, self.kind):
            raise ValueError(
                f"expected a classifier defended by {self.kind.__name__}, got one defended by {purifier.name!r}"
            )
        check_options(type(purifier), options)
        self.how = How(seed, checkpoint, verbose, precision, devices, augment)
        self.how.check(classifier.device)
        self.preprocessor.move_to(classifier.device)
        self.history: list[dict[str, float]] = []
        with seeded(seed):  # helper networks are new
            self.stages = purifier.stages(self._module, **options)
        if not self.stages:
            raise ValueError(f"expected a purifier that can be trained, got {purifier.name!r}, which has no stages")
        self._optimizers = made_optimizers(self.stages)

    def fit(
        self,
        x: NDArray[Any],
        y: NDArray[Any] | None = None,
        validation_data: tuple[NDArray[Any], NDArray[Any]] | None = None,
        batch_size: int = 64,
        nb_epochs: int = 20,
        scheduler: Scheduler | Sequence[Scheduler] | None = None,
        **kwargs: Any,
    ) -> None:
        """Train the purifier on arrays.

        :param x: Images in the classifier's range and layout.
        :param y: Labels, one-hot or indices; None for methods that need none.
        :param validation_data: Images and labels; each epoch ends with the accuracy of the defended classifier on them.
        :param batch_size: Images a step.
        :param nb_epochs: Passes over the images.
        :param scheduler: One or more objects with `step`, stepped at the end of each epoch.
        :param kwargs: Refused; ART's signature has them.
        """
        run = self._run(kwargs)
        validate = self._validation(validation_data, run)
        run.fit(
            x, y, epochs=nb_epochs, batch_size=batch_size, schedulers=listed(scheduler), validate=validate,
            optimizers=self._optimizers,
        )  # fmt: skip
        self.preprocessor._is_fitted = True

    def fit_generator(
        self,
        generator: DataGenerator,
        validation_data: tuple[NDArray[Any], NDArray[Any]] | None = None,
        nb_epochs: int = 20,
        scheduler: Scheduler | Sequence[Scheduler] | None = None,
        **kwargs: Any,
    ) -> None:
        """Train the purifier on an ART data generator.

        :param generator: Gives images in the classifier's range and layout, and labels.
        :param validation_data: As for `fit`.
        :param nb_epochs: Passes over the generator's size.
        :param scheduler: As for `fit`.
        :param kwargs: Refused; ART's signature has them.
        """
        run = self._run(kwargs)
        validate = self._validation(validation_data, run)
        run.fit_generator(
            generator, epochs=nb_epochs, schedulers=listed(scheduler), validate=validate,
            optimizers=self._optimizers,
        )  # fmt: skip
        self.preprocessor._is_fitted = True

    def predict(self, x: NDArray[Any], **kwargs: Any) -> NDArray[Any]:
        """Predictions of the defended classifier, some batches at a time: ART copies all images that it is given.

        :param x: Images in the classifier's range and layout.
        :param kwargs: Of the classifier's `predict`.
        :return: Predictions of shape `(nb_samples, nb_classes)`.
        """
        # The purifier and the network each meet the batches that they would meet in the whole.
        size = math.lcm(self.preprocessor.batch_size, max(1, kwargs.get("batch_size", 128)))
        return in_slices(lambda part: np.asarray(self.classifier.predict(part, **kwargs)), x, size)

    def __repr__(self) -> str:
        stages = [type(stage).__name__ for stage in self.stages]
        return f"{type(self).__name__}(classifier={self.classifier!r}, stages={stages}, seed={self.seed})"

    @property
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """The optimizers, to read and for schedulers: by player, and of several stages by "Objective/player"."""
        if len(self.stages) == 1:
            return MappingProxyType(dict(self._optimizers[0]))
        pairs = zip(self.stages, self._optimizers, strict=True)
        return MappingProxyType({f"{type(stage).__name__}/{k}": o for stage, found in pairs for k, o in found.items()})

    def _run(self, kwargs: dict[str, Any]) -> TrainingRun:
        if kwargs:
            raise TypeError(f"expected no further arguments, got {sorted(kwargs)}")
        view = self.preprocessor._view()
        classes = int(self.classifier.nb_classes)
        run = TrainingRun(self.stages, view, self.how, classes)
        self.history = run.history
        return run

    def _validation(self, data: tuple[NDArray[Any], NDArray[Any]] | None, run: TrainingRun) -> Any:
        if data is None:
            return None
        x, y = images_and_labels(data)
        run.images(x)  # refuses now what would end the first epoch
        labels = class_indices(y, len(x), int(self.classifier.nb_classes)).numpy()

        def accuracy() -> float:
            # ART's predict leaves the network in eval mode, and draws from torch's ambient generator.
            with evaluating(self.classifier._model), seeded(self.seed):
                return float(np.mean(self.classifier.predict(x).argmax(1) == labels))

        return accuracy


def preprocessor_of(classifier: PyTorchClassifier) -> PurifierPreprocessor:
    """The one purifier among a classifier's preprocessing defences.

    Raises:
        ValueError: none, or several.
    """
    defences = classifier.preprocessing_defences or []
    found = [d for d in defences if isinstance(d, PurifierPreprocessor)]
    if len(found) != 1:
        names = [type(d).__name__ for d in defences]
        raise ValueError(
            f"expected one PurifierPreprocessor among the classifier's preprocessing_defences, got {names}"
        )
    return found[0]
