"""A purifier in front of an ART classifier is the purifier of torch: values, gradients, memory, range, layout."""

import copy
import pickle

import numpy as np
import pytest
import torch
from art.attacks.evasion import AutoProjectedGradientDescent, ProjectedGradientDescent, SquareAttack
from art.defences.preprocessor import FeatureSqueezing
from art.defences.preprocessor.cutout.cutout_pytorch import CutoutPyTorch
from art.defences.preprocessor.preprocessor import PreprocessorPyTorch
from art.preprocessing.standardisation_mean_std.pytorch import StandardisationMeanStdPyTorch
from torch import nn

from art_ext import presets
from art_ext.defences import PurifierPreprocessor, RDPPreprocessor
from art_ext.images import OutsideRangeWarning
from art_ext.nn import FeatureExtractor
from art_ext.purifiers import RDP
from tests.defences.schedules import Apart

RANGES = [(0, 1), (0, 255), (-1, 1)]
LAYOUTS = [pytest.param(True, id="NCHW"), pytest.param(False, id="NHWC")]
STANDARDISED = [pytest.param((0.0, 1.0), id="plain"), pytest.param((0.4, 0.3), id="standardised")]


def torch_gradient(model, x, y, clip_values=(0, 1), channels_first=True):
    """Of the mean cross-entropy, (N, C, H, W) in [0, 1] inside, in the units and layout of the user outside."""
    unit = torch.tensor(x, requires_grad=True)
    loss = nn.functional.cross_entropy(model(unit), torch.tensor(y))
    gradient = torch.autograd.grad(loss, unit)[0].numpy() / (clip_values[1] - clip_values[0])
    return gradient if channels_first else gradient.transpose(0, 2, 3, 1)


def small_rdp(kit, **options):
    arguments = {"channels": kit.C, "width": 4, "blocks": 2, "block": "residual", "device_type": "cpu"}
    return RDPPreprocessor(**arguments | options)


def features_of(net):
    return FeatureExtractor(net, "conv")


def weights(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# --- gradients through ART ---


@pytest.mark.parametrize("preprocessing", STANDARDISED)
@pytest.mark.parametrize("channels_first", LAYOUTS)
@pytest.mark.parametrize("clip_values", RANGES)
@pytest.mark.parametrize("kind", ["mixing", "rdp"])
def test_loss_gradient_is_that_of_torch(kit, net, x, y, kind, clip_values, channels_first, preprocessing, hot):
    purifier = kit.Mixing() if kind == "mixing" else kit.rdp()
    outside = {"clip_values": clip_values, "channels_first": channels_first}
    art = kit.classifier(net, purifier, **outside, preprocessing=preprocessing)
    expected = torch_gradient(nn.Sequential(purifier, net), x, y, **outside)
    found = art.loss_gradient(kit.outside(x, **outside), hot)
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    assert np.abs(expected).max() > 1e-6
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("channels_first", LAYOUTS)
@pytest.mark.parametrize("clip_values", RANGES)
def test_class_gradient_is_that_of_torch(kit, net, x, clip_values, channels_first):
    purifier, outside = kit.Mixing(), {"clip_values": clip_values, "channels_first": channels_first}
    art = kit.classifier(net, purifier, **outside, preprocessing=(0.4, 0.3))
    found = art.class_gradient(kit.outside(x, **outside))
    unit = torch.tensor(x, requires_grad=True)
    logits = net(purifier(unit))
    for k in range(kit.K):
        expected = torch.autograd.grad(logits[:, k].sum(), unit, retain_graph=True)[0].numpy()
        expected = expected / (clip_values[1] - clip_values[0])
        expected = expected if channels_first else expected.transpose(0, 2, 3, 1)
        np.testing.assert_allclose(found[:, k], expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("label", [2, np.array([0, 1, 2, 3, 4, 2]), [4, 4, 4, 0, 0, 0]])
def test_class_gradient_of_chosen_labels(kit, net, x, label):
    art = kit.classifier(net, kit.Mixing())
    every = art.class_gradient(x)
    chosen = np.full(kit.N, label) if isinstance(label, int) else np.array(label)
    found = art.class_gradient(x, label=label)
    assert found.shape == (kit.N, 1, kit.C, kit.H, kit.W)
    np.testing.assert_allclose(found[:, 0], every[np.arange(kit.N), chosen], atol=1e-6)


@pytest.mark.parametrize("channels_first", LAYOUTS)
@pytest.mark.parametrize("clip_values", RANGES)
def test_gradient_of_a_rounding_purifier_is_that_of_its_surrogate(kit, net, x, y, clip_values, channels_first, hot):
    purifier, outside = kit.Rounding(), {"clip_values": clip_values, "channels_first": channels_first}
    art = kit.classifier(net, purifier, **outside)
    unit = torch.tensor(x, requires_grad=True)
    rounded = ((unit * 8).round() / 8).detach().requires_grad_()
    at_rounded = torch.autograd.grad(nn.functional.cross_entropy(net(rounded), torch.tensor(y)), rounded)[0]
    expected = torch.autograd.grad(purifier.surrogate(unit), unit, at_rounded)[0].numpy()
    expected = kit.outside(expected, (0, 1), channels_first) / (clip_values[1] - clip_values[0])
    found = art.loss_gradient(kit.outside(x, **outside), hot)
    assert np.abs(found).max() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


def test_gradient_is_exact_against_finite_differences(kit):
    """In double precision and in the units of the user, so that no convention of ours is on both sides."""
    purifier, low, high = kit.Mixing().double(), -1.0, 3.0
    preprocessor = PurifierPreprocessor(purifier, (low, high), device_type="cpu")
    x = (0.8 * torch.rand(2, kit.C, kit.H, kit.W) + 0.1) * (high - low) + low
    direction, step = torch.randn_like(x), 1e-2
    target = torch.randn_like(x)

    def value(at):
        return float((preprocessor.forward(at)[0] * target).sum())

    leaf = x.clone().requires_grad_()
    (preprocessor.forward(leaf)[0] * target).sum().backward()
    slope = float((leaf.grad * direction).sum())
    assert slope == pytest.approx((value(x + step * direction) - value(x - step * direction)) / (2 * step), rel=1e-2)


@pytest.mark.parametrize("position", ["input", "output"])
def test_noise_differs_between_calls_and_a_seed_repeats_it(kit, net, x, position, hot):
    preprocessor = small_rdp(kit, noise_std=0.1, noise_position=position)
    preprocessor.purifier.decoder.conv.bias.data += 0.5  # away from the clamp
    art = kit.classifier(net, preprocessor)
    torch.manual_seed(3)
    first, second = art.loss_gradient(x, hot), art.loss_gradient(x, hot)
    torch.manual_seed(3)
    assert not np.allclose(first, second, rtol=1e-3, atol=0)
    np.testing.assert_array_equal(art.loss_gradient(x, hot), first)
    preprocessor.set_params(noise_std=0.0)
    np.testing.assert_array_equal(art.loss_gradient(x, hot), art.loss_gradient(x, hot))


def test_noise_differs_between_images_of_a_batch(kit):
    preprocessor = small_rdp(kit, noise_std=0.1)
    preprocessor.purifier.decoder.conv.bias.data += 0.5
    x = np.repeat(np.full((1, kit.C, kit.H, kit.W), 0.5, np.float32), 4, axis=0)
    out, _ = preprocessor(x)
    assert len(np.unique(out.reshape(4, -1), axis=0)) == 4


def test_gradient_leaves_no_trace_in_the_purifier(kit, net, x, hot):
    purifier = kit.Mixing().train()
    art = kit.classifier(net, purifier)
    before = weights(purifier)
    art.loss_gradient(x, hot)
    art.class_gradient(x)
    assert same(weights(purifier), before)
    assert not purifier.training
    assert all(p.grad is None and not p.requires_grad for p in purifier.parameters())


def test_estimate_gradient_is_the_vector_jacobian_product(kit, x):
    """ART calls it where preprocessors of numpy and torch meet."""
    preprocessor = PurifierPreprocessor(kit.Rounding(), (0, 255), False, device_type="cpu")
    user = kit.outside(x, (0, 255), False)
    grad = np.random.default_rng(0).normal(size=user.shape).astype(np.float32)
    expected = 0.5 * grad + 0.25 * np.roll(grad, -1, axis=2)
    np.testing.assert_allclose(preprocessor.estimate_gradient(user, grad), expected, atol=1e-5)


# --- values and memory ---


@pytest.mark.parametrize("channels_first", LAYOUTS)
@pytest.mark.parametrize("clip_values", RANGES)
def test_predict_is_purify_then_classify(kit, net, x, clip_values, channels_first):
    outside = {"clip_values": clip_values, "channels_first": channels_first}
    purifier = kit.Mixing()
    art = kit.classifier(net, purifier, **outside, preprocessing=(0.4, 0.3))
    with torch.no_grad():
        expected = net(purifier(torch.tensor(x))).numpy()
    np.testing.assert_allclose(art.predict(kit.outside(x, **outside)), expected, atol=2e-5)
    bare = kit.classifier(net, **outside, preprocessing=(0.4, 0.3))
    purified, _ = art.preprocessing_defences[0](kit.outside(x, **outside))
    np.testing.assert_allclose(bare.predict(purified), expected, atol=2e-5)


def test_losses_and_activations_are_those_behind_the_purifier(kit, net, x, y, hot):
    purifier, user = kit.Mixing(), x * 255
    art = kit.classifier(net, purifier, clip_values=(0, 255))
    purified = purifier(torch.tensor(x))
    expected = nn.functional.cross_entropy(net(purified), torch.tensor(y), reduction="none").detach()
    np.testing.assert_allclose(art.compute_loss(user, hot, reduction="none"), expected, atol=1e-4)
    (layer,) = art.layer_names
    np.testing.assert_allclose(art.get_activations(user, layer), net(purified).detach(), atol=1e-4)
    assert "Mixing" in repr(art) or "PurifierPreprocessor" in repr(art)


@pytest.mark.parametrize("clip_values", RANGES)
def test_known_values_and_layout(kit, clip_values):
    """A hand-computed purifier: channel c of the image is scaled, the columns move one to the right."""
    preprocessor = PurifierPreprocessor(kit.Mixing(), clip_values, False, device_type="cpu")
    unit = np.zeros((2, kit.C, kit.H, kit.W), np.float32)
    unit[1, 2, 3, 4] = 1
    out, _ = preprocessor(kit.outside(unit, clip_values, False))
    expected = np.full((2, kit.H, kit.W, kit.C), 0.05, np.float32)
    expected[1, 3, 4, 2], expected[1, 3, 5, 2], expected[1, 4, 4, 2] = 0.65, 0.25, 0.15
    low, high = clip_values
    np.testing.assert_allclose(out, expected * (high - low) + low, atol=1e-6 * (high - low))


def test_clip_values_a_channel(kit, net, x, y):
    low = np.array([0.0, -1.0, 10.0], np.float32).reshape(3, 1, 1)
    high = np.array([1.0, 1.0, 20.0], np.float32).reshape(3, 1, 1)
    purifier = kit.Mixing()
    preprocessor = PurifierPreprocessor(purifier, (low, high), device_type="cpu")
    out, _ = preprocessor(x * (high - low) + low)
    expected = purifier(torch.tensor(x)).numpy() * (high - low) + low
    np.testing.assert_allclose(out, expected, atol=1e-5)
    stacked = PurifierPreprocessor(purifier, np.stack([low, high]), device_type="cpu")  # as ART keeps them
    np.testing.assert_array_equal(stacked(x * (high - low) + low)[0], out)


def test_no_call_is_larger_than_batch_size(kit, net):
    purifier = kit.Mixing()
    preprocessor = PurifierPreprocessor(purifier, batch_size=96, device_type="cpu")
    art = kit.classifier(net, preprocessor)
    x = np.random.default_rng(0).random((2000, kit.C, kit.H, kit.W), np.float32)
    whole = art.predict(x, batch_size=16)
    assert purifier.seen == [96] * 20 + [80]
    purifier.seen.clear()
    called, _ = preprocessor(x)
    assert purifier.seen == [96] * 20 + [80]
    preprocessor.set_params(batch_size=2000)
    purifier.seen.clear()
    np.testing.assert_allclose(art.predict(x), whole, atol=1e-5)
    assert purifier.seen == [2000]
    np.testing.assert_allclose(preprocessor(x)[0], called, atol=1e-6)


def test_two_rims_of_one_purifier_keep_their_batch_sizes(kit, x):
    purifier = kit.Mixing()
    small, large = (PurifierPreprocessor(purifier, batch_size=b, device_type="cpu") for b in (2, 4))
    small.forward(torch.tensor(x))
    large.forward(torch.tensor(x))
    small.forward(torch.tensor(x))
    assert purifier.seen == [2, 2, 2, 4, 2, 2, 2, 2]


@pytest.mark.parametrize(
    ("dtype", "clip_values"),
    [(np.uint8, (0, 255)), (np.uint16, (0, 65535)), (np.int64, (0, 255)), (np.float16, (0, 1)), (np.float64, (0, 1))],
)
def test_any_numeric_dtype_goes_in_and_float32_comes_out(kit, net, x, dtype, clip_values):
    art = kit.classifier(net, kit.Mixing(), clip_values=clip_values)
    user = (x * clip_values[1]).astype(dtype)
    out, _ = art.preprocessing_defences[0](user)
    assert out.dtype == np.float32
    expected, _ = art.preprocessing_defences[0](user.astype(np.float32))
    np.testing.assert_array_equal(out, expected)
    assert art.predict(user).dtype == np.float32
    np.testing.assert_allclose(art.predict(user), art.predict(user.astype(np.float32)), atol=1e-6)


def test_gradient_of_float64_images(kit, net, x, hot):
    art = kit.classifier(net, kit.Mixing())
    np.testing.assert_allclose(art.loss_gradient(x.astype(np.float64), hot), art.loss_gradient(x, hot), atol=1e-6)


@pytest.mark.parametrize("channels_first", LAYOUTS)
def test_arrays_that_are_read_only_or_strided(kit, net, x, channels_first):
    outside = {"clip_values": (0, 255), "channels_first": channels_first}
    art = kit.classifier(net, kit.Mixing(), **outside)
    user = kit.outside(x, **outside)
    expected, prediction = art.preprocessing_defences[0](user)[0], art.predict(user)
    strided = np.flip(np.flip(user, 2).copy(), 2)
    assert min(strided.strides) < 0
    for odd in (strided, np.asfortranarray(user), user.astype(">f4")):
        odd.setflags(write=False)
        np.testing.assert_array_equal(art.preprocessing_defences[0](odd)[0], expected)
    readonly = user.copy()
    readonly.setflags(write=False)
    np.testing.assert_array_equal(art.predict(readonly), prediction)


@pytest.mark.parametrize("purifier", ["Mixing", "Rounding"])
@pytest.mark.parametrize("clip_values", RANGES)
def test_images_and_labels_stay_as_they_are(kit, net, x, y, purifier, clip_values, hot):
    art = kit.classifier(net, getattr(kit, purifier)(), clip_values=clip_values)
    user = kit.outside(x, clip_values)
    before, labels = user.copy(), np.eye(kit.K)[y]
    out, passed = art.preprocessing_defences[0](user, labels)
    assert passed is labels
    assert not np.shares_memory(out, user)
    out[:] = 0
    art.predict(user)
    art.loss_gradient(user, hot)
    art.class_gradient(user)
    np.testing.assert_array_equal(user, before)
    tensor, marker = torch.tensor(user), object()
    assert art.preprocessing_defences[0].forward(tensor, marker)[1] is marker
    assert torch.equal(tensor, torch.tensor(before))


@pytest.mark.parametrize("channels_first", LAYOUTS)
def test_no_images(kit, channels_first):
    preprocessor = PurifierPreprocessor(kit.Mixing(), (0, 255), channels_first, device_type="cpu")
    empty = kit.outside(np.zeros((0, kit.C, kit.H, kit.W)), (0, 255), channels_first)
    out, _ = preprocessor(empty, np.zeros(0))
    assert (out.shape, out.dtype) == (empty.shape, np.float32)
    assert preprocessor.forward(torch.tensor(empty))[0].shape == empty.shape


# --- chains ---


def test_two_purifiers_in_a_row(kit, net, x, y, hot):
    first, second = kit.Mixing(), kit.Rounding()
    outside = {"clip_values": (0, 255), "channels_first": False}
    art = kit.classifier(net, first, second, **outside, preprocessing=(90.0, 60.0))
    chain = nn.Sequential(first, second, net)
    np.testing.assert_allclose(art.predict(kit.outside(x, **outside)), chain(torch.tensor(x)).detach(), atol=2e-5)
    expected = torch_gradient(chain, x, y, **outside)
    found = art.loss_gradient(kit.outside(x, **outside), hot)
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_standardisation_of_art_before_and_after(kit, net, x, y, hot):
    """[-1, 1] outside, [0, 1] for the purifier, standardised for the net."""
    purifier = kit.Mixing()
    to_unit = StandardisationMeanStdPyTorch(-1.0, 2.0, device_type="cpu")
    after = StandardisationMeanStdPyTorch(0.4, 0.3, device_type="cpu")
    preprocessor = PurifierPreprocessor(purifier, device_type="cpu")
    art = kit.classifier(
        kit.Outside(net, preprocessing=(0.4, 0.3)), to_unit, preprocessor, after, clip_values=(-1, 1), wrap=False
    )
    expected = torch_gradient(nn.Sequential(purifier, net), x, y, (-1, 1))
    user = kit.outside(x, (-1, 1))
    np.testing.assert_allclose(art.predict(user), net(purifier(torch.tensor(x))).detach(), atol=2e-5)
    np.testing.assert_allclose(art.loss_gradient(user, hot), expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("before", [True, False])
def test_torch_preprocessor_of_art_in_the_chain(kit, net, x, y, before, hot):
    """Cutout puts a square of every image to 0."""
    cutout = CutoutPyTorch(length=4, channels_first=True, apply_predict=True, device_type="cpu")
    purifier = kit.Mixing()
    art = kit.classifier(net, *((cutout, purifier) if before else (purifier, cutout)))
    torch.manual_seed(0)
    gradient = art.loss_gradient(x, hot)
    torch.manual_seed(0)
    leaf = torch.tensor(x, requires_grad=True)
    seen = purifier(cutout.forward(leaf)[0]) if before else cutout.forward(purifier(leaf))[0]
    loss = nn.functional.cross_entropy(net(seen), torch.tensor(y))
    expected = torch.autograd.grad(loss, leaf)[0].numpy()
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_numpy_preprocessors_of_art_do_not_mix(kit, net, x):
    """ART 1.20 refuses; a release that does not should make us test what it gives."""
    art = kit.classifier(net, FeatureSqueezing(clip_values=(0, 1)), kit.Mixing())
    with pytest.raises(NotImplementedError, match="combination of preprocessing types"):
        art.predict(x)


# --- errors ---


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        pytest.param(lambda x: x[0], ValueError, "rank 4", id="rank 3"),
        pytest.param(lambda x: x[None], ValueError, "rank 4", id="rank 5"),
        pytest.param(lambda x: x[:, :2], ValueError, "3 channel", id="channels"),
        pytest.param(lambda x: x.transpose(0, 2, 3, 1), ValueError, "3 channel", id="layout"),
        pytest.param(lambda x: x * 255, ValueError, r"divide by 255", id="range 255"),
        pytest.param(lambda x: x * 2 - 1, ValueError, r"\[-1, 1\]", id="range -1"),
        pytest.param(lambda x: np.where(x > 0.9, np.nan, x), ValueError, "NaN or Inf", id="NaN"),
        pytest.param(lambda x: np.where(x > 0.9, np.inf, x), ValueError, "NaN or Inf", id="Inf"),
        pytest.param(lambda x: x.astype(object), TypeError, "numeric", id="object"),
        pytest.param(lambda x: x.astype(str), TypeError, "numeric", id="str"),
        pytest.param(lambda x: x > 0.5, TypeError, "numeric", id="bool"),
        pytest.param(lambda x: x.astype(np.complex64), TypeError, "numeric", id="complex"),
        pytest.param(lambda x: x.tolist(), TypeError, "numpy array, got list", id="list"),
        pytest.param(torch.tensor, TypeError, "numpy array, got Tensor", id="tensor"),
        pytest.param(lambda x: None, TypeError, "numpy array", id="None"),
    ],
)
def test_refuses_what_are_no_images(kit, x, change, error, message):
    with pytest.raises(error, match=message):
        PurifierPreprocessor(kit.Mixing(), device_type="cpu")(change(x))


@pytest.mark.parametrize("last", [np.nan, 2.0])
def test_refuses_a_bad_image_in_the_last_batch(kit, x, last):
    x[-1, -1, -1, -1] = last
    preprocessor = PurifierPreprocessor(kit.Mixing(), batch_size=4, device_type="cpu")
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        preprocessor(x)


def test_what_art_sends_from_outside_the_range_is_clamped(kit, net, x, hot):
    art = kit.classifier(net, kit.Mixing(), clip_values=(0, 255))
    sent, clamped = 400 * x - 50, (400 * x - 50).clip(0, 255)
    with pytest.warns(OutsideRangeWarning, match=r"expected images in \[0, 1\], got values in \[-0\.1.*, 1\.\d+\]"):
        found = art.predict(sent)
    assert np.allclose(found, art.predict(clamped), atol=1e-6)
    gradient = art.loss_gradient(sent, hot)
    assert np.allclose(gradient, art.loss_gradient(clamped, hot), atol=1e-6)
    assert np.abs(gradient[sent != clamped]).max() > 0


def test_an_image_that_is_not_finite_has_no_answer_through_art(kit, net, x):
    art = kit.classifier(net, kit.Mixing())
    expected = art.predict(x)
    x[2, 0, 1, 1] = np.nan
    found = art.predict(x)
    assert np.isnan(found[2]).all()
    assert np.allclose(np.delete(found, 2, 0), np.delete(expected, 2, 0), atol=1e-6)


BAD_PARAMETERS = [
    {"clip_values": (1, 0)},
    {"clip_values": (0, 0)},
    {"clip_values": (0, float("nan"))},
    {"clip_values": (-float("inf"), 1)},
    {"clip_values": (0, 1, 2)},
    {"clip_values": 1},
    {"clip_values": None},
    {"clip_values": "01"},
    {"clip_values": (None, 1)},
    {"clip_values": (np.zeros((3, 1, 1)), np.array([1.0, 0.0, 1.0]).reshape(3, 1, 1))},
    {"channels_first": 1},
    {"channels_first": "yes"},
    {"channels_first": None},
    {"batch_size": 0},
    {"batch_size": -1},
    {"batch_size": 2.0},
    {"batch_size": None},
    {"verbose": 1},
]


@pytest.mark.parametrize("bad", BAD_PARAMETERS, ids=str)
def test_refuses_bad_parameters(kit, bad):
    (name,) = bad
    with pytest.raises(ValueError, match=name):
        PurifierPreprocessor(kit.Mixing(), device_type="cpu", **bad)


@pytest.mark.parametrize("purifier", [nn.Identity(), None, "rdp", RDP])
def test_refuses_what_is_no_purifier(purifier):
    with pytest.raises(TypeError, match="expected an art_ext Purifier"):
        PurifierPreprocessor(purifier)


# --- set_params ---


def test_set_params_takes_every_name_in_params(kit, x):
    preprocessor = small_rdp(kit)
    new = {
        "clip_values": (0, 255), "channels_first": False, "batch_size": 7, "verbose": True, "noise_std": 0.05,
        "noise_position": "output",
    }  # fmt: skip
    assert set(new) == set(preprocessor.params)
    preprocessor.set_params(**new)
    assert {k: getattr(preprocessor, k) for k in new} == new
    assert (preprocessor.purifier.noise_std, preprocessor.purifier.noise_position) == (0.05, "output")
    preprocessor.set_params(noise_std=0.0)
    user = kit.outside(x, (0, 255), False)
    expected = preprocessor.purifier(torch.tensor(x)).permute(0, 2, 3, 1).detach() * 255
    np.testing.assert_allclose(preprocessor(user)[0], expected, atol=1e-3)


@pytest.mark.parametrize(
    "bad",
    [
        *BAD_PARAMETERS,
        {"noise_std": -0.1},
        {"noise_std": float("nan")},
        {"noise_std": "much"},
        {"noise_position": "middle"},
        {"unknown": 1},
        {"purifier": None},
        {"apply_fit": True},
    ],
    ids=str,
)
def test_set_params_changes_all_or_nothing(kit, bad):
    preprocessor = small_rdp(kit, noise_std=0.02)
    before = {k: getattr(preprocessor, k) for k in preprocessor.params}
    good = {"clip_values": (-1, 1), "channels_first": False, "batch_size": 3, "noise_std": 0.3, "verbose": True}
    for attempt in (good | bad, bad | {k: v for k, v in good.items() if k not in bad}):  # bad one last, and first
        with pytest.raises((ValueError, TypeError)):
            preprocessor.set_params(**attempt)
        assert {k: getattr(preprocessor, k) for k in preprocessor.params} == before


# --- apply_fit, apply_predict, training of the classifier ---


@pytest.mark.parametrize("apply_predict", [True, False])
@pytest.mark.parametrize("apply_fit", [True, False])
def test_fit_and_predict_purify_as_they_were_told(kit, net, x, y, apply_fit, apply_predict):
    purifier = kit.Mixing()
    preprocessor = PurifierPreprocessor(purifier, apply_fit=apply_fit, apply_predict=apply_predict, device_type="cpu")
    art = kit.classifier(net, preprocessor, optimizer=True)
    assert (preprocessor.apply_fit, preprocessor.apply_predict) == (apply_fit, apply_predict)
    before = weights(purifier)
    art.fit(x, np.eye(kit.K, dtype=np.float32)[y], nb_epochs=1, batch_size=3)
    assert bool(purifier.seen) == apply_fit
    assert same(weights(purifier), before)
    purifier.seen.clear()
    predictions = art.predict(x)
    assert bool(purifier.seen) == apply_predict
    unit = torch.tensor(x)
    np.testing.assert_allclose(predictions, net(purifier(unit) if apply_predict else unit).detach(), atol=1e-5)


def test_fit_improves_a_defended_classifier(kit, net, hot):
    """ART's own test of estimators: it learns, with one-hot and with index labels, and leaves the data alone."""
    y = np.arange(40) % 2
    x = (0.2 * np.random.default_rng(0).random((40, kit.C, kit.H, kit.W)) + 0.7 * y[:, None, None, None]).astype("f4")
    kept = x.copy(), y.copy()
    for labels in (y, np.eye(kit.K, dtype=np.float32)[y]):
        preprocessor = PurifierPreprocessor(kit.Mixing(), apply_fit=True, device_type="cpu")
        art = kit.classifier(kit.Net(), preprocessor, optimizer=True)
        art.fit(x, labels, nb_epochs=15, batch_size=10)
        assert (art.predict(x).argmax(1) == y).mean() > 0.95
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(y, kept[1])


# --- copies ---


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))], ids=["deepcopy", "pickle"])
def test_copies_of_a_preprocessor(kit, net, x, copier):
    preprocessor = small_rdp(
        kit, clip_values=(0, 255), batch_size=4, noise_position="output", features=features_of(net)
    )
    twin = copier(preprocessor)
    assert {k: getattr(twin, k) for k in twin.params} == {k: getattr(preprocessor, k) for k in preprocessor.params}
    assert same(weights(twin.purifier), weights(preprocessor.purifier))
    assert twin.is_fitted is preprocessor.is_fitted is False
    assert twin.features.layer == "conv"
    np.testing.assert_array_equal(twin(x * 255)[0], preprocessor(x * 255)[0])
    twin.purifier.decoder.conv.bias.data += 1
    assert not same(weights(twin.purifier), weights(preprocessor.purifier))


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))], ids=["deepcopy", "pickle"])
def test_copies_of_a_defended_classifier(kit, net, x, copier, hot):
    purifier = kit.rdp()
    art = kit.classifier(net, purifier, optimizer=True)
    twin = copier(art)
    np.testing.assert_array_equal(twin.predict(x), art.predict(x))
    np.testing.assert_array_equal(twin.loss_gradient(x, hot), art.loss_gradient(x, hot))
    assert same(weights(twin.preprocessing_defences[0].purifier), weights(purifier))


def test_reset_and_refitting_spare_the_purifier(kit, net, x):
    purifier = kit.rdp()
    art = kit.classifier(net, purifier, optimizer=True)
    before, prediction = weights(purifier), art.predict(x)
    clone = art.clone_for_refitting()
    assert clone.preprocessing_defences[0].purifier is purifier
    assert same(weights(purifier), before)
    np.testing.assert_array_equal(art.predict(x), prediction)
    assert not np.allclose(clone.predict(x), prediction)
    art.reset()
    assert same(weights(purifier), before)
    assert not np.allclose(art.predict(x), prediction)


def test_attached_and_detached_by_set_params(kit, net, x):
    art = kit.classifier(net)
    bare = art.predict(x)
    art.set_params(preprocessing_defences=PurifierPreprocessor(kit.Mixing(), device_type="cpu"))
    assert art.all_framework_preprocessing
    assert not np.allclose(art.predict(x), bare)
    art.set_params(preprocessing_defences=None)
    np.testing.assert_array_equal(art.predict(x), bare)


def test_saved_model_of_the_classifier_holds_no_purifier(kit, net, tmp_path):
    kit.classifier(net, kit.rdp()).save("net", str(tmp_path))
    assert set(torch.load(tmp_path / "net.model")) == {f"net.{k}" for k in net.state_dict()}


# --- ART's attacks ---

ATTACKS = {
    "pgd": lambda art, norm, eps: ProjectedGradientDescent(
        art, norm=norm, eps=eps, eps_step=eps / 2, max_iter=3, batch_size=4, verbose=False
    ),
    "apgd": lambda art, norm, eps: AutoProjectedGradientDescent(
        art, norm=norm, eps=eps, eps_step=eps / 2, max_iter=4, nb_random_init=1, batch_size=4, verbose=False
    ),
    "square": lambda art, norm, eps: SquareAttack(
        art, norm=norm, eps=eps, max_iter=4, p_init=0.3, nb_restarts=1, batch_size=4, verbose=False
    ),
}


@pytest.mark.parametrize("purifier", ["Mixing", "Rounding", "Noisy"])
@pytest.mark.parametrize(
    ("attack", "norm"),  # ART's Square divides by 0 in L2 on images this small
    [("pgd", np.inf), ("pgd", 2), ("apgd", np.inf), ("apgd", 2), ("square", np.inf)],
)
def test_attacks_of_art_run_inside_the_ball_of_the_user(kit, net, x, attack, norm, purifier):
    clip_values = (0, 255)
    x = np.concatenate([x, x[:, :, :4]], axis=2)  # Square wants square images
    art = kit.classifier(net, getattr(kit, purifier)(), clip_values=clip_values, height=kit.W)
    user = kit.outside(x, clip_values)
    user[0, 0] = 255  # the box holds too
    y, eps = art.predict(user).argmax(1), 16.0 if norm == np.inf else 200.0
    x_adv = ATTACKS[attack](art, norm, eps).generate(user.copy(), np.eye(kit.K, dtype=np.float32)[y])
    assert (x_adv.shape, x_adv.dtype) == (user.shape, np.float32)
    assert x_adv.min() >= 0
    assert x_adv.max() <= 255
    radius = np.linalg.norm((x_adv - user).reshape(len(user), -1), ord=norm, axis=1)
    assert radius.max() <= eps * (1 + 1e-4)
    assert radius.max() > 0.1 * eps


@pytest.mark.parametrize("purifier", ["Mixing", "Rounding"])
def test_white_box_attack_raises_the_loss_of_the_defended_classifier(kit, net, x, purifier):
    """PGD; APGD of ART gives back its random start where it does not succeed, defended or not."""
    clip_values, channels_first = (0, 255), False
    art = kit.classifier(net, getattr(kit, purifier)(), clip_values=clip_values, channels_first=channels_first)
    user = kit.outside(x, clip_values, channels_first)
    y = np.eye(kit.K, dtype=np.float32)[art.predict(user).argmax(1)]
    x_adv = ATTACKS["pgd"](art, np.inf, 24.0).generate(user, y)
    losses = [art.compute_loss(v, y, reduction="none") for v in (user, x_adv)]
    assert losses[1].mean() > losses[0].mean() + 1e-3


# --- from_pretrained ---


def test_preset_of_the_wrong_class():
    with pytest.raises(ValueError, match=r"expected a preset of RDP, got 'fashion_mnist_cnn', a SmallCNN"):
        RDPPreprocessor.from_pretrained("fashion_mnist_cnn")


@pytest.mark.parametrize("name", ["no_such_preset", "a/b/c", "fashion mnist"])
def test_unknown_name_lists_the_presets(name):
    with pytest.raises(ValueError, match=r"fashion_mnist_cnn, .*fashion_mnist_vgg") as caught:
        RDPPreprocessor.from_pretrained(name)
    assert repr(name) in str(caught.value)


def test_preset_of_rdp(kit, x, tmp_path, monkeypatch):
    purifier = kit.rdp()
    arguments = {"channels": kit.C, "width": 4, "blocks": 2, "block": "residual"}
    facts = {"paper": "p", "data": "d", "command": "c", "training": {}, "measured": {"n": 1}}
    presets.save(purifier, "tiny", arguments=arguments, folder=tmp_path, **facts)
    monkeypatch.setattr(presets, "names", lambda: ["tiny"])
    load = presets.load
    monkeypatch.setattr(presets, "load", lambda name: load(name, tmp_path))
    loaded = RDPPreprocessor.from_pretrained("tiny", clip_values=(0, 255), batch_size=3, device_type="cpu")
    expected = PurifierPreprocessor(purifier, (0, 255), batch_size=3, device_type="cpu")
    np.testing.assert_array_equal(loaded(x * 255)[0], expected(x * 255)[0])
    assert loaded.is_fitted


@pytest.mark.parametrize("name", [n for n in presets.names() if presets.describe(n).class_name == "RDP"])
def test_shipped_rdp(name):
    loaded = RDPPreprocessor.from_pretrained(name, clip_values=(0, 255), channels_first=False, device_type="cpu")
    channels = presets.describe(name).arguments["channels"]
    x = np.random.default_rng(0).integers(0, 256, (3, 28, 28, channels), np.uint8)
    out, _ = loaded(x)
    assert (out.shape, out.dtype, loaded.is_fitted) == (x.shape, np.float32, True)
    unit = torch.tensor(x / 255, dtype=torch.float32).permute(0, 3, 1, 2)
    expected = presets.load(name)(unit).permute(0, 2, 3, 1).numpy() * 255
    np.testing.assert_allclose(out, expected, atol=1e-2)


@pytest.mark.parametrize("as_text", [True, False])
def test_folder_round_trip(kit, x, tmp_path, as_text):
    saved = small_rdp(kit, width=6)
    saved.save_pretrained(tmp_path / "rdp")
    folder = str(tmp_path / "rdp") if as_text else tmp_path / "rdp"
    loaded = RDPPreprocessor.from_pretrained(folder, clip_values=(0, 255), channels_first=False, device_type="cpu")
    assert isinstance(loaded, RDPPreprocessor)
    assert (loaded.clip_values, loaded.channels_first, loaded.is_fitted) == ((0, 255), False, True)
    assert loaded.features is None
    assert not any(p.requires_grad for p in loaded.purifier.parameters())
    expected, _ = saved(x)
    found, _ = loaded(kit.outside(x, (0, 255), False))
    np.testing.assert_allclose(found, kit.outside(expected, (0, 255), False), atol=1e-3)


def test_noise_of_a_folder_is_kept_unless_another_is_asked_for(kit, tmp_path):
    small_rdp(kit, noise_std=0.05, noise_position="output").save_pretrained(tmp_path)

    def noise(**asked):
        loaded = RDPPreprocessor.from_pretrained(tmp_path, device_type="cpu", **asked)
        assert (loaded.purifier.noise_std, loaded.purifier.noise_position) == (loaded.noise_std, loaded.noise_position)
        return loaded.noise_std, loaded.noise_position

    assert noise() == (0.05, "output")
    assert noise(noise_std=0.0) == (0.0, "output")
    assert noise(noise_std=0.2) == (0.2, "output")
    assert noise(noise_position="input") == (0.05, "input")
    with pytest.raises(ValueError, match="noise_std"):
        noise(noise_std=-1)
    with pytest.raises(ValueError, match="noise_position"):
        noise(noise_position="middle")


def test_noise_set_later_is_saved(kit, tmp_path):
    preprocessor = small_rdp(kit)
    preprocessor.set_params(noise_std=0.05, noise_position="output")
    preprocessor.save_pretrained(tmp_path)
    loaded = RDPPreprocessor.from_pretrained(tmp_path, device_type="cpu")
    assert (loaded.noise_std, loaded.noise_position) == (0.05, "output")


def test_folder_without_weights(tmp_path):
    with pytest.raises(ValueError, match="got no such file"):
        RDPPreprocessor.from_pretrained(tmp_path)


@pytest.mark.parametrize("bad", [{"clip_values": (1, 0)}, {"batch_size": 0}])
def test_rim_arguments_of_from_pretrained_are_checked(kit, tmp_path, bad):
    small_rdp(kit).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="expected"):
        RDPPreprocessor.from_pretrained(tmp_path, **bad)


# --- fit ---


def test_fit_needs_no_labels_and_trains(kit, net, x):
    outside = {"clip_values": (0, 255), "channels_first": False}
    preprocessor = small_rdp(kit, features=features_of(net), **outside)
    frozen, before, kept = weights(net), weights(preprocessor.purifier), x.copy()
    assert not preprocessor.is_fitted
    preprocessor.fit(kit.outside(x, **outside), nb_epochs=2, batch_size=4)
    assert preprocessor.is_fitted
    after = weights(preprocessor.purifier)
    assert all(not torch.equal(before[k], after[k]) for k in before if k.endswith("conv.weight"))
    assert same(weights(net), frozen)
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert all(not p.requires_grad and p.grad is None for p in preprocessor.purifier.parameters())
    assert not preprocessor.purifier.training
    np.testing.assert_array_equal(x, kept)


def test_fit_sees_the_same_images_in_any_range_and_layout(kit, net, x):
    def trained(**outside):
        torch.manual_seed(5)
        preprocessor = small_rdp(kit, features=features_of(net), **outside)
        preprocessor.fit(kit.outside(x, **outside), nb_epochs=1, batch_size=4)
        return weights(preprocessor.purifier)

    first, second = trained(), trained(clip_values=(-1, 1), channels_first=False)
    for k, v in first.items():
        torch.testing.assert_close(v, second[k], atol=1e-5, rtol=0, msg=k)


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        pytest.param(lambda x: x, {"features": None}, ValueError, "feature extractor", id="no features"),
        pytest.param(lambda x: x[:0], {}, ValueError, "at least one image", id="no images"),
        pytest.param(lambda x: x * 3, {}, ValueError, r"\[0, 1\]", id="range"),
        pytest.param(lambda x: np.where(x == x[-1, -1, -1, -1], np.nan, x), {}, ValueError, "NaN", id="last NaN"),
        pytest.param(lambda x: x[:, :2], {}, ValueError, "3 channel", id="channels"),
        pytest.param(lambda x: x[0], {}, ValueError, "rank 4", id="rank"),
        pytest.param(lambda x: x.tolist(), {}, TypeError, "numpy array", id="list"),
        pytest.param(lambda x: x, {"nb_epochs": 0}, ValueError, "epoch", id="no epochs"),
        pytest.param(lambda x: x, {"batch_size": 0}, ValueError, "batch_size", id="batch size 0"),
        pytest.param(lambda x: x, {"seed": -1}, ValueError, "seed", id="seed"),
        pytest.param(lambda x: x, {"epochs": 3}, TypeError, "epochs", id="unknown argument"),
    ],
)
def test_refused_fit_changes_nothing(kit, net, x, tmp_path, change, options, error, message):
    features = options.pop("features", features_of(net)) if "features" in options else features_of(net)
    preprocessor = small_rdp(kit, features=features)
    before = weights(preprocessor.purifier)
    arguments = {"nb_epochs": 1, "batch_size": 2, "checkpoint": tmp_path / "run"} | options
    with pytest.raises(error, match=message):
        preprocessor.fit(change(x), **arguments)
    assert same(weights(preprocessor.purifier), before)
    assert not preprocessor.is_fitted
    assert not preprocessor.purifier.training
    assert not list(tmp_path.iterdir())


def test_purifier_without_training_refuses_to_fit(kit, x):
    preprocessor = PurifierPreprocessor(kit.Mixing(), device_type="cpu")
    with pytest.raises(ValueError, match="'mixing', which has no stages"):
        preprocessor.fit(x)


class Killed(Exception):
    pass


class KillsAt(Apart):
    """A scheduler that ends the process, so to speak, at the end of its epoch."""

    def __init__(self, epoch):
        self.left = epoch

    def step(self):
        self.left -= 1
        if self.left == 0:
            raise Killed


def test_killed_fit_resumes_to_the_same_weights(kit, net, x, tmp_path):
    def fresh(seed):
        torch.manual_seed(seed)
        return small_rdp(kit, features=features_of(net))

    options = {"nb_epochs": 4, "batch_size": 4, "seed": 3}
    unbroken = fresh(0)
    unbroken.fit(x, schedulers=[KillsAt(99)], **options)
    with pytest.raises(Killed):
        fresh(0).fit(x, checkpoint=tmp_path / "run", schedulers=[KillsAt(3)], **options)
    resumed = fresh(1)  # other weights: all that counts is in the file
    torch.manual_seed(9)
    resumed.fit(x, checkpoint=tmp_path / "run", schedulers=[KillsAt(99)], **options)
    assert same(weights(resumed.purifier), weights(unbroken.purifier))
    assert resumed.is_fitted
    assert [f.name for f in tmp_path.iterdir()] == ["run.1"]


def test_checkpoint_of_another_training_is_refused(kit, net, x, tmp_path):
    small_rdp(kit, features=features_of(net)).fit(x, nb_epochs=1, batch_size=4, checkpoint=tmp_path / "run")
    other = small_rdp(kit, features=features_of(net))
    before = weights(other.purifier)
    with pytest.raises(ValueError, match="checkpoint of a training"):
        other.fit(x, nb_epochs=1, batch_size=4, seed=8, checkpoint=tmp_path / "run")
    assert same(weights(other.purifier), before)


@pytest.mark.parametrize("verbose", [True, False])
def test_progress_bar_only_when_verbose(kit, net, x, capsys, verbose):
    small_rdp(kit, features=features_of(net), verbose=verbose).fit(x, nb_epochs=1, batch_size=4)
    out, err = capsys.readouterr()
    assert not out
    assert bool(err) == verbose


# --- the constructor ---


def test_it_is_a_preprocessor_of_art(kit):
    preprocessor = small_rdp(kit, apply_fit=True, apply_predict=False)
    assert isinstance(preprocessor, PreprocessorPyTorch)
    assert (preprocessor.apply_fit, preprocessor.apply_predict, preprocessor.is_fitted) == (True, False, False)
    assert preprocessor.device == torch.device("cpu")
    for name in preprocessor.params:
        assert hasattr(preprocessor, name)
    assert PurifierPreprocessor(kit.Mixing(), device_type="cpu").is_fitted


def test_arguments_reach_the_purifier():
    made = RDPPreprocessor(1, 6, 3, "residual", 2, 0.1, "output", device_type="cpu")
    twin = RDP(1, 6, 3, "residual", fold=2, noise_std=0.1, noise_position="output")
    assert {k: v.shape for k, v in made.purifier.state_dict().items()} == {
        k: v.shape for k, v in twin.state_dict().items()
    }
    assert (made.noise_std, made.noise_position, made.rdp.channels) == (0.1, "output", 1)


@pytest.mark.parametrize("bad", [{"block": "dense"}, {"width": 0}, {"noise_std": -1.0}, {"noise_position": "x"}])
def test_constructor_of_rdp_refuses(kit, bad):
    with pytest.raises(ValueError, match="expected"):
        small_rdp(kit, **bad)


@pytest.mark.gpu
def test_images_come_back_to_the_device_they_came_from(kit, net, x, hot):
    preprocessor = PurifierPreprocessor(kit.Mixing(), device_type="gpu")
    assert next(preprocessor.purifier.parameters()).is_cuda
    out, _ = preprocessor.forward(torch.tensor(x))
    assert out.device.type == "cpu"
    cpu = PurifierPreprocessor(kit.Mixing(), device_type="cpu")
    np.testing.assert_allclose(preprocessor(x)[0], cpu(x)[0], atol=1e-5)
    art = kit.classifier(net, preprocessor)
    expected = kit.classifier(net, cpu).loss_gradient(x, hot)
    np.testing.assert_allclose(art.loss_gradient(x, hot), expected, atol=1e-5)


@pytest.mark.parametrize("device_type", ["cuda", "tpu", "CPU", None, 0])
def test_refuses_an_unknown_device_type(kit, device_type):
    with pytest.raises(ValueError, match="expected device_type as 'cpu' or 'gpu'"):
        PurifierPreprocessor(kit.Mixing(), device_type=device_type)
    with pytest.raises(ValueError, match="expected device_type as 'cpu' or 'gpu'"):
        small_rdp(kit, device_type=device_type)
