"""An ART classifier as a module answers as its `predict` does: any clip values, numpy parts, postprocessing."""

import numpy as np
import pytest
import torch
from art.defences.postprocessor import GaussianNoise, HighConfidence, ReverseSigmoid, Rounded
from art.defences.preprocessor import FeatureSqueezing
from art.defences.preprocessor.preprocessor import Preprocessor, PreprocessorPyTorch
from art.estimators.classification import PyTorchClassifier
from art.preprocessing.standardisation_mean_std.numpy import StandardisationMeanStd
from torch import nn

from art_ext.defences import PurifierPreprocessor, RDPTrainer, as_module, as_purifier
from art_ext.defences.view import View
from art_ext.images import check_images
from art_ext.purifiers import RDP, Purifier

C, H, W, K = 3, 8, 12, 5


class Channelled(nn.Module):
    """Images in the user's layout to logits."""

    def __init__(self, channels_first):
        super().__init__()
        self.channels_first = channels_first
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(C, 4, 3, padding=1), nn.Linear(4, K)

    def forward(self, x):
        x = x if self.channels_first else x.permute(0, 3, 1, 2)
        return self.head(torch.tanh(self.conv(x)).mean((2, 3)))


def made(channels_first=True, last=None, **options):
    model = Channelled(channels_first)
    model = nn.Sequential(model, last) if last else model
    shape = (C, H, W) if channels_first else (H, W, C)
    settings = {"clip_values": (0, 1), "device_type": "cpu", "channels_first": channels_first}
    return PyTorchClassifier(model.eval(), nn.CrossEntropyLoss(), shape, K, **settings | options)


@pytest.fixture
def unit():
    """(N, C, H, W) in [0, 1]."""
    return torch.rand(6, C, H, W)


LOW, HIGH = np.array([0.0, -1.0, 10.0]), np.array([2.0, 1.0, 265.0])


def per_channel(unit, channels_first):
    """Images with a range a channel, written out."""
    user = torch.stack([unit[:, c] * (HIGH[c] - LOW[c]) + LOW[c] for c in range(C)], 1)
    return (user if channels_first else user.permute(0, 2, 3, 1)).float().numpy()


@pytest.mark.parametrize("shape", [(C,), (C, 1, 1)], ids=str)
def test_clip_values_a_channel_first(unit, shape):
    bounds = LOW.reshape(shape), HIGH.reshape(shape)
    classifier = made(clip_values=bounds)
    user = per_channel(unit, True)
    assert torch.allclose(as_module(classifier)(unit), torch.tensor(classifier.predict(user)), atol=1e-5)
    doubled, _ = PurifierPreprocessor(Halving(), bounds, device_type="cpu")(user)
    assert np.allclose(doubled, per_channel(unit / 2, True), atol=1e-4)


@pytest.mark.parametrize("shape", [(C,), (1, 1, C)], ids=str)
def test_clip_values_a_channel_last(unit, shape):
    bounds = LOW.reshape(shape), HIGH.reshape(shape)
    classifier = made(False, clip_values=bounds)
    user = per_channel(unit, False)
    assert torch.allclose(as_module(classifier)(unit), torch.tensor(classifier.predict(user)), atol=1e-5)
    halved, _ = PurifierPreprocessor(Halving(), bounds, False, device_type="cpu")(user)
    assert np.allclose(halved, per_channel(unit / 2, False), atol=1e-4)


class Halving(Purifier):
    name, paper, channels = "halving", "", C

    def purify(self, x):
        return x / 2


@pytest.mark.parametrize(
    ("channels_first", "shape"),
    [
        *((True, shape) for shape in [(4,), (W,), (W, 1, 1), (2, C, H, W)]),
        *((False, shape) for shape in [(4,), (H,), (C, 1, 1)]),
    ],
)
def test_clip_values_that_fit_no_image(channels_first, shape):
    bounds = np.zeros(shape), np.ones(shape)
    sides = (C, H, W) if channels_first else (H, W, C)
    with pytest.raises(ValueError, match="expected clip_values as two numbers, or two arrays of one value a channel"):
        View(bounds, channels_first, sides)
    with pytest.raises(ValueError, match="expected clip_values"):
        as_module(made(channels_first, clip_values=bounds))
    if shape != (2, C, H, W) and shape != (C, 1, 1):  # the sides of the images are not known there
        with pytest.raises(ValueError, match="expected clip_values"):
            PurifierPreprocessor(Halving(), bounds, channels_first, device_type="cpu")


@pytest.mark.parametrize("shape", [(), (1,), (C, H, W), (H, W), (1, C, H, W)], ids=str)
def test_clip_values_a_pixel(unit, shape):
    view = View((np.zeros(shape), np.full(shape, 2.0)), True, (C, H, W))
    assert torch.allclose(view.leave(unit), 2 * unit)
    assert torch.allclose(view.enter(2 * unit), unit)


# --- postprocessing ---

POSTPROCESSORS = {
    "rounded": [Rounded(decimals=1, apply_predict=True)],
    "confident": [HighConfidence(cutoff=0.2, apply_predict=True)],
    "both": [ReverseSigmoid(apply_predict=True), Rounded(decimals=2, apply_predict=True)],
    "asleep": [Rounded(decimals=1, apply_predict=False)],
}


@pytest.mark.parametrize("name", POSTPROCESSORS)
def test_postprocessing_has_the_values_of_predict_and_the_gradient_before_it(unit, name):
    classifier = made(last=nn.Softmax(1), postprocessing_defences=POSTPROCESSORS[name])
    module, raw = as_module(classifier), as_module(classifier, postprocessing=False)
    expected = torch.tensor(classifier.predict(unit.numpy()))
    assert torch.allclose(module(unit), expected, atol=1e-6)
    assert torch.allclose(raw(unit), expected, atol=1e-6) is (name == "asleep")
    x = unit.clone().requires_grad_()
    gradients = [torch.autograd.grad(m(x)[:, 0].sum(), x)[0] for m in (module, raw)]
    assert torch.equal(*gradients)
    assert gradients[0].abs().max() > 0


def test_random_postprocessing_follows_torchs_seed_and_leaves_numpys_alone(unit):
    module = as_module(made(postprocessing_defences=GaussianNoise(scale=0.3, apply_predict=True)))
    before = np.random.get_state()[1].copy()  # noqa: NPY002  ART draws from the legacy generator
    torch.manual_seed(3)
    first, second = module(unit), module(unit)
    torch.manual_seed(3)
    assert torch.equal(module(unit), first)
    assert not torch.equal(first, second)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_training_takes_the_answers_before_postprocessing():
    rounded = Rounded(decimals=1, apply_predict=True)
    defence = PurifierPreprocessor(RDP(C, width=4, blocks=1, block="residual"), device_type="cpu")
    trainer = RDPTrainer(made(postprocessing_defences=rounded, preprocessing_defences=defence))
    assert trainer._module.postprocess == ()


# --- numpy preprocessing ---


class Squaring(Preprocessor):
    """In numpy, writes into its input, and has a gradient of its own."""

    def __call__(self, x, y=None):
        x *= x
        return x, y

    def estimate_gradient(self, x, grad):
        return 2 * x * grad


@pytest.mark.parametrize(
    "last", [StandardisationMeanStd(0.4, 0.3), StandardisationMeanStd(0.4, 0.3, apply_predict=False), Squaring()]
)
def test_numpy_preprocessing(unit, last):
    classifier = made(preprocessing=last)
    assert classifier.preprocessing is last or isinstance(classifier.preprocessing, PreprocessorPyTorch)
    x = unit.clone().requires_grad_()
    logits = as_module(classifier)(x)
    assert torch.allclose(logits, torch.tensor(classifier.predict(unit.numpy().copy())), atol=1e-5)
    assert torch.equal(x, unit)
    seen = x**2 if isinstance(last, Squaring) else (x - 0.4) / 0.3 if last.apply_predict else x
    expected = torch.autograd.grad(classifier.model(seen)[:, 0].sum(), x)[0]
    assert torch.allclose(torch.autograd.grad(logits[:, 0].sum(), x)[0], expected, atol=1e-6)


# --- as purifiers ---


class Scribbling(PreprocessorPyTorch):
    def forward(self, x, y=None):
        return x.mul_(0.5), y


@pytest.mark.parametrize("preprocessor", [Squaring(), Scribbling(device_type="cpu"), FeatureSqueezing((0, 1))])
def test_a_preprocessor_that_writes_into_its_input_changes_nothing_for_the_caller(unit, preprocessor):
    purifier = as_purifier(preprocessor)
    for x in (unit.clone(), unit.clone().requires_grad_()):
        check_images(purifier(x).detach())
        assert torch.equal(x, unit)


def test_a_compiled_purifier_is_the_purifier():
    purifier = RDP(C, width=4, blocks=1, block="residual")
    assert as_purifier(torch.compile(purifier, backend="eager")) is purifier
    compiled = torch.compile(nn.Conv2d(C, C, 1), backend="eager")
    assert as_purifier(compiled)(torch.rand(2, C, H, W)).shape == (2, C, H, W)
