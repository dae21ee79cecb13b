"""Trainers of the package's own purifiers: ART's flat constructors, whose arguments are the options of each method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from art.estimators.classification import PyTorchClassifier
from torch import nn
from typing_extensions import Unpack

from art_ext.attacks import Norm
from art_ext.defences.trainer import PurifierTrainer, preprocessor_of
from art_ext.defences.training import Common
from art_ext.defences.view import as_module
from art_ext.nn import FeatureExtractor
from art_ext.objectives import Weights, options_of
from art_ext.purifiers import CDVAE, DIR, RDP, AToP, Purifier


class RDPTrainer(PurifierTrainer):
    """Trains RDP [Bai et al. 2021, Algorithm 1] for a classifier; labels are not needed.

    | Paper link: https://arxiv.org/abs/2110.07801
    """

    kind = RDP

    def __init__(
        self, classifier: PyTorchClassifier, features: nn.Module | str | None = None,
        weights: Weights | Mapping[str, float] | None = None, eps: float = 16 / 255, steps: int = 10,
        shared_latent: bool = False, learning_rate: float = 1e-4, step_size: float | None = None,
        clean_share: float = 0.0, **common: Unpack[Common],
    ) -> None:  # fmt: skip
        """Prepare the training of a classifier's RDP.

        :param classifier: An ART classifier with an `RDPPreprocessor` among its `preprocessing_defences`.
        :param features: F: a module on images (N, C, H, W) in [0, 1], or the name of a layer of the classifier's model;
                         the preprocessor's own `features` unless given, or else the classifier's logits.
        :param weights: Of the loss terms, some of them by name; the paper's where not given.
        :param eps: Linf radius of the training adversaries, for images scaled to [0, 1].
        :param steps: Of the training attack.
        :param shared_latent: Let the reconstruction loss reach the purifier's encoder.
        :param learning_rate: Adam's.
        :param step_size: Of the training attack, for images scaled to [0, 1]; 2.5 * eps / steps unless given.
        :param clean_share: Expected share of a batch that the purifier sees unperturbed.
        :param common: From `seed` to `augment`, see `PurifierTrainer`.
        """
        module = as_module(classifier, postprocessing=False)  # refuses what is no ART classifier
        if isinstance(features, str):
            features = FeatureExtractor(module, f"model.{features}")
        elif features is None:
            features = getattr(preprocessor_of(classifier), "features", None)
        super().__init__(classifier, **common, **_options(RDP, locals()))


class DIRTrainer(PurifierTrainer):
    """Trains DIR [Zhou et al. 2023, Algorithm 1] for a classifier: masked restoration, then robust restoration.

    | The classifier is the target h, and should be adversarially trained; it stays as it is unless `joint`.

    | The paper's SGD at 1e-2 diverges on small networks: set `learning_rate`, and `pixel` where restorations leave the
        images.

    | Each stage runs for `nb_epochs`. Where they are to differ (the paper: 20 and 90), train twice: with
        `restore=False`, then with `pretrain=False`.
    """

    kind = DIR

    def __init__(
        self, classifier: PyTorchClassifier, eps: float = 8 / 255, steps: int = 5, alpha: float = 2.0,
        radius: float | None = None, pretrain: bool = True, restore: bool = True, radius_steps: int = 5,
        pixel: float = 0.0, joint: bool = False, pretraining_rate: float | None = None,
        learning_rate: float | None = None, step_size: float | None = None, norm: Norm | str | None = None,
        per_mask: bool = False, shared_masks: bool = True, **common: Unpack[Common],
    ) -> None:  # fmt: skip
        """Prepare the training of a classifier's DIR.

        :param classifier: An ART classifier with a `DIRPreprocessor` among its `preprocessing_defences`.
        :param eps: Radius of the training adversaries, for images scaled to [0, 1].
        :param steps: Of the training attack.
        :param alpha: Weight of the representation loss.
        :param radius: Around restorations, that the representation loss covers; eps unless given.
        :param pretrain: Train the restoration of masked images first (Eq. 2).
        :param restore: Then train for what the classifier says about restorations (Eqs. 4 to 7), which needs labels.
        :param radius_steps: Steps that find the worst perturbation within the radius.
        :param pixel: Weight of the squared error to the clean image in the second stage; the paper has none, but
                      nothing else keeps restorations near images.
        :param joint: Train the classifier too in the second stage, as the released code does.
        :param pretraining_rate: AdamW's in the first stage; the released code's 1.5e-4 unless given.
        :param learning_rate: SGD's for the purifier in the second stage; the paper's 1e-2, or if `joint` the released
                              code's 5e-5, unless given.
        :param step_size: Of the training attack, for images scaled to [0, 1]; 1.25 * eps / steps unless given.
        :param norm: Of the training attack and of the representation loss; Linf unless given.
        :param per_mask: Take the squared error for the restoration under each mask, not for their mean: without it, or
                         without `pixel`, the mean may become the identity.
        :param shared_masks: Draw the masks of a step once, for its attack and its losses (the paper's Algorithm 1).
        :param common: From `seed` to `augment`, see `PurifierTrainer`.
        """
        super().__init__(classifier, **common, **_options(DIR, locals()))


class AToPTrainer(PurifierTrainer):
    """Trains AToP [Lin et al. 2024] for a classifier: restoration first, then with the classifier's loss.

    | The classifier stays as it is.

    | Each stage runs for `nb_epochs`. Where they are to differ, train twice: with `finetune=False`, then with
        `pretrain=False`; the discriminator then begins anew unless it is handed over.
    """

    kind = AToP

    def __init__(
        self, classifier: PyTorchClassifier, attack: str = "fgsm", eps: float = 8 / 255, steps: int = 10,
        data: str = "adversarial", weight: float = 0.025, adversarial: float = 0.5, pretrain: bool = True,
        finetune: bool | None = None, learning_rate: float = 1e-4, step_size: float | None = None,
        norm: Norm | str | None = None, discriminator: nn.Module | None = None, **common: Unpack[Common],
    ) -> None:  # fmt: skip
        """Prepare the training of a classifier's AToP.

        :param classifier: An ART classifier with an `AToPPreprocessor` among its `preprocessing_defences`.
        :param attack: Of the second stage: `fgsm` on the classifier alone (released), `pgd` likewise, or `purifier`,
                       PGD through the purifier.
        :param eps: Radius of the training adversaries, for images scaled to [0, 1].
        :param steps: Of the training attack, but for `fgsm`.
        :param data: Of the second stage: `adversarial` (the poster's b) or `clean` (its a).
        :param weight: Lambda, of the classifier's loss, beside an L1 of images in [0, 1]: half of the released 0.05.
        :param adversarial: Weight of the GAN term, likewise half of the released 1.
        :param pretrain: Train the restoration of clean images first.
        :param finetune: Then train for what the classifier says too, which needs labels; True unless given.
        :param learning_rate: Adam's, for the generator and its discriminator.
        :param step_size: Of `pgd` and `purifier`, for images scaled to [0, 1]; 2.5 * eps / steps unless given.
        :param norm: Of the training attack; Linf unless given.
        :param discriminator: Images and masks to scores; a new one, whose weights depend on the seed, unless given.
        :param common: From `seed` to `augment`, see `PurifierTrainer`.
        """
        super().__init__(classifier, **common, **_options(AToP, locals()))


class CDVAETrainer(PurifierTrainer):
    """Trains CD-VAE [Yang et al. 2021] for a classifier: class-disentanglement, then the classifier, then the game.

    | The classifier stays as it is unless `train_classifier` (on G(x), the paper's grey-box defence) or `game` (the
        white-box defence) makes it D_G.

    | Each stage asked for runs for `nb_epochs`. Where they are to differ (the paper: 300 epochs of the first), train
        several times, with one of them each. For the released curriculum hand `Curriculum(trainer.stages[0])` to `fit`
        as a scheduler.
    """

    kind = CDVAE

    def __init__(
        self, classifier: PyTorchClassifier, gamma: float = 2e-3, beta: float = 0.2, mixup: float = 0.0,
        disentangle: bool = True, train_classifier: bool = False, game: bool = False, variant: str = "paper",
        game_gamma: float | None = None, game_beta: float | None = None, margin: float | None = None,
        clean: float = 1.0, eps: float = 8 / 255, steps: int = 10, learning_rate: float = 1e-3,
        step_size: float | None = None, norm: Norm | str | None = None, residual_classifier: nn.Module | None = None,
        loss: str | None = None, clip: float | None = None, **common: Unpack[Common],
    ) -> None:  # fmt: skip
        """Prepare the training of a classifier's CD-VAE.

        :param classifier: An ART classifier with a `CDVAEPreprocessor` among its `preprocessing_defences`.
        :param gamma: Weight of the classification of residuals (Eq. 1); the paper: 2e-3 to defend CIFAR-10.
        :param beta: Weight of the KL divergence (Eq. 2).
        :param mixup: Of the first stage: a of Beta(a, a), 0 for none; released: 2.
        :param disentangle: Train G and the classifier of residuals on clean images.
        :param train_classifier: Then train the classifier on G(x).
        :param game: Then train all three against attacks through both (Eqs. 7 to 10). What follows is the game's, but
                     for `learning_rate` and `residual_classifier`, and refused without it.
        :param variant: `paper` or `released`.
        :param game_gamma: See `CDVAEGame`.
        :param game_beta: Likewise.
        :param margin: Likewise.
        :param clean: Likewise.
        :param eps: Radius of the attack, for images scaled to [0, 1].
        :param steps: Of the attack.
        :param learning_rate: Of every stage; AdamW's, and Adam's for the classifier on G(x).
        :param step_size: Of the attack, for images scaled to [0, 1]; eps / sqrt(steps) unless given.
        :param norm: Of the attack; Linf unless given.
        :param residual_classifier: Residuals in the units of [0, 1] to logits; the purifier's own unless given.
        :param loss: Of the attack: `cross-entropy` (Eq. 7) or `margin` (Table 7); the variant's unless given.
        :param clip: Largest entry of a gradient in the game (released: 1); none unless given.
        :param common: From `seed` to `augment`, see `PurifierTrainer`.
        """
        super().__init__(classifier, **common, **_options(CDVAE, locals()))
        purifier = self.preprocessor.purifier
        classes = purifier.classes if isinstance(purifier, CDVAE) and residual_classifier is None else None
        if classes not in (None, self.classifier.nb_classes):
            raise ValueError(f"expected a CDVAE of {self.classifier.nb_classes} classes, got one of {classes}")


def _options(kind: type[Purifier], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a method's training out of the arguments of its trainer, which has all of them."""
    return {name: arguments[name] for name in options_of(kind)}
