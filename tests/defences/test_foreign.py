"""ART's defences, modules, functions and lists of them as purifiers: range, type, gradients, randomness."""

import numpy as np
import pytest
import torch
from art.defences.preprocessor import (
    FeatureSqueezing,
    GaussianAugmentation,
    JpegCompression,
    PixelDefend,
    SpatialSmoothing,
    TotalVarMin,
)
from art.defences.preprocessor.cutout.cutout_pytorch import CutoutPyTorch
from art.defences.preprocessor.preprocessor import Preprocessor, PreprocessorPyTorch
from art.estimators.classification import PyTorchClassifier
from torch import nn

from art_ext.defences import ArtPurifier, PurifierPreprocessor, as_purifier
from art_ext.nn import seeded
from art_ext.purifiers import Chain, Foreign

N, C, H, W = 3, 3, 8, 12


class Posterising(PreprocessorPyTorch):
    """A forward without gradient, and an estimate of one."""

    def __init__(self):
        super().__init__(device_type="cpu", is_fitted=True, apply_fit=False, apply_predict=True)

    def forward(self, x, y=None):
        return (x * 4).round() / 4, y

    def estimate_forward(self, x, y=None):
        return 0.5 * x


class Squaring(Posterising):
    def forward(self, x, y=None):
        return x**2, y


class Overshooting(Preprocessor):
    """Numpy, float64, and a rounding error outside the range."""

    def __call__(self, x, y=None):
        return x.astype(np.float64) * 0 + 1 + 1e-6, y


class PixelCNN(nn.Module):
    """Images (N, C, H, W) to 256 probabilities a pixel value, as PixelDefend wants them; 40 is the most probable."""

    def forward(self, x):
        return (-(torch.arange(256.0) - 40).abs()).exp().expand(len(x), x[0].numel(), 256) + 0 * x.mean()


def pixel_defend():
    cnn = PyTorchClassifier(
        nn.Sequential(PixelCNN()), nn.CrossEntropyLoss(), (C, H, W), 256, clip_values=(0, 1), device_type="cpu"
    )  # fmt: skip
    return PixelDefend(eps=16, pixel_cnn=cnn)


NUMPY = {
    "jpeg": lambda: JpegCompression((0, 1), 50, channels_first=True),
    "smoothing": lambda: SpatialSmoothing(3, channels_first=True),
    "total variation": lambda: TotalVarMin(max_iter=3, clip_values=(0, 1)),
    "squeezing": lambda: FeatureSqueezing((0, 1), 3),
    "pixel": pixel_defend,
    "noise": lambda: GaussianAugmentation(0.1, augmentation=False, clip_values=(0, 1)),
}


@pytest.fixture
def x():
    """Away from the borders: PixelDefend computes in uint8, which numpy 2 lets overflow within eps of them."""
    return 0.1 + 0.8 * torch.rand(N, C, H, W)


def gradient(view, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(view(x).sum(), x)[0]


@pytest.mark.parametrize("name", NUMPY)
def test_arts_own_defences(name, x):
    purifier = as_purifier(NUMPY[name]())
    assert isinstance(purifier, ArtPurifier)
    out = purifier(x)
    assert (out.shape, out.dtype) == (x.shape, torch.float32)
    assert 0 <= float(out.min()) <= float(out.max()) <= 1
    assert not torch.allclose(out, x, atol=1e-3)
    assert torch.equal(gradient(purifier, x), torch.ones_like(x))
    assert not purifier.differentiable


@pytest.mark.parametrize("name", NUMPY)
def test_the_values_are_those_of_art(name, x):
    preprocessor = NUMPY[name]()
    with seeded(3):
        found = as_purifier(preprocessor)(x)
    with seeded(3):
        np.random.seed(int(torch.randint(2**31, ())))  # noqa: NPY002
    expected, _ = preprocessor(x.numpy())
    assert np.allclose(found.numpy(), np.clip(expected, 0, 1), atol=1e-6)


@pytest.mark.parametrize("name", ["noise", "total variation"])
def test_numpys_draws_follow_torchs_seed_and_leave_numpys_generator_alone(name, x):
    purifier = as_purifier(NUMPY[name]())
    assert purifier.stochastic
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    outs = []
    for seed in (1, 1, 2):
        with seeded(seed):
            outs.append(purifier(x))
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert not as_purifier(NUMPY["jpeg"]()).stochastic


def test_a_rounding_error_outside_the_range_costs_no_gradient(x):
    purifier = as_purifier(Overshooting())
    assert torch.equal(purifier(x), torch.ones_like(x))
    assert torch.equal(gradient(purifier, x), torch.ones_like(x))


def test_another_range_and_layout(x):
    purifier = as_purifier(
        JpegCompression((0, 255), 50, channels_first=False), clip_values=(0, 255), channels_first=False
    )
    assert torch.allclose(purifier(x), as_purifier(NUMPY["jpeg"]())(x), atol=1e-5)


def test_a_pytorch_preprocessor_keeps_its_gradient_and_offers_its_estimate(x):
    purifier = as_purifier(Squaring())
    assert purifier.differentiable
    assert torch.allclose(purifier(x), x**2)
    assert torch.allclose(gradient(purifier, x), 2 * x)
    assert torch.allclose(purifier.approximate(x), x**2)
    assert torch.allclose(gradient(purifier.approximate, x), torch.full_like(x, 0.5))


def test_a_pytorch_preprocessor_in_another_range_and_layout(x):
    purifier = as_purifier(Squaring(), clip_values=(0, 2), channels_first=False)
    assert torch.allclose(purifier(x / 2), x**2 / 2)  # (2 * x / 2)^2 / 2
    assert torch.allclose(gradient(purifier, x / 2), 2 * x)


def test_a_pytorch_preprocessor_without_gradient(x):
    assert gradient(as_purifier(Posterising()), x).abs().max() == 0  # what ART itself would see
    declared = as_purifier(Posterising(), differentiable=False)
    assert torch.allclose(declared(x), (x * 4).round() / 4)
    assert torch.allclose(gradient(declared, x), torch.full_like(x, 0.5))


def test_arts_pytorch_cutout(x):
    purifier = as_purifier(CutoutPyTorch(4, channels_first=True, device_type="cpu"))
    assert purifier.stochastic
    assert purifier.differentiable
    found = gradient(purifier, x)
    assert set(found.unique().tolist()) == {0.0, 1.0}


def test_what_changes_the_number_of_images(x):
    with pytest.raises(ValueError, match=r"expected 'GaussianAugmentation' to keep the shape .* of a batch"):
        as_purifier(GaussianAugmentation(0.1, augmentation=True))(x)


def test_a_numpy_preprocessor_has_no_gradient_to_claim():
    with pytest.raises(ValueError, match="expected a PyTorch preprocessor to differentiate, got JpegCompression"):
        as_purifier(NUMPY["jpeg"](), differentiable=True)
    with pytest.raises(TypeError, match="expected an ART Preprocessor, got int"):
        ArtPurifier(3)


def test_it_is_not_saved(tmp_path):
    with pytest.raises(TypeError, match="holds code"):
        as_purifier(NUMPY["jpeg"]()).save_pretrained(tmp_path / "saved")


# --- as_purifier ---


def test_purifiers_come_back_as_they_are(kit):
    purifier = kit.Mixing()
    assert as_purifier(purifier) is purifier
    assert as_purifier(PurifierPreprocessor(purifier, (0, 255), False, device_type="cpu")) is purifier
    with pytest.raises(TypeError, match=r"expected no options for a purifier, got \['name'\]"):
        as_purifier(purifier, name="other")


def test_modules_and_functions(x):
    module = nn.Conv2d(C, C, 1)
    assert as_purifier(module, name="conv").function is module
    function = as_purifier(lambda v: (v * 4).round() / 4, surrogate=lambda v: 2 * v)
    assert isinstance(function, Foreign)
    assert torch.allclose(gradient(function, x), torch.full_like(x, 2.0))


def test_a_list_is_a_chain_in_its_order(kit, x):
    chain = as_purifier([NUMPY["squeezing"](), kit.Mixing(), lambda v: 1 - v, Squaring()], name="all")
    assert isinstance(chain, Chain)
    assert chain.name == "all"
    x = x * 0.9
    expected = (1 - kit.Mixing()(as_purifier(NUMPY["squeezing"]())(x))) ** 2
    assert torch.allclose(chain(x), expected, atol=1e-6)
    assert (gradient(chain, x).flatten(1).abs().amax(1) > 0).all()


def test_what_is_no_purifier(kit, net):
    for thing in (3, "jpeg", None, kit.classifier(net)):
        with pytest.raises(TypeError, match="expected a purifier, a module, a function"):
            as_purifier(thing)
    with pytest.raises(ValueError, match="at least one"):
        as_purifier([])


@pytest.mark.parametrize("name", ["jpeg", "smoothing", "squeezing"])
def test_the_gradient_reaches_the_pixels_through_art(kit, net, x, name, hot):
    art = kit.classifier(net, as_purifier([NUMPY[name](), kit.Mixing()]), clip_values=(0, 255), channels_first=False)
    found = art.loss_gradient(kit.outside(x.numpy(), (0, 255), False), hot[:N])
    assert (np.abs(found).reshape(N, -1).max(1) > 0).all()
