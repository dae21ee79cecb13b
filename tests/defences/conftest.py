"""Tiny purifiers and classifiers, and a classifier factory for any range, layout and standardisation."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from torch import nn

from art_ext.defences import PurifierPreprocessor
from art_ext.purifiers import RDP, Purifier

N, C, H, W, K = 6, 3, 8, 12, 5


class Mixing(Purifier):
    """Smooth, inside (0, 1), mixes pixels, not the same along height, width and channels."""

    name, paper = "mixing", "none"
    channels = C

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.linspace(0.3, 0.6, C).view(C, 1, 1))
        self.seen = []

    def purify(self, x):
        self.seen.append(len(x))
        return 0.05 + self.scale * x**2 + 0.2 * x.roll(1, 3) + 0.1 * x.roll(1, 2)


class Rounding(Purifier):
    """No gradient of its own; a surrogate that is not the identity."""

    name, paper = "rounding", "none"
    differentiable = False

    def purify(self, x):
        return (x * 8).round() / 8

    def surrogate(self, x):
        return 0.5 * x + 0.25 * x.roll(1, 3)


class Noisy(Mixing):
    name = "noisy"
    stochastic = True

    def purify(self, x):
        return super().purify(x + 0.1 * torch.rand_like(x))


class Net(nn.Module):
    """Images (N, C, H, W) in [0, 1] to logits (N, K); batch normalisation and dropout, so that modes matter."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(C, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4 * 6, K)

    def forward(self, x):
        hidden = self.norm(torch.tanh(3 * self.conv(x)))
        return self.head(self.drop(nn.functional.adaptive_avg_pool2d(hidden, (2, 3)).flatten(1)))


class Outside(nn.Module):
    """The same net on what an ART classifier hands to its model: another range and layout, standardised."""

    def __init__(self, net, clip_values=(0, 1), channels_first=True, preprocessing=(0.0, 1.0)):
        super().__init__()
        self.net, self.clip_values, self.channels_first = net, clip_values, channels_first
        self.preprocessing = preprocessing

    def forward(self, x):
        low, high = self.clip_values
        mean, std = self.preprocessing
        x = (x * std + mean - low) / (high - low)
        return self.net(x if self.channels_first else x.permute(0, 3, 1, 2))


@pytest.fixture(autouse=True)
def _art_data(monkeypatch, tmp_path):
    """ART writes weights to ~/.art when a classifier is copied or pickled."""
    monkeypatch.setattr("art.config.ART_DATA_PATH", str(tmp_path / "art"))


@pytest.fixture
def kit():
    return SimpleNamespace(
        Mixing=Mixing, Rounding=Rounding, Noisy=Noisy, Net=Net, Outside=Outside, classifier=classifier, outside=outside,
        rdp=rdp, N=N, C=C, H=H, W=W, K=K,
    )  # fmt: skip


@pytest.fixture
def net():
    return Net().eval()


@pytest.fixture
def x():
    """(N, C, H, W) in [0, 1], no value at a border of the rounding."""
    return np.random.default_rng(1).uniform(0.02, 0.98, (N, C, H, W)).astype(np.float32)


@pytest.fixture
def y():
    return np.arange(N) % K


@pytest.fixture
def hot(y):
    """The labels one-hot, which ART wants for gradients."""
    return np.eye(K, dtype=np.float32)[y]


def rdp(**options):
    return RDP(channels=C, width=4, blocks=2, block="residual", **options)


def outside(x, clip_values=(0, 1), channels_first=True):
    """Images (N, C, H, W) in [0, 1] as the user has them."""
    low, high = clip_values
    x = x if channels_first else x.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(x * (high - low) + low).astype(np.float32)


def classifier(
    net, *defences, clip_values=(0, 1), channels_first=True, preprocessing=(0.0, 1.0), wrap=True, optimizer=False,
    height=H,
):  # fmt: skip
    """An ART classifier around `net`; purifiers among the defences are wrapped for its range and layout."""
    model = Outside(net, clip_values, channels_first, preprocessing) if wrap else net
    wrapped = [
        PurifierPreprocessor(d, clip_values, channels_first, device_type="cpu") if isinstance(d, Purifier) else d
        for d in defences
    ]
    return PyTorchClassifier(
        model, nn.CrossEntropyLoss(), (C, height, W) if channels_first else (height, W, C), K,
        optimizer=torch.optim.SGD(model.parameters(), 0.1) if optimizer else None,
        clip_values=clip_values, channels_first=channels_first, preprocessing=preprocessing, device_type="cpu",
        preprocessing_defences=wrapped or None,
    )  # fmt: skip
