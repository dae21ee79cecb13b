"""What ART's own classes do and ours do too: trainers that predict, a repr, models that stay on their device."""

import numpy as np
import pytest
import torch
from art.defences.trainer.trainer import Trainer
from art.estimators.classification import PyTorchClassifier
from torch import nn

import art_ext.defences
from art_ext.classifiers.drrdn import DRRDN
from art_ext.defences import (
    AToPTrainer,
    CDVAETrainer,
    DIRTrainer,
    DRRDNTrainer,
    PurifierPreprocessor,
    PurifierTrainer,
    RDPPreprocessor,
    RDPTrainer,
)
from art_ext.estimators import DRRDNClassifier
from art_ext.purifiers import CDVAE, DIR, RDP, AToP

C, H, W, K = 3, 8, 12, 4
X = np.random.default_rng(0).random((5, C, H, W), dtype=np.float32)


def defended(purifier):
    torch.manual_seed(0)
    return PyTorchClassifier(
        nn.Sequential(nn.Conv2d(C, 4, 3), nn.Flatten(), nn.Linear(4 * (H - 2) * (W - 2), K)), nn.CrossEntropyLoss(),
        (C, H, W), K, clip_values=(0, 1), device_type="cpu",
        preprocessing_defences=PurifierPreprocessor(purifier, device_type="cpu"),
    )  # fmt: skip


def drrdn():
    encoder = nn.Sequential(nn.Conv2d(C, 4, 3, padding=1), nn.AdaptiveAvgPool2d((2, 3)), nn.Flatten())
    model = DRRDN(encoder, 24, K, width=7, hidden=(6,), critic_width=8)
    return DRRDNClassifier(model, nn.CrossEntropyLoss(), (C, H, W), K, clip_values=(0, 1), device_type="cpu")


TRAINERS = {
    RDPTrainer: lambda: defended(RDP(**RDP.small)),
    DIRTrainer: lambda: defended(DIR(**DIR.small)),
    AToPTrainer: lambda: defended(AToP(**AToP.small)),
    CDVAETrainer: lambda: defended(CDVAE(**{**CDVAE.small, "classes": K})),
    DRRDNTrainer: drrdn,
}


def test_no_trainer_is_forgotten():
    public = {getattr(art_ext.defences, name) for name in art_ext.defences.__all__}
    trainers = {kind for kind in public if isinstance(kind, type) and issubclass(kind, Trainer)}
    assert trainers == {*TRAINERS, PurifierTrainer}


@pytest.mark.parametrize("kind", TRAINERS)
def test_trainers_predict_as_their_classifier(kind):
    classifier = TRAINERS[kind]()
    trainer = kind(classifier)
    torch.manual_seed(1)
    found = trainer.predict(X, batch_size=2)
    torch.manual_seed(1)
    assert found.shape == (5, K)
    assert np.array_equal(found, classifier.predict(X, batch_size=2))


@pytest.mark.parametrize("kind", TRAINERS)
def test_trainers_say_what_they_are(kind):
    trainer = kind(TRAINERS[kind](), seed=3)
    assert repr(trainer).startswith(f"{kind.__name__}(classifier=art")
    assert "nb_classes=4" in repr(trainer)
    assert repr(trainer).endswith("seed=3)")


def test_preprocessors_say_what_they_are():
    assert repr(RDPPreprocessor(C, 4, 1, "residual", clip_values=(0, 255), device_type="cpu")) == (
        "RDPPreprocessor(purifier='rdp', clip_values=(0, 255), channels_first=True, batch_size=128, verbose=False, "
        "noise_std=0.0, noise_position='input', apply_fit=False, apply_predict=True)"
    )


def test_a_feature_extractor_elsewhere_is_refused_rather_than_moved(monkeypatch):
    features = nn.Conv2d(C, 2, 3, device="meta")
    preprocessor = RDPPreprocessor(C, 4, 1, "residual", features=features, device_type="cpu")
    with pytest.raises(ValueError, match="expected features on cpu, where the purifier is, got one on meta"):
        preprocessor.fit(X)
    assert features.weight.device.type == "meta"
