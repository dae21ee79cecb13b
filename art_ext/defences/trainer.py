"""Training a purifier for an ART classifier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from art.data_generators import DataGenerator
from art.defences.trainer.trainer import Trainer
from art.estimators.classification import PyTorchClassifier
from numpy.typing import NDArray
from torch import nn

from art_ext.classifiers import ClassifierObjective
from art_ext.defences.preprocessor import PurifierPreprocessor
from art_ext.defences.training import TrainingRun, listed
from art_ext.defences.view import as_module, class_indices
from art_ext.nn import FeatureExtractor, evaluating, seeded
from art_ext.nn.copies import in_slices
from art_ext.purifiers import CDVAE, DIR, RDP, AToP, Purifier
from art_ext.purifiers.atop import AToPFineTuning, AToPPretraining
from art_ext.purifiers.cdvae import CDVAEGame, CDVAETraining
from art_ext.purifiers.dir import DIRPretraining, DIRRestoration
from art_ext.purifiers.rdp import RDPObjective, Weights
from art_ext.training import Objective, Scheduler

Kind = TypeVar("Kind", bound=Purifier)


class PurifierTrainer(Trainer):
    """Trains the purifier that defends a classifier; the classifier's own weights, mode and gradients stay as they are.

    | Please keep in mind the limitations of defences: training accuracy against the training attack says nothing about
        an attacker who differentiates through the purifier.

    | Attributes: `history`, one dict an epoch with the mean of every loss term and the validation accuracy;
        `optimizers`, by player, for learning rate schedulers.
    """

    def __init__(
        self, classifier: PyTorchClassifier, seed: int = 0, checkpoint: str | Path | None = None, verbose: bool = False
    ) -> None:
        """Prepare the training of a classifier's purifier.

        :param classifier: An ART classifier with clip values and one `PurifierPreprocessor` among its
                           `preprocessing_defences`, which is trained in place.
        :param seed: Of the order of the images and of everything random in a step.
        :param checkpoint: A file to keep the state of the training in; an existing one is resumed.
        :param verbose: Show a progress bar.
        """
        super().__init__(classifier)
        self._module = as_module(classifier, postprocessing=False)  # refuses what is no ART classifier
        self.preprocessor = _preprocessor_of(classifier)
        if self.preprocessor.device != classifier.device:  # training would move the classifier
            raise ValueError(
                f"expected the classifier and its purifier on one device, got {classifier.device} and "
                f"{self.preprocessor.device}: give both the same device_type"
            )
        self.seed, self.checkpoint, self.verbose = seed, checkpoint, verbose
        self.history: list[dict[str, float]] = []
        self.stages = self._stages()
        self.optimizers = {
            name: self.stages[0].optimizer(name, parameters) for name, parameters in self.stages[0].players().items()
        }

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
        run = self._run(kwargs, labelled=y is not None)
        validate = self._validation(validation_data, run)
        run.fit(
            x, y, epochs=nb_epochs, batch_size=batch_size, schedulers=listed(scheduler), validate=validate,
            optimizers=self._first_optimizers(),
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
        run = self._run(kwargs, labelled=True)  # each batch shows whether it is
        validate = self._validation(validation_data, run)
        run.fit_generator(
            generator, epochs=nb_epochs, schedulers=listed(scheduler), validate=validate,
            optimizers=self._first_optimizers(),
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

    def _stages(self) -> list[Objective]:
        stages = self.preprocessor.purifier.stages(self._module)
        if not stages:
            name = self.preprocessor.purifier.name
            raise ValueError(f"expected a purifier that can be trained, got {name!r}, which has no stages")
        return stages

    def _first_optimizers(self) -> dict[str, torch.optim.Optimizer] | None:
        """The optimisers that a scheduler may hold; a method of several stages makes those of each stage anew."""
        return self.optimizers if len(self.stages) == 1 else None

    def _run(self, kwargs: dict[str, Any], labelled: bool) -> TrainingRun:
        if kwargs:
            raise TypeError(f"expected no further arguments, got {sorted(kwargs)}")
        view = self.preprocessor._view()
        classes = int(self.classifier.nb_classes)
        run = TrainingRun(self.stages, view, self.seed, self.checkpoint, self.verbose, classes)
        self.history = run.history
        return run

    def _validation(self, data: tuple[NDArray[Any], NDArray[Any]] | None, run: TrainingRun) -> Any:
        if data is None:
            return None
        x, y = data
        run.images(x)  # refuses now what would end the first epoch
        labels = class_indices(y, len(x), int(self.classifier.nb_classes)).numpy()

        def accuracy() -> float:
            with evaluating(self.classifier._model):  # ART's predict leaves it in eval mode
                return float(np.mean(self.classifier.predict(x).argmax(1) == labels))

        return accuracy


class RDPTrainer(PurifierTrainer):
    """Trains RDP [Bai et al. 2021, Algorithm 1] for a classifier; labels are not needed.

    | Paper link: https://arxiv.org/abs/2110.07801
    """

    def __init__(
        self,
        classifier: PyTorchClassifier,
        features: nn.Module | str | None = None,
        weights: Weights | None = None,
        eps: float = 16 / 255,
        steps: int = 10,
        shared_latent: bool = False,
        learning_rate: float = 1e-4,
        seed: int = 0,
        checkpoint: str | Path | None = None,
        verbose: bool = False,
    ) -> None:
        """Prepare the training of a classifier's RDP.

        :param classifier: An ART classifier with an `RDPPreprocessor` among its `preprocessing_defences`.
        :param features: F: a module on images (N, C, H, W) in [0, 1], or the name of a layer of the classifier's model;
                         the preprocessor's own `features` unless given, or else the classifier's logits.
        :param weights: Of the loss terms; the paper's unless given.
        :param eps: Linf radius of the training adversaries, for images scaled to [0, 1].
        :param steps: Of the training attack.
        :param shared_latent: Let the reconstruction loss reach the purifier's encoder.
        :param learning_rate: Adam's.
        :param seed: Of the order of the images and of everything random in a step.
        :param checkpoint: A file to keep the state of the training in; an existing one is resumed.
        :param verbose: Show a progress bar.
        """
        self._features, self._weights = features, weights
        self._options = {"eps": eps, "steps": steps, "shared_latent": shared_latent, "learning_rate": learning_rate}
        super().__init__(classifier, seed, checkpoint, verbose)

    def _stages(self) -> list[Objective]:
        purifier = _of_kind(RDP, self.preprocessor.purifier)
        features = self._features if self._features is not None else getattr(self.preprocessor, "features", None)
        if isinstance(features, str):
            features = FeatureExtractor(self._module, f"model.{features}")
        if features is None:
            features = self._module
        return [RDPObjective(purifier, features, weights=self._weights, **self._options)]  # type: ignore[arg-type]


class DIRTrainer(PurifierTrainer):
    """Trains DIR [Zhou et al. 2023, Algorithm 1] for a classifier: masked restoration, then robust restoration.

    | The classifier is the target h, and should be adversarially trained; it stays as it is unless `joint`.

    | The paper's SGD at 1e-2 diverges on small networks: set `learning_rate`, and `pixel` where restorations leave the
        images.

    | Each stage runs for `nb_epochs`. Where they are to differ (the paper: 20 and 90), train twice: with
        `restore=False`, then with `pretrain=False`.
    """

    def __init__(
        self,
        classifier: PyTorchClassifier,
        eps: float = 8 / 255,
        steps: int = 5,
        alpha: float = 2.0,
        radius: float | None = None,
        pretrain: bool = True,
        restore: bool = True,
        radius_steps: int = 5,
        pixel: float = 0.0,
        joint: bool = False,
        pretraining_rate: float | None = None,
        learning_rate: float | None = None,
        seed: int = 0,
        checkpoint: str | Path | None = None,
        verbose: bool = False,
    ) -> None:
        """Prepare the training of a classifier's DIR.

        :param classifier: An ART classifier with a `DIRPreprocessor` among its `preprocessing_defences`.
        :param eps: Linf radius of the training adversaries, for images scaled to [0, 1].
        :param steps: Of the training attack.
        :param alpha: Weight of the representation loss.
        :param radius: Linf radius around restorations that the representation loss covers; eps unless given.
        :param pretrain: Train the restoration of masked images first (Eq. 2).
        :param restore: Then train for what the classifier says about restorations (Eqs. 4 to 7), which needs labels.
        :param radius_steps: Steps that find the worst perturbation within the radius.
        :param pixel: Weight of the squared error to the clean image in the second stage; the paper has none, but
                      nothing else keeps restorations near images.
        :param joint: Train the classifier too in the second stage, as the released code does.
        :param pretraining_rate: AdamW's in the first stage; the released code's 1.5e-4 unless given.
        :param learning_rate: SGD's for the purifier in the second stage; the paper's 1e-2, or if `joint` the released
                              code's 5e-5, unless given.
        :param seed: Of the order of the images and of everything random in a step.
        :param checkpoint: A file to keep the state of the training in; an existing one is resumed.
        :param verbose: Show a progress bar.
        """
        if not pretrain and not restore:
            raise ValueError("expected a stage to train, got pretrain=False and restore=False")
        self._wanted, self._rates = (pretrain, restore), (pretraining_rate, learning_rate)
        self._attack = {"eps": eps, "steps": steps}
        self._game = {"alpha": alpha, "radius": radius, "radius_steps": radius_steps, "pixel": pixel, "joint": joint}
        super().__init__(classifier, seed, checkpoint, verbose)

    def _stages(self) -> list[Objective]:
        purifier = _of_kind(DIR, self.preprocessor.purifier)
        stages = (
            DIRPretraining(purifier, self._module, **self._attack),  # type: ignore[arg-type]
            DIRRestoration(purifier, self._module, **self._attack, **self._game),  # type: ignore[arg-type]
        )
        for stage, rate in zip(stages, self._rates, strict=True):
            stage.learning_rate = stage.learning_rate if rate is None else rate
        return [stage for stage, wanted in zip(stages, self._wanted, strict=True) if wanted]

    def _run(self, kwargs: dict[str, Any], labelled: bool) -> TrainingRun:
        _require_labels(labelled or not self._wanted[1], "DIR's restoration")
        return super()._run(kwargs, labelled)


class AToPTrainer(PurifierTrainer):
    """Trains AToP [Lin et al. 2024] for a classifier: restoration first, then with the classifier's loss.

    | The classifier stays as it is.

    | Each stage runs for `nb_epochs`. Where they are to differ, train twice: with `finetune=False`, then with
        `pretrain=False`; the discriminator then begins anew.
    """

    def __init__(
        self,
        classifier: PyTorchClassifier,
        attack: str = "fgsm",
        eps: float = 8 / 255,
        steps: int = 10,
        data: str = "adversarial",
        weight: float = 0.05,
        adversarial: float = 1.0,
        pretrain: bool = True,
        finetune: bool = True,
        learning_rate: float = 1e-4,
        seed: int = 0,
        checkpoint: str | Path | None = None,
        verbose: bool = False,
    ) -> None:
        """Prepare the training of a classifier's AToP.

        :param classifier: An ART classifier with an `AToPPreprocessor` among its `preprocessing_defences`.
        :param attack: Of the second stage: `fgsm` on the classifier alone (released), `pgd` likewise, or `purifier`,
                       PGD through the purifier.
        :param eps: Linf radius of the training adversaries, for images scaled to [0, 1].
        :param steps: Of the training attack, but for `fgsm`.
        :param data: Of the second stage: `adversarial` (the poster's b) or `clean` (its a).
        :param weight: Lambda, of the classifier's loss.
        :param adversarial: Weight of the GAN term.
        :param pretrain: Train the restoration of clean images first.
        :param finetune: Then train for what the classifier says too, which needs labels.
        :param learning_rate: Adam's, for the generator and its discriminator.
        :param seed: Of the order of the images, of the discriminator's weights, and of everything random in a step.
        :param checkpoint: A file to keep the state of the training in; an existing one is resumed.
        :param verbose: Show a progress bar.
        """
        if not pretrain and not finetune:
            raise ValueError("expected a stage to train, got pretrain=False and finetune=False")
        self._wanted, self._rate = (pretrain, finetune), learning_rate
        self._game = {"attack": attack, "eps": eps, "steps": steps, "data": data, "weight": weight}
        self._adversarial = adversarial
        super().__init__(classifier, seed, checkpoint, verbose)

    def _stages(self) -> list[Objective]:
        purifier = _of_kind(AToP, self.preprocessor.purifier)
        with seeded(self.seed):
            first = AToPPretraining(purifier, adversarial=self._adversarial)
        second = AToPFineTuning(
            purifier, self._module, discriminator=first.discriminator, adversarial=self._adversarial,
            **self._game,  # type: ignore[arg-type]
        )  # fmt: skip
        first.learning_rate = second.learning_rate = self._rate
        return [stage for stage, wanted in zip((first, second), self._wanted, strict=True) if wanted]

    def _run(self, kwargs: dict[str, Any], labelled: bool) -> TrainingRun:
        _require_labels(labelled or not self._wanted[1], "AToP's fine-tuning")
        return super()._run(kwargs, labelled)


class CDVAETrainer(PurifierTrainer):
    """Trains CD-VAE [Yang et al. 2021] for a classifier: class-disentanglement, then the classifier, then the game.

    | The classifier stays as it is unless `train_classifier` (on G(x), the paper's grey-box defence) or `game` (the
        white-box defence) makes it D_G.

    | Each stage asked for runs for `nb_epochs`. Where they are to differ (the paper: 300 epochs of the first), train
        several times, with one of them each. For the released curriculum hand `Curriculum(trainer.stages[0])` to `fit`
        as a scheduler.
    """

    def __init__(
        self,
        classifier: PyTorchClassifier,
        gamma: float = 2e-3,
        beta: float = 0.2,
        mixup: float = 0.0,
        disentangle: bool = True,
        train_classifier: bool = False,
        game: bool = False,
        variant: str = "paper",
        game_gamma: float | None = None,
        game_beta: float | None = None,
        margin: float | None = None,
        clean: float = 1.0,
        eps: float = 8 / 255,
        steps: int = 10,
        learning_rate: float = 1e-3,
        seed: int = 0,
        checkpoint: str | Path | None = None,
        verbose: bool = False,
    ) -> None:
        """Prepare the training of a classifier's CD-VAE.

        :param classifier: An ART classifier with a `CDVAEPreprocessor` among its `preprocessing_defences`.
        :param gamma: Weight of the classification of residuals (Eq. 1); the paper: 2e-3 to defend CIFAR-10.
        :param beta: Weight of the KL divergence (Eq. 2).
        :param mixup: Of the first stage: a of Beta(a, a), 0 for none; released: 2.
        :param disentangle: Train G and the classifier of residuals on clean images.
        :param train_classifier: Then train the classifier on G(x).
        :param game: Then train all three against attacks through both (Eqs. 7 to 10).
        :param variant: Of the game: `paper` or `released`.
        :param game_gamma: Of the game, see `CDVAEGame`.
        :param game_beta: Likewise.
        :param margin: Likewise.
        :param clean: Likewise.
        :param eps: Linf radius of the game's attack, for images scaled to [0, 1].
        :param steps: Of the game's attack.
        :param learning_rate: Of every stage; AdamW's, and Adam's for the classifier on G(x).
        :param seed: Of the order of the images and of everything random in a step.
        :param checkpoint: A file to keep the state of the training in; an existing one is resumed.
        :param verbose: Show a progress bar.
        """
        if not (disentangle or train_classifier or game):
            raise ValueError("expected a stage to train, got disentangle=False, train_classifier=False and game=False")
        self._wanted, self._rate = (disentangle, train_classifier, game), learning_rate
        self._weights = {"gamma": gamma, "beta": beta, "mixup": mixup}
        self._game = {"variant": variant, "gamma": game_gamma, "beta": game_beta, "margin": margin, "clean": clean}
        self._game |= {"eps": eps, "steps": steps}
        super().__init__(classifier, seed, checkpoint, verbose)

    def _stages(self) -> list[Objective]:
        purifier = _of_kind(CDVAE, self.preprocessor.purifier)
        if purifier.classes != self.classifier.nb_classes:
            raise ValueError(f"expected a CDVAE of {self.classifier.nb_classes} classes, got one of {purifier.classes}")
        stages = (
            CDVAETraining(purifier, **self._weights),  # type: ignore[arg-type]
            ClassifierObjective(self._module, purifier=purifier),
            CDVAEGame(purifier, self._module, **self._game),  # type: ignore[arg-type]
        )
        for stage in stages:
            stage.learning_rate = self._rate
        return [stage for stage, wanted in zip(stages, self._wanted, strict=True) if wanted]

    def _run(self, kwargs: dict[str, Any], labelled: bool) -> TrainingRun:
        _require_labels(labelled, "CD-VAE")
        return super()._run(kwargs, labelled)


def _require_labels(given: bool, stage: str) -> None:
    """Refuses now what would end the second stage."""
    if not given:
        raise ValueError(f"expected labels to train {stage}, got None")


def _of_kind(kind: type[Kind], purifier: Purifier) -> Kind:
    if not isinstance(purifier, kind):
        raise ValueError(f"expected a classifier defended by {kind.__name__}, got one defended by {purifier.name!r}")
    return purifier


def _preprocessor_of(classifier: PyTorchClassifier) -> PurifierPreprocessor:
    defences = classifier.preprocessing_defences or []
    found = [d for d in defences if isinstance(d, PurifierPreprocessor)]
    if len(found) != 1:
        names = [type(d).__name__ for d in defences]
        raise ValueError(
            f"expected one PurifierPreprocessor among the classifier's preprocessing_defences, got {names}"
        )
    return found[0]
