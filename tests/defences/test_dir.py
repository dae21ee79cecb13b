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


def test_wrong_use_is_refused() -> None:
    with pytest.raises(ValueError, match="DIRTrainer"):
        DIRPreprocessor(**SMALL).fit(X)
    rdp = RDPPreprocessor(channels=1, width=4, blocks=2, block="residual", device_type="cpu")
    with pytest.raises(ValueError, match="defended by 'rdp'"):
        DIRTrainer(defended(rdp))
