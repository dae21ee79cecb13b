"""CD-VAE through ART's doors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from torch import nn

from art_ext.classifiers import ClassifierObjective
from art_ext.defences import CDVAEPreprocessor, CDVAETrainer, DIRPreprocessor
from art_ext.nn import seeded
from art_ext.objectives import CDVAEGame, CDVAETraining, Curriculum
from art_ext.purifiers import CDVAE

SMALL: dict[str, Any] = {
    "channels": 1, "size": 8, "width": 4, "latent": 6, "classes": 3, "classifier_width": 4, "device_type": "cpu",
}  # fmt: skip
X = np.random.default_rng(0).random((10, 1, 8, 8), dtype=np.float32)
Y = np.arange(10) % 3


def defended(preprocessor: object, **outside: Any) -> PyTorchClassifier:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.Dropout(0.5))
    outside = {"clip_values": (0.0, 1.0), "channels_first": True, **outside}
    shape = (1, 8, 8) if outside["channels_first"] else (8, 8, 1)
    return PyTorchClassifier(
        model, nn.CrossEntropyLoss(), shape, 3, preprocessing_defences=preprocessor, device_type="cpu", **outside
    )


def copied(module: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in module.state_dict().items()}


def moved(module: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    return {k.split(".")[0] for k, v in module.state_dict().items() if not torch.equal(v, before[k])}


STAGES: list[tuple[dict[str, Any], list[str], set[str], bool]] = [
    ({}, ["CDVAETraining"], {"network", "residual_classifier"}, False),
    ({"disentangle": False, "train_classifier": True}, ["ClassifierObjective"], set(), True),
    (
        {"disentangle": False, "game": True, "eps": 0.1, "steps": 1, "margin": 1.0},
        ["CDVAEGame"],
        {"network", "residual_classifier"},
        True,
    ),
]


@pytest.mark.parametrize(("wanted", "names", "of_purifier", "of_classifier"), STAGES)
def test_each_stage_moves_its_own_and_the_classifier_only_where_asked(
    tmp_path: Path, wanted: dict[str, Any], names: list[str], of_purifier: set[str], of_classifier: bool
) -> None:
    preprocessor = CDVAEPreprocessor(**SMALL)
    classifier = defended(preprocessor)
    classifier.model.train()
    before, weights = copied(classifier.model), copied(preprocessor.purifier)
    trainer = CDVAETrainer(classifier, checkpoint=tmp_path / "state", **wanted)
    assert [type(s).__name__ for s in trainer.stages] == names
    trainer.fit(X, Y, batch_size=5, nb_epochs=1)
    assert moved(preprocessor.purifier, weights) == of_purifier
    assert bool(moved(classifier.model, before)) is of_classifier
    assert all(p.requires_grad and p.grad is None for p in classifier.model.parameters())
    assert not any(p.requires_grad for p in preprocessor.purifier.parameters())
    assert all(m.training for m in classifier.model.modules())
    assert not any(m.training for m in preprocessor.purifier.modules())
    assert preprocessor.is_fitted


def test_all_stages_in_order() -> None:
    trainer = CDVAETrainer(defended(CDVAEPreprocessor(**SMALL)), train_classifier=True, game=True, eps=0.1, steps=1)
    trainer.fit(X, np.eye(3, dtype=np.float32)[Y], batch_size=5, nb_epochs=1)
    clean = {"reconstruction", "kl", "classification"}
    terms = [{k for k in row if "/" in k} for row in trainer.history]
    assert terms == [
        {f"cdvae/{k}" for k in clean},
        {"classifier/cross_entropy"},
        {f"game/{k}" for k in (*clean, "residual", *(f"clean {k}" for k in clean))},
    ]


def test_options_reach_the_objectives() -> None:
    classifier = defended(CDVAEPreprocessor(**SMALL))
    weights = {"gamma": 2.0, "beta": 0.1, "mixup": 3.0}
    game = {"variant": "released", "margin": 7.0, "clean": 0.5, "eps": 0.2, "steps": 3}
    first, second, third = CDVAETrainer(
        classifier, **weights, **game, game_gamma=0.3, game_beta=0.4, train_classifier=True, game=True,
        learning_rate=0.125,
    ).stages  # fmt: skip
    assert isinstance(first, CDVAETraining)
    assert isinstance(second, ClassifierObjective)
    assert isinstance(third, CDVAEGame)
    assert {k: getattr(first, k) for k in weights} == weights
    assert {k: getattr(third, k) for k in game} == game
    assert (third.gamma, third.beta) == (0.3, 0.4)
    assert [s.learning_rate for s in (first, second, third)] == [0.125] * 3
    assert [second.optimizer("classifier", [*second.classifier.parameters()]).defaults["lr"]] == [0.125]
    assert second.purifier is classifier.preprocessing_defences[0].purifier


def test_the_curriculum_is_a_scheduler() -> None:
    trainer = CDVAETrainer(defended(CDVAEPreprocessor(**SMALL)))
    trainer.fit(X, Y, nb_epochs=2, scheduler=Curriculum(trainer.stages[0], falls=(1, 2)))  # type: ignore[arg-type]
    assert trainer.stages[0].reconstruction == 1  # type: ignore[attr-defined]


def test_the_preprocessor_trains_on_labels_alone() -> None:
    preprocessor = CDVAEPreprocessor(**SMALL, gamma=2.0, beta=0.5)
    before = copied(preprocessor.purifier)
    with pytest.raises(ValueError, match="expected labels to train CDVAETraining, got None"):
        preprocessor.fit(X, nb_epochs=1)
    with pytest.raises(ValueError, match=r"whole numbers in \[0, 3\)"):
        preprocessor.fit(X, Y + 1, nb_epochs=1)
    assert not moved(preprocessor.purifier, before)
    assert not preprocessor.is_fitted
    (stage,) = preprocessor._stages()
    assert (stage.gamma, stage.beta) == (2.0, 0.5)  # type: ignore[attr-defined]
    preprocessor.fit(X, Y, nb_epochs=1)
    assert moved(preprocessor.purifier, before) == {"network", "residual_classifier"}
    assert preprocessor.is_fitted


def test_saved_and_loaded(tmp_path: Path) -> None:
    preprocessor = CDVAEPreprocessor(**SMALL, mean=[0.3], std=[0.4])
    preprocessor.set_params(sample=True)
    preprocessor.save_pretrained(tmp_path)
    loaded = CDVAEPreprocessor.from_pretrained(tmp_path, batch_size=3, gamma=0.5, device_type="cpu")
    with seeded(0):
        expected = preprocessor.purifier(torch.from_numpy(X))
    loaded.purifier.batch_size = 256
    with seeded(0):
        assert torch.equal(loaded.purifier(torch.from_numpy(X)), expected)
    assert (loaded.batch_size, loaded.sample, loaded.gamma) == (3, True, 0.5)
    assert not CDVAEPreprocessor.from_pretrained(tmp_path, sample=False, device_type="cpu").purifier.stochastic
    with pytest.raises(ValueError, match="expected gamma and beta >= 0, got -1"):
        loaded.set_params(gamma=-1)
    assert loaded.gamma == 0.5


def test_arguments_reach_the_purifier() -> None:
    made = CDVAEPreprocessor(1, [8, 12], 4, 6, "vae", 3, 5, 2, [0.3], [0.4], True, device_type="cpu")
    twin = CDVAE(
        1, [8, 12], 4, 6, kind="vae", codes=3, classes=5, classifier_width=2, mean=[0.3], std=[0.4], sample=True
    )
    assert {k: v.shape for k, v in made.cdvae.state_dict().items()} == {
        k: v.shape for k, v in twin.state_dict().items()
    }
    assert made.cdvae.network.standardise.std.item() == pytest.approx(0.4)
    assert made.sample
    vector = CDVAEPreprocessor(1, 8, 4, kind="vqvae", codes=3, classes=5, device_type="cpu")
    assert vector.cdvae.network.book.shape == (3, 4)  # type: ignore[union-attr]


@pytest.mark.parametrize(("clip_values", "channels_first"), [((0, 255), False), ((-1, 1), True)])
def test_predictions_and_gradients_are_those_of_torch(clip_values: tuple[int, int], channels_first: bool) -> None:
    low, high = clip_values
    outside = {"clip_values": clip_values, "channels_first": channels_first}
    preprocessor = CDVAEPreprocessor(**SMALL, **outside)
    classifier = defended(preprocessor, **outside)
    model = classifier.model.eval()
    user = (X if channels_first else X.transpose(0, 2, 3, 1)) * (high - low) + low
    unit = torch.from_numpy(X).requires_grad_()
    logits = model(preprocessor.purifier(unit) * (high - low) + low)
    np.testing.assert_allclose(classifier.predict(user), logits.detach(), rtol=1e-3, atol=1e-3)
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(Y))
    expected = torch.autograd.grad(loss, unit)[0].numpy() / (high - low)
    expected = expected if channels_first else expected.transpose(0, 2, 3, 1)
    found = classifier.loss_gradient(user.astype(np.float32), np.eye(3, dtype=np.float32)[Y])
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_wrong_use_is_refused() -> None:
    with pytest.raises(ValueError, match="a stage to train"):
        CDVAETrainer(defended(CDVAEPreprocessor(**SMALL)), disentangle=False)
    dir_ = DIRPreprocessor(channels=1, width=8, heads=2, depth=1, decoder_depth=1, device_type="cpu")
    with pytest.raises(ValueError, match="defended by 'dir'"):
        CDVAETrainer(defended(dir_))
    with pytest.raises(ValueError, match="CDVAE of 3 classes, got one of 4"):
        CDVAETrainer(defended(CDVAEPreprocessor(**{**SMALL, "classes": 4})))
    preprocessor = CDVAEPreprocessor(**SMALL)
    trainer = CDVAETrainer(defended(preprocessor))
    with pytest.raises(ValueError, match="expected labels to train CDVAETraining, got None"):
        trainer.fit(X, nb_epochs=1)
    assert not preprocessor.is_fitted
