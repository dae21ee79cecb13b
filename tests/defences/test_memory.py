"""What predictions through ART hold beside the images: no more than ART's own copies, and one piece."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from art_ext.classifiers.drrdn import DRRDN
from art_ext.defences import PurifierPreprocessor
from art_ext.defences.trainer import PurifierTrainer
from art_ext.estimators import DRRDNClassifier, EOTClassifier
from art_ext.purifiers import Purifier
from tests.allocated import Allocated

X = np.random.default_rng(0).random((512, 3, 8, 8), dtype=np.float32)


class Brighter(Purifier):
    name = "brighter"
    paper = ""

    def purify(self, x: Tensor) -> Tensor:
        return x * 0.9 + 0.1


def defended(**options: object) -> PyTorchClassifier:
    net = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(12, 3))
    defence = PurifierPreprocessor(Brighter(), batch_size=16, device_type="cpu")
    return PyTorchClassifier(
        net, nn.CrossEntropyLoss(), (3, 8, 8), 3, clip_values=(0, 1), preprocessing_defences=[defence],
        device_type="cpu", **options,
    )  # fmt: skip


def most(classifier: object, x: np.ndarray) -> float:
    """Bytes that torch holds at most while it predicts, in those of the images."""
    with Allocated() as memory:
        classifier.predict(x, batch_size=16)
    return memory.most / x.nbytes


def test_a_purifier_adds_what_it_gives_and_one_piece() -> None:
    assert most(defended(preprocessing=None), X) < 2.3  # ART's copy and the purified images


def test_a_preprocessor_gives_what_its_purifier_gives_for_any_rank_that_it_takes() -> None:
    defence = PurifierPreprocessor(Brighter(), batch_size=16, device_type="cpu")
    for n in (0, 1, 16, 40):
        x = torch.tensor(X[:n], requires_grad=True)
        out, _ = defence.forward(x)
        torch.testing.assert_close(out, x * 0.9 + 0.1)
        assert out.requires_grad or not n
    with pytest.raises(ValueError, match="shape"):
        defence.forward(torch.rand(8, 8))


def test_our_own_predictions_hold_one_piece() -> None:
    classifier = defended()
    assert most(EOTClassifier(classifier, 2), X) < 0.5
    trainer = PurifierTrainer.__new__(PurifierTrainer)
    trainer._classifier, trainer.preprocessor = classifier, classifier.preprocessing_defences[0]
    assert most(trainer, X) < 0.5
    np.testing.assert_array_equal(trainer.predict(X), classifier.predict(X))
    np.testing.assert_allclose(EOTClassifier(classifier, 2).predict(X), classifier.predict(X), rtol=1e-5, atol=1e-6)


def test_drrdn_predicts_a_piece_at_a_time() -> None:
    features = nn.Sequential(nn.AvgPool2d(4), nn.Flatten())
    model = DRRDN(features, 12, 3, width=4, hidden=(6,), dropout=0.0, critic_width=8)
    classifier = DRRDNClassifier(model, nn.CrossEntropyLoss(), (3, 8, 8), 3, clip_values=(0, 1), device_type="cpu")
    assert most(classifier, X) < 0.5
    np.testing.assert_array_equal(classifier.predict(X), PyTorchClassifier.predict(classifier, X))
