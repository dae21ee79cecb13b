"""Which stages the options of a method ask for, and what is refused before any of them begins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from art.data_generators import PyTorchDataGenerator
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from art_ext.classifiers import ClassifierObjective, SmallDRRDN, TradesObjective
from art_ext.classifiers.drrdn import DRRDNObjective
from art_ext.defences import AToPPreprocessor, CDVAEPreprocessor, DIRPreprocessor, DIRTrainer, PurifierPreprocessor
from art_ext.objectives import RDPObjective, Weights, check_labels, needs_labels, stages
from art_ext.purifiers import CDVAE, DIR, RDP, AToP, Purifier
from art_ext.training import Objective

N, C, H, W, K = 5, 3, 8, 12, 4
X = np.random.default_rng(0).random((N, C, H, W), dtype=np.float32)
Y = np.arange(N) % K
SMALL_DIR: dict[str, Any] = {**DIR.small, "device_type": "cpu"}


@pytest.fixture
def classifier() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(C * H * W, K))


def names(found: list[Objective]) -> list[str]:
    return [type(stage).__name__ for stage in found]


@pytest.mark.parametrize(
    ("purifier", "options", "expected"),
    [
        (DIR, {}, ["DIRPretraining", "DIRRestoration"]),
        (DIR, {"restore": False}, ["DIRPretraining"]),
        (DIR, {"pretrain": False}, ["DIRRestoration"]),
        (AToP, {}, ["AToPPretraining", "AToPFineTuning"]),
        (AToP, {"finetune": False}, ["AToPPretraining"]),
        (AToP, {"pretrain": False}, ["AToPFineTuning"]),
        (CDVAE, {}, ["CDVAETraining"]),
        (CDVAE, {"train_classifier": True}, ["CDVAETraining", "ClassifierObjective"]),
        (CDVAE, {"game": True}, ["CDVAETraining", "CDVAEGame"]),
        (CDVAE, {"disentangle": False, "game": True, "train_classifier": True}, ["ClassifierObjective", "CDVAEGame"]),
        (RDP, {}, ["RDPObjective"]),
    ],
)
def test_the_stages_asked_for(
    classifier: nn.Module, purifier: type[Purifier], options: dict[str, Any], expected: list[str]
) -> None:
    assert names(stages(purifier(**purifier.small), classifier, **options)) == expected


@pytest.mark.parametrize(
    ("purifier", "options", "message"),
    [
        (DIR, {"pretrain": False, "restore": False}, "expected a stage to train, got pretrain=False and restore=False"),
        (DIR, {"restore": False, "joint": True}, r"expected joint only with restore=True, got joint=True"),
        (
            DIR,
            {"restore": False, "learning_rate": 0.1, "pixel": 1.0},
            "expected pixel, learning_rate only with restore",
        ),
        (DIR, {"pretrain": False, "pretraining_rate": 0.1}, "expected pretraining_rate only with pretrain=True"),
        (AToP, {"pretrain": False, "finetune": False}, "expected a stage to train"),
        (AToP, {"finetune": False, "weight": 0.1}, "expected weight only with finetune=True and a classifier"),
        (AToP, {"adversarial": 0.0, "discriminator": nn.Flatten()}, "a discriminator only where there is a GAN term"),
        (CDVAE, {"disentangle": False}, "expected a stage to train"),
        (
            CDVAE,
            {"eps": 0.1, "game_beta": 0.3},
            r"expected eps, game_beta only with game=True, got eps=0\.1, game_beta",
        ),
        (CDVAE, {"disentangle": False, "game": True, "mixup": 1.0}, "expected mixup only with disentangle=True"),
        (
            CDVAE,
            {"disentangle": False, "train_classifier": True, "residual_classifier": nn.Flatten()},
            "expected residual_classifier only with disentangle=True or game=True",
        ),
        (
            RDP,
            {"weights": {"latent": 0.0, "pixels": 1.0}},
            "expected weights out of feature, pixel, .* got latent, pixels",
        ),
    ],
)
def test_what_is_of_no_effect_is_refused(
    classifier: nn.Module, purifier: type[Purifier], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        stages(purifier(**purifier.small), classifier, **options)


@pytest.mark.parametrize(
    ("purifier", "options", "message"),
    [
        (DIR, {}, "expected a target classifier to train DIR against, got None.*DIRTrainer"),
        (RDP, {}, "expected a feature extractor to train RDP with, got None"),
        (AToP, {"finetune": True}, "expected a classifier to fine-tune AToP for, got None"),
        (AToP, {"eps": 0.1}, r"expected eps only with finetune=True and a classifier, got eps=0\.1"),
        (CDVAE, {"train_classifier": True}, r"expected the classifier of G\(x\) to train too, got None"),
    ],
)
def test_stages_that_need_a_classifier(purifier: type[Purifier], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stages(purifier(**purifier.small), None, **options)


def test_a_drrdn_needs_no_classifier(classifier: nn.Module) -> None:
    model = SmallDRRDN(C, K, 2, hidden=6, critic_width=4)
    (stage,) = stages(model, printed=["entropy"], momentum=0.5)
    assert isinstance(stage, DRRDNObjective)
    assert (stage.printed, stage.momentum, stage.eps, stage.step_size) == (("entropy",), 0.5, 0.3, 0.01)
    with pytest.raises(ValueError, match="expected no classifier to train a DRRDN with, got Sequential"):
        stages(model, classifier)


def test_some_weights_by_name(classifier: nn.Module) -> None:
    (stage,) = stages(RDP(**RDP.small), classifier, weights={"latent": 0.5})
    assert isinstance(stage, RDPObjective)
    assert stage.weights == Weights(latent=0.5)
    assert Weights.of(None) == Weights()


def test_which_stages_need_labels(classifier: nn.Module) -> None:
    found = [*stages(DIR(**DIR.small), classifier), *stages(AToP(**AToP.small), classifier)]
    found += stages(RDP(**RDP.small), classifier)
    assert needs_labels(found) == ["DIRRestoration", "AToPFineTuning"]
    all_ = [
        *stages(CDVAE(**CDVAE.small), classifier, train_classifier=True, game=True),
        TradesObjective(classifier, eps=0.1),
    ]
    all_ += stages(SmallDRRDN(C, K, 2, hidden=6, critic_width=4))
    assert needs_labels(all_) == names(all_)
    check_labels(found, True)
    check_labels(found[:1], False)
    with pytest.raises(ValueError, match="expected labels to train DIRRestoration, AToPFineTuning, got None"):
        check_labels(found, False)


def test_stages_need_labels_where_they_say_so(classifier: nn.Module) -> None:
    """The flag against what an objective does without labels."""
    x = torch.from_numpy(X)
    found = [*stages(DIR(**DIR.small), classifier), *stages(AToP(**AToP.small), classifier)]
    found += [
        *stages(RDP(**RDP.small), classifier),
        ClassifierObjective(classifier),
        TradesObjective(classifier, eps=0.1),
    ]
    found += [
        *stages(CDVAE(**CDVAE.small), classifier, game=True),
        *stages(SmallDRRDN(C, K, 2, hidden=6, critic_width=4)),
    ]
    for stage in found:
        player = next(iter(stage.players()))
        try:
            stage.terms(player, x, stage.perturb(x, None), None)
            fails = False
        except ValueError:
            fails = True
        needed = fails or type(stage).__name__ == "AToPFineTuning"  # its first player, the discriminator, does without
        assert stage.labelled is needed, type(stage).__name__


# --- the preprocessors' own `fit` ---


def moved(module: nn.Module, before: dict[str, Tensor]) -> bool:
    return any(not torch.equal(v, before[k]) for k, v in module.state_dict().items())


def state(module: nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in module.state_dict().items()}


def test_fit_against_a_classifier(classifier: nn.Module) -> None:
    preprocessor = DIRPreprocessor(**SMALL_DIR)
    before, kept = state(preprocessor.purifier), state(classifier)
    with pytest.raises(ValueError, match="expected labels to train DIRRestoration, got None"):
        preprocessor.fit(X, nb_epochs=1, classifier=classifier)
    with pytest.raises(ValueError, match=r"whole numbers in \[0, 4\)"):
        preprocessor.fit(X, Y + 1, nb_epochs=1, classifier=classifier)
    assert not moved(preprocessor.purifier, before)
    assert not preprocessor.is_fitted
    preprocessor.fit(X, np.eye(K)[Y], nb_epochs=1, classifier=classifier, steps=1, eps=0.1)
    assert moved(preprocessor.purifier, before)
    assert not moved(classifier, kept)
    assert classifier.training
    assert preprocessor.is_fitted


def test_fit_pretrains_on_labels_where_there_are_some(classifier: nn.Module) -> None:
    """DIR's first stage attacks the target's own answers where it gets no labels."""
    found = []
    for y in (None, Y):
        preprocessor = DIRPreprocessor(**SMALL_DIR)
        preprocessor.fit(X, y, nb_epochs=1, classifier=classifier, restore=False, eps=0.5)
        found.append(state(preprocessor.purifier))
    assert any(not torch.equal(found[0][k], v) for k, v in found[1].items())


def test_a_classifier_elsewhere_is_refused_rather_than_moved() -> None:
    away = nn.Sequential(nn.Flatten(), nn.Linear(C * H * W, K, device="meta"))
    with pytest.raises(ValueError, match="expected classifier on cpu, where the purifier is, got one on meta"):
        DIRPreprocessor(**SMALL_DIR).fit(X, Y, classifier=away)


def test_settings_that_are_held_give_way_to_those_of_the_call() -> None:
    preprocessor = CDVAEPreprocessor(**CDVAE.small, gamma=0.5, beta=0.25, device_type="cpu")
    (stage,) = preprocessor._stages(None, {"beta": 0.125})
    assert (stage.gamma, stage.beta) == (0.5, 0.125)  # type: ignore[comparison-overlap]


def test_fit_fine_tunes_with_a_classifier(classifier: nn.Module) -> None:
    preprocessor = AToPPreprocessor(**AToP.small, restorer="autoencoder", device_type="cpu")
    before = state(preprocessor.purifier)
    preprocessor.fit(X, Y, nb_epochs=1, classifier=classifier, pretrain=False)
    assert moved(preprocessor.purifier, before)


class Counting(Purifier):
    """Keeps the labels that its stage is trained on."""

    name, paper = "counting", ""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.seen: list[int] = []

    def purify(self, x: Tensor) -> Tensor:
        return self.scale * x

    def stages(self, classifier: nn.Module | None = None) -> list[Objective]:  # type: ignore[override]
        return [Labelled(self)]


class Labelled(Objective):
    labelled = True

    def __init__(self, purifier: Counting) -> None:
        super().__init__()
        self.purifier = purifier

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"scale": [self.purifier.scale]}

    def terms(self, player: str, x: Tensor, x_adv: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        assert y is not None
        self.purifier.seen += y.tolist()
        return {"scale": self.purifier.scale**2}


@pytest.mark.parametrize("labels", [Y, Y[:, None], np.eye(K)[Y], Y.astype(float), Y.tolist()], ids=str)
def test_labels_of_a_method_that_knows_no_number_of_classes(labels: Any) -> None:
    purifier = Counting()
    PurifierPreprocessor(purifier, device_type="cpu").fit(X, labels, nb_epochs=1)
    assert sorted(purifier.seen) == sorted(Y.tolist())


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (None, ValueError, "expected labels to train Labelled, got None"),
        (Y - 1, ValueError, "whole numbers"),
        (Y + 0.5, ValueError, "whole numbers"),
        (np.where(Y == 1, np.nan, Y), ValueError, "finite"),
        (Y.astype(str), TypeError, "numeric labels"),
        (Y[:-1], ValueError, "expected 5 labels"),
        (Y[:0], ValueError, "expected 5 labels"),
    ],
    ids=str,
)
def test_labels_that_are_none(labels: Any, error: type[Exception], message: str) -> None:
    purifier = Counting()
    with pytest.raises(error, match=message):
        PurifierPreprocessor(purifier, device_type="cpu").fit(X, labels, nb_epochs=1)
    assert float(purifier.scale) == 1
    assert not purifier.seen


# --- trainers ---


def test_a_generator_without_labels_is_refused_before_the_first_stage(classifier: nn.Module) -> None:
    preprocessor = DIRPreprocessor(**SMALL_DIR)
    art = PyTorchClassifier(
        classifier, nn.CrossEntropyLoss(), (C, H, W), K, clip_values=(0, 1), preprocessing_defences=preprocessor,
        device_type="cpu",
    )  # fmt: skip
    generator = PyTorchDataGenerator(DataLoader(TensorDataset(torch.from_numpy(X)), batch_size=N), N, N)
    before = state(preprocessor.purifier)
    with pytest.raises(ValueError, match="expected labels to train DIRRestoration, got None"):
        DIRTrainer(art, steps=1).fit_generator(generator, nb_epochs=1)
    assert not moved(preprocessor.purifier, before)
    DIRTrainer(art, steps=1, restore=False).fit_generator(generator, nb_epochs=1)
    assert moved(preprocessor.purifier, before)
