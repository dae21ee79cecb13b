"""DIR through ART's doors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from torch import nn

from art_ext.defences import DIRPreprocessor, DIRTrainer, RDPPreprocessor
from art_ext.nn import seeded
from art_ext.purifiers import DIR

SMALL = {"channels": 1, "width": 8, "heads": 2, "depth": 1, "decoder_depth": 1, "device_type": "cpu"}
X = np.random.default_rng(0).random((10, 1, 8, 8), dtype=np.float32)
Y = np.arange(10) % 3


def defended(preprocessor: object) -> PyTorchClassifier:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    return PyTorchClassifier(
        model, nn.CrossEntropyLoss(), (1, 8, 8), 3, clip_values=(0.0, 1.0), preprocessing_defences=preprocessor,
        device_type="cpu",
    )  # fmt: skip


def test_trained_in_two_stages_the_target_untouched(tmp_path: Path) -> None:
    preprocessor = DIRPreprocessor(**SMALL)
    classifier = defended(preprocessor)
    before = [p.clone() for p in classifier.model.parameters()]
    weights = [p.clone() for p in preprocessor.purifier.parameters()]
    trainer = DIRTrainer(classifier, eps=0.1, steps=1, checkpoint=tmp_path / "state.pt")
    trainer.fit(X, Y, batch_size=5, nb_epochs=2)
    assert [sorted(k.split("/")[1] for k in row if "/" in k) for row in trainer.history] == [
        ["restoration"], ["restoration"], ["adversarial", "representation"], ["adversarial", "representation"],
    ]  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(before, classifier.model.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(weights, preprocessor.purifier.parameters(), strict=True))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["state.pt.1", "state.pt.2"]
    assert len(DIRTrainer(classifier, eps=0.1, pretrain=False).stages) == 1


def test_saved_and_loaded(tmp_path: Path) -> None:
    preprocessor = DIRPreprocessor(**SMALL, draws=2)
    preprocessor.save_pretrained(tmp_path)
    loaded = DIRPreprocessor.from_pretrained(tmp_path, batch_size=3, device_type="cpu")
    with seeded(0):
        expected = preprocessor.purifier(torch.from_numpy(X))
    with seeded(0):
        assert torch.equal(loaded.purifier(torch.from_numpy(X)), expected)
    assert loaded.batch_size == 3


def test_arguments_reach_the_purifier() -> None:
    made = DIRPreprocessor(1, 4, 8, 2, 3, 2, 3, 0.3, "pixels", 5, device_type="cpu")
    twin = DIR(1, 4, 8, 2, 3, 2, masks=3, ratio=0.3, masking="pixels", draws=5)
    assert [v.shape for v in made.dir.state_dict().values()] == [v.shape for v in twin.state_dict().values()]
    for name in ("channels", "masks", "ratio", "draws"):
        assert getattr(made.dir, name) == getattr(twin, name)
    assert (made.dir.network.patch, made.dir.network.masking) == (4, "pixels")
    assert not made.is_fitted
    with pytest.raises(ValueError, match="ratio"):
        DIRPreprocessor(**SMALL, ratio=0.0)


def test_draws_are_a_parameter_that_is_saved(tmp_path: Path) -> None:
    preprocessor = DIRPreprocessor(**SMALL)
    preprocessor.set_params(draws=3, batch_size=5)
    assert (preprocessor.draws, preprocessor.purifier.draws) == (3, 3)
    with pytest.raises(ValueError, match="draws"):
        preprocessor.set_params(batch_size=6, draws=0)
    assert (preprocessor.draws, preprocessor.batch_size) == (3, 5)
    preprocessor.save_pretrained(tmp_path)
    assert DIRPreprocessor.from_pretrained(tmp_path, device_type="cpu").draws == 3
    assert DIRPreprocessor.from_pretrained(tmp_path, draws=7, device_type="cpu").draws == 7
    with pytest.raises(ValueError, match="draws"):
        DIRPreprocessor.from_pretrained(tmp_path, draws=0)
    with pytest.raises(ValueError, match="expected a preset of DIR, got 'fashion_mnist_cnn', a SmallCNN"):
        DIRPreprocessor.from_pretrained("fashion_mnist_cnn")


@pytest.mark.parametrize(("clip_values", "channels_first"), [((0, 255), False), ((-1, 1), True)])
def test_predictions_and_gradients_are_those_of_torch(clip_values: tuple[int, int], channels_first: bool) -> None:
    """In the user's range and layout, under one draw of the masks."""
    low, high = clip_values
    outside = {"clip_values": clip_values, "channels_first": channels_first}
    preprocessor = DIRPreprocessor(**SMALL, **outside)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))  # one channel: the layouts flatten alike
    shape = (1, 8, 8) if channels_first else (8, 8, 1)
    classifier = PyTorchClassifier(
        model, nn.CrossEntropyLoss(), shape, 3, **outside, preprocessing_defences=preprocessor, device_type="cpu"
    )
    user = (X if channels_first else X.transpose(0, 2, 3, 1)) * (high - low) + low
    unit = torch.from_numpy(X).requires_grad_()
    with seeded(5):
        logits = model(preprocessor.purifier(unit) * (high - low) + low)
    with seeded(5):
        np.testing.assert_allclose(classifier.predict(user), logits.detach(), rtol=1e-3, atol=1e-3)
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(Y))
    expected = torch.autograd.grad(loss, unit)[0].numpy() / (high - low)
    expected = expected if channels_first else expected.transpose(0, 2, 3, 1)
    with seeded(5):
        found = classifier.loss_gradient(user.astype(np.float32), np.eye(3, dtype=np.float32)[Y])
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_options_reach_the_objectives() -> None:
    classifier = defended(DIRPreprocessor(**SMALL))
    options = {"eps": 0.2, "steps": 3, "alpha": 5.0, "radius": 0.1, "radius_steps": 4, "pixel": 3.0}
    first, second = DIRTrainer(classifier, **options, pretraining_rate=0.5, learning_rate=0.25).stages
    assert (first.eps, first.steps, first.learning_rate) == (0.2, 3, 0.5)
    assert {k: getattr(second, k) for k in options} == options
    assert (second.learning_rate, second.joint) == (0.25, False)
    assert DIRTrainer(classifier, joint=True).stages[1].learning_rate == 5e-5
    assert [type(s).__name__ for s in DIRTrainer(classifier, restore=False).stages] == ["DIRPretraining"]
    assert [type(s).__name__ for s in DIRTrainer(classifier, pretrain=False).stages] == ["DIRRestoration"]


@pytest.mark.parametrize("joint", [False, True])
def test_the_classifier_is_trained_only_jointly(joint: bool) -> None:
    classifier = defended(DIRPreprocessor(**SMALL))
    before = [p.clone() for p in classifier.model.parameters()]
    DIRTrainer(classifier, eps=0.1, steps=1, radius_steps=1, pretrain=False, joint=joint).fit(X, Y, nb_epochs=1)
    pairs = zip(before, classifier.model.parameters(), strict=True)
    assert [torch.equal(a, b) for a, b in pairs] == [not joint] * 2
    assert all(p.requires_grad and p.grad is None for p in classifier.model.parameters())


def test_restoration_without_labels_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    preprocessor = DIRPreprocessor(**SMALL)
    classifier = defended(preprocessor)
    before = [p.clone() for p in preprocessor.purifier.parameters()]
    with pytest.raises(ValueError, match="expected labels"):
        DIRTrainer(classifier, steps=1, checkpoint=tmp_path / "state").fit(X, nb_epochs=1)
    assert all(torch.equal(a, b) for a, b in zip(before, preprocessor.purifier.parameters(), strict=True))
    assert not list(tmp_path.iterdir())
    assert not preprocessor.is_fitted
    DIRTrainer(classifier, steps=1, restore=False).fit(X, nb_epochs=1)
    assert preprocessor.is_fitted


def test_wrong_use_is_refused() -> None:
    with pytest.raises(ValueError, match="a stage to train"):
        DIRTrainer(defended(DIRPreprocessor(**SMALL)), pretrain=False, restore=False)
    with pytest.raises(ValueError, match="DIRTrainer"):
        DIRPreprocessor(**SMALL).fit(X)
    rdp = RDPPreprocessor(channels=1, width=4, blocks=2, block="residual", device_type="cpu")
    with pytest.raises(ValueError, match="defended by 'rdp'"):
        DIRTrainer(defended(rdp))
