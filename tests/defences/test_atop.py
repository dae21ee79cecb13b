"""AToP through ART's doors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from torch import nn

from art_ext.defences import AToPPreprocessor, AToPTrainer, DIRPreprocessor
from art_ext.nn import seeded
from art_ext.purifiers import AToP

SMALL = {"channels": 1, "width": 4, "dilations": (1,), "grid": 4, "device_type": "cpu"}
X = np.random.default_rng(0).random((10, 1, 8, 8), dtype=np.float32)
Y = np.arange(10) % 3


def defended(preprocessor: object, **outside: object) -> PyTorchClassifier:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    outside = {"clip_values": (0.0, 1.0), "channels_first": True, **outside}
    shape = (1, 8, 8) if outside["channels_first"] else (8, 8, 1)
    return PyTorchClassifier(
        model, nn.CrossEntropyLoss(), shape, 3, preprocessing_defences=preprocessor, device_type="cpu", **outside
    )


def test_trained_in_two_stages_the_classifier_untouched(tmp_path: Path) -> None:
    preprocessor = AToPPreprocessor(**SMALL)
    classifier = defended(preprocessor)
    before = [p.clone() for p in classifier.model.parameters()]
    weights = [p.clone() for p in preprocessor.purifier.parameters()]
    AToPTrainer(classifier, eps=0.1, checkpoint=tmp_path / "state.pt").fit(X, Y, batch_size=5, nb_epochs=1)
    assert all(torch.equal(a, b) for a, b in zip(before, classifier.model.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(weights, preprocessor.purifier.parameters(), strict=True))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["state.pt.1", "state.pt.2"]
    assert preprocessor.is_fitted


def test_history_holds_every_term_of_both_players() -> None:
    trainer = AToPTrainer(defended(AToPPreprocessor(**SMALL)), eps=0.1)
    trainer.fit(X, Y, batch_size=5, nb_epochs=1)
    pretraining = {"discriminator/hinge", "generator/coarse", "generator/refined", "generator/adversarial"}
    terms = [{k for k in row if "/" in k} for row in trainer.history]
    assert terms == [pretraining, pretraining | {"generator/classification"}]


def test_options_reach_the_objectives_and_the_discriminator_goes_on() -> None:
    classifier = defended(AToPPreprocessor(**SMALL))
    options = {"attack": "pgd", "eps": 0.2, "steps": 3, "data": "clean", "weight": 0.5, "adversarial": 0.25}
    first, second = AToPTrainer(classifier, **options, learning_rate=0.125, seed=3).stages
    assert {k: getattr(second, k) for k in options} == options
    assert (first.learning_rate, second.learning_rate, first.adversarial) == (0.125, 0.125, 0.25)
    assert first.discriminator is second.discriminator
    twin = AToPTrainer(classifier, **options, seed=3).stages[0].discriminator
    assert all(torch.equal(a, b) for a, b in zip(first.discriminator.parameters(), twin.parameters(), strict=True))
    names = [
        [type(s).__name__ for s in AToPTrainer(classifier, pretrain=a, finetune=b).stages]
        for a, b in ((True, False), (False, True))
    ]
    assert names == [["AToPPretraining"], ["AToPFineTuning"]]


def test_what_cannot_be_trained_is_refused_before_anything_is() -> None:
    preprocessor = AToPPreprocessor(**SMALL)
    classifier = defended(preprocessor)
    before = [p.clone() for p in preprocessor.purifier.parameters()]
    with pytest.raises(ValueError, match="expected labels to train AToPFineTuning, got None"):
        AToPTrainer(classifier).fit(X, nb_epochs=1)
    with pytest.raises(ValueError, match="expected a stage"):
        AToPTrainer(classifier, pretrain=False, finetune=False)
    with pytest.raises(ValueError, match="attack out of"):
        AToPTrainer(classifier, attack="cw")
    other = defended(DIRPreprocessor(1, 2, 8, 2, 1, 1, device_type="cpu"))
    with pytest.raises(ValueError, match="defended by AToP, got one defended by 'dir'"):
        AToPTrainer(other)
    assert all(torch.equal(a, b) for a, b in zip(before, preprocessor.purifier.parameters(), strict=True))


def test_fit_pretrains_without_labels() -> None:
    preprocessor = AToPPreprocessor(**SMALL, restorer="autoencoder")
    weights = [p.clone() for p in preprocessor.purifier.parameters()]
    assert not preprocessor.is_fitted
    preprocessor.fit(X, nb_epochs=1)
    assert preprocessor.is_fitted
    assert not all(torch.equal(a, b) for a, b in zip(weights, preprocessor.purifier.parameters(), strict=True))


def test_arguments_reach_the_purifier() -> None:
    made = AToPPreprocessor(1, "RT3", 4, (1, 2), 4, 0.5, 0.1, 16, "gan", True, device_type="cpu")
    twin = AToP(1, "RT3", 4, (1, 2), grid=4, share=0.5, noise=0.1, size=16, restorer="gan", paste=True)
    assert [v.shape for v in made.atop.state_dict().values()] == [v.shape for v in twin.state_dict().values()]
    assert made.atop.transform == twin.transform
    assert (made.atop.size, made.atop.restorer, made.atop.paste) == (16, "gan", True)


def test_saved_and_loaded(tmp_path: Path) -> None:
    preprocessor = AToPPreprocessor(**SMALL, transform="RT3", noise=0.1, size=12)
    preprocessor.save_pretrained(tmp_path)
    loaded = AToPPreprocessor.from_pretrained(tmp_path, batch_size=3, device_type="cpu")
    with seeded(0):
        expected = preprocessor.purifier(torch.from_numpy(X))
    with seeded(0):
        assert torch.equal(loaded.purifier(torch.from_numpy(X)), expected)
    assert (loaded.batch_size, loaded.atop.transform.kind, loaded.atop.size) == (3, "RT3", 12)
    with pytest.raises(ValueError, match="expected a preset of AToP, got 'fashion_mnist_cnn', a SmallCNN"):
        AToPPreprocessor.from_pretrained("fashion_mnist_cnn")


@pytest.mark.parametrize(("clip_values", "channels_first"), [((0, 255), False), ((-1, 1), True)])
def test_predictions_are_those_of_torch(clip_values: tuple[int, int], channels_first: bool) -> None:
    """In the user's range and layout, under one draw; noise and mid-grey are in units of [0, 1]."""
    low, high = clip_values
    outside = {"clip_values": clip_values, "channels_first": channels_first}
    preprocessor = AToPPreprocessor(**SMALL, **outside)
    classifier = defended(preprocessor, **outside)
    user = (X if channels_first else X.transpose(0, 2, 3, 1)) * (high - low) + low
    with seeded(5), torch.no_grad():
        logits = classifier.model(preprocessor.purifier(torch.from_numpy(X)) * (high - low) + low)
    with seeded(5):
        np.testing.assert_allclose(classifier.predict(user), logits, rtol=1e-3, atol=1e-3)
