"""Training a DRRDN for robust accuracy, from ART's arrays and generators."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

import numpy as np
from art.data_generators import DataGenerator
from art.defences.trainer.trainer import Trainer
from numpy.typing import NDArray
from typing_extensions import Unpack

from art_ext.attacks import Norm
from art_ext.classifiers.drrdn import DRRDN, DRRDNObjective
from art_ext.defences.training import Common, How, Settled, TrainingRun, images_and_labels, listed
from art_ext.defences.view import View, as_module, class_indices
from art_ext.nn.modes import seeded
from art_ext.objectives import options_of, stages
from art_ext.objectives.robustness import Robustness
from art_ext.training import Scheduler, Validation


class DRRDNTrainer(Settled, Trainer):
    """Trains a DRRDN [Yang et al., AAAI 2021, Algorithm 1] in place, and keeps the epoch of highest robust accuracy.

    | Please keep in mind the limitations of defences: robust accuracy under the training attack is an upper bound of
        what stronger attacks leave.

    | Training attack, learning rate, schedule and epochs are by default the paper's for MNIST; for CIFAR-10 it has
        `eps=0.031, steps=10, step_size=0.007, learning_rate=0.1`. What the paper leaves open (both lambdas, batch size,
        momentum, the critic's optimiser) and the stable forms of its losses are ours.

    | Attributes: `history`, one dict for each epoch of the last call, with its number as `epoch`, the mean of every
        loss term and, with validation data, `validation_accuracy`, `validation_robust_accuracy` and what
        `art_ext.classifiers.drrdn.diagnose` gives; `best_epoch`, counted from the beginning of the training, -1 without
        validation data; `optimizers`, by player, for learning rate schedulers; `how`, the arguments from `seed` to
        `augment`.
    """

    def __init__(
        self, classifier: Any, eps: float = 0.3, steps: int = 40, step_size: float | None = 0.01,
        lambda_mi: float = 0.1, lambda_rec: float = 0.1, weights: Mapping[str, float] | None = None,
        printed: Collection[str] = (), through_encoder: bool = True, learning_rate: float = 1e-2,
        weight_decay: float = 0.0, momentum: float = 0.9, critic_rate: float = 1e-3, norm: Norm | str | None = None,
        domain_rate: float | None = None, validation_steps: int = 20, patience: int | None = None,
        **common: Unpack[Common],
    ) -> None:  # fmt: skip
        """Prepare the training of a DRRDN.

        :param classifier: A `DRRDNClassifier` with clip values. Its preprocessing defences take no part in it.
        :param eps: Radius of the training adversaries, for images scaled to [0, 1].
        :param steps: Of the training attack.
        :param step_size: Of the training attack, for images scaled to [0, 1]; 2.5 * eps / steps if None.
        :param lambda_mi: Weight of the mutual information, 0 for none; the paper's is not to be had.
        :param lambda_rec: Weight of the reconstruction, 0 for none; the paper's is not to be had.
        :param weights: Of the terms `domain`, `adversarial` and `entropy`; the paper's 1 where not given. Short
                        trainings want less, see `DRRDNObjective`.
        :param printed: Terms in the paper's form rather than the stable one, see `DRRDNObjective`.
        :param through_encoder: Whether Eqs. 7 and 8 move the encoder, on which the paper says both.
        :param learning_rate: SGD's.
        :param weight_decay: SGD's.
        :param momentum: SGD's.
        :param critic_rate: Adam's, for the critic.
        :param domain_rate: Adam's, for c_i as a player of its own; one of the classifiers, as in the paper, if None.
        :param norm: Of the training attack; Linf unless given.
        :param validation_steps: Of PGD on the validation data, with a step size of 2.5 * eps / steps.
        :param patience: Stop once so many epochs have passed without a higher robust accuracy on the validation data.
        :param common: From `seed`, of the validation attack too, to `augment`, see `PurifierTrainer`. Beside the
                       checkpoint "name.1" is the best state, "name.best".
        """
        options = {name: value for name, value in locals().items() if name in options_of(DRRDN)}
        super().__init__(classifier)
        self._module = as_module(classifier, postprocessing=False)  # refuses what is no ART classifier
        if not isinstance(self._module.model, DRRDN):
            raise TypeError(f"expected a classifier of a DRRDN, got one of {type(self._module.model).__name__}")
        if validation_steps < 1 or (patience is not None and patience < 1):
            raise ValueError(
                f"expected validation_steps >= 1 and patience >= 1 or None, got {validation_steps} and {patience}"
            )
        self.validation_steps, self.patience = validation_steps, patience
        self.how = How(**common)
        self.how.check(next(self._module.model.parameters()).device)
        self.history: list[dict[str, float]] = []
        self.best_epoch, self._made_for = -1, self._seen_as()
        with seeded(self.how.seed):
            (objective,) = stages(self._module.model, enter=self._module.enter, **options)
        self.objective = cast(DRRDNObjective, objective)
        self.optimizers = {k: self.objective.optimizer(k, p) for k, p in self.objective.players().items()}

    def fit(
        self,
        x: NDArray[Any],
        y: NDArray[Any],
        validation_data: tuple[NDArray[Any], NDArray[Any]] | None = None,
        batch_size: int = 128,
        nb_epochs: int = 100,
        scheduler: Scheduler | Sequence[Scheduler] | None = None,
        **kwargs: Any,
    ) -> None:
        """Train on arrays; with validation data, the classifier ends with the weights of the best epoch.

        :param x: Images in the classifier's range and layout.
        :param y: Labels, one-hot or indices.
        :param validation_data: Images and labels; each epoch ends with PGD on them.
        :param batch_size: Images a step; as many adversaries join them.
        :param nb_epochs: Passes over the images, at most.
        :param scheduler: One or more objects with `step`, stepped at the end of each epoch; the paper's unless given:
                          a tenth of the rate after 55, 75 and 90 % of the epochs. A second call of `fit` goes on at the
                          rates that the first one left.
        :param kwargs: Refused; ART's signature has them.
        """
        if y is None:
            raise ValueError("expected labels to train DRRDN, got None")
        run = self._run(kwargs)
        self._check_shape(x, "images")
        validation = self._validation(validation_data, run, batch_size)
        try:
            run.fit(x, y, epochs=nb_epochs, batch_size=batch_size, **self._options(scheduler, validation))
        finally:
            self._note(validation)

    def fit_generator(
        self,
        generator: DataGenerator,
        validation_data: tuple[NDArray[Any], NDArray[Any]] | None = None,
        nb_epochs: int = 100,
        scheduler: Scheduler | Sequence[Scheduler] | None = None,
        **kwargs: Any,
    ) -> None:
        """Train on an ART data generator.

        :param generator: Gives images in the classifier's range and layout, and labels.
        :param validation_data: As for `fit`.
        :param nb_epochs: Passes over the generator's size, at most.
        :param scheduler: As for `fit`.
        :param kwargs: Refused; ART's signature has them.
        """
        run = self._run(kwargs)
        validation = self._validation(validation_data, run, int(getattr(generator, "batch_size", 1)))
        try:
            run.fit_generator(generator, epochs=nb_epochs, **self._options(scheduler, validation))
        finally:
            self._note(validation)

    def predict(self, x: NDArray[Any], **kwargs: Any) -> NDArray[Any]:
        """Predictions of the classifier.

        :param x: Images in the classifier's range and layout.
        :param kwargs: Of the classifier's `predict`.
        :return: Predictions of shape `(nb_samples, nb_classes)`.
        """
        return np.asarray(self.classifier.predict(x, **kwargs))

    def __repr__(self) -> str:
        attack = f"eps={self.objective.eps}, steps={self.objective.steps}"
        return f"{type(self).__name__}(classifier={self.classifier!r}, {attack}, seed={self.seed})"

    def _run(self, kwargs: dict[str, Any]) -> TrainingRun:
        if kwargs:
            raise TypeError(f"expected no further arguments, got {sorted(kwargs)}")
        if self._seen_as() != self._made_for:
            raise ValueError(
                f"expected the clip values and channel order that this trainer was made for, {self._made_for}, got "
                f"{self._seen_as()}: make another trainer"
            )
        view = View(self.classifier.clip_values, self.classifier.channels_first)
        classes = int(self.classifier.nb_classes)
        run = TrainingRun([self.objective], view, self.how, classes)
        self.history = run.history
        return run

    def _seen_as(self) -> tuple[Any, bool]:
        """Clip values and whether channels come first."""
        return np.asarray(self.classifier.clip_values).tolist(), bool(self.classifier.channels_first)

    def _check_shape(self, x: NDArray[Any], what: str) -> None:
        expected = tuple(self.classifier.input_shape)
        if np.shape(x)[1:] != expected:
            raise ValueError(f"expected {what} of shape (N, {', '.join(map(str, expected))}), got {np.shape(x)}")

    def _validation(
        self, data: tuple[NDArray[Any], NDArray[Any]] | None, run: TrainingRun, batch_size: int
    ) -> Validation | None:
        if data is None:
            if self.patience is not None:
                raise ValueError(f"expected validation data where there is patience ({self.patience} epochs), got none")
            return None
        images, labels = images_and_labels(data)
        self._check_shape(images, "validation images")
        x, y = run.images(images), class_indices(labels, len(images), int(self.classifier.nb_classes))
        held_out = Robustness(self.objective, self._module, x, y, self.validation_steps, batch_size, self.how.seed)
        return held_out.kept(self.patience)

    def _options(
        self, scheduler: Scheduler | Sequence[Scheduler] | None, validation: Validation | None
    ) -> dict[str, Any]:
        return {"optimizers": [self.optimizers], "schedulers": listed(scheduler), "validate": validation}

    def _note(self, validation: Validation | None) -> None:
        if validation is not None and validation.best_epochs:
            (self.best_epoch,) = validation.best_epochs
