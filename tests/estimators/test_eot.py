"""EOT inside ART: what is averaged, that nothing changes without randomness, and that ART's attacks run on it."""

import copy
import pickle

import numpy as np
import pytest
import torch
from art.attacks.evasion import (
    AutoAttack,
    AutoProjectedGradientDescent,
    CarliniL2Method,
    HopSkipJump,
    ProjectedGradientDescentPyTorch,
    SquareAttack,
)
from art.defences.preprocessor import JpegCompression, LabelSmoothing
from art.estimators.classification import PyTorchClassifier
from torch import nn

from art_ext.defences import PurifierPreprocessor, as_purifier
from art_ext.estimators import EOTClassifier
from art_ext.nn import seeded
from art_ext.purifiers import Purifier

N, C, H, W, K = 5, 3, 6, 8, 4
BATCH_LOSS = {"mean": 1.0, "sum": N, "none": N}


class Noisy(Purifier):
    """Multiplies by noise, so that the gradient is random too."""

    name, paper, stochastic = "noisy", "", True

    def __init__(self, std=0.3):
        super().__init__()
        self.std = std
        self.weight = nn.Parameter(torch.ones(1))

    def purify(self, x):
        return 0.5 * x * (1 + self.std * torch.randn_like(x)) * self.weight


class Smooth(Purifier):
    name, paper = "smooth", ""

    def purify(self, x):
        return 0.1 + 0.5 * x**2 + 0.2 * x.roll(1, 3)


class Net(nn.Module):
    """What an ART classifier hands to its model, in any layout, to logits (N, K); modes matter."""

    def __init__(self, channels_first=True):
        super().__init__()
        self.channels_first = channels_first
        self.conv = nn.Conv2d(C, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(6 * 4, K)

    def forward(self, x):
        x = x if self.channels_first else x.permute(0, 3, 1, 2)
        hidden = torch.tanh(self.norm(self.conv(x)))
        return self.head(self.drop(nn.functional.adaptive_avg_pool2d(hidden, 2).flatten(1)))


@pytest.fixture(autouse=True)
def _art_data(monkeypatch, tmp_path):
    """ART writes weights to ~/.art when a classifier is copied or pickled."""
    monkeypatch.setattr("art.config.ART_DATA_PATH", str(tmp_path / "art"))


@pytest.fixture
def x():
    """(N, C, H, W) in [0, 1]."""
    return np.random.default_rng(1).uniform(0.02, 0.98, (N, C, H, W)).astype(np.float32)


@pytest.fixture
def hot():
    return np.eye(K, dtype=np.float32)[np.arange(N) % K]


def plain(*defences, clip_values=(0, 1), channels_first=True, preprocessing=(0.0, 1.0), loss=None, model=None):
    wrapped = [
        PurifierPreprocessor(d, clip_values, channels_first, device_type="cpu") if isinstance(d, Purifier) else d
        for d in defences
    ]
    return PyTorchClassifier(
        model or Net(channels_first).eval(), loss or nn.CrossEntropyLoss(),
        (C, H, W) if channels_first else (H, W, C), K, clip_values=clip_values, channels_first=channels_first,
        preprocessing=preprocessing, preprocessing_defences=wrapped or None, device_type="cpu",
    )  # fmt: skip


def outside(x, clip_values, channels_first):
    low, high = clip_values
    x = x if channels_first else np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    return (x * (high - low) + low).astype(np.float32)


# --- without randomness it is the classifier that it wraps ---

SETTINGS = [
    ((0, 1), True, (0.0, 1.0)),
    ((0, 255), False, (0.4, 0.3)),
    ((-1, 1), True, (np.array([0.1, 0.2, 0.3]), np.array([0.4, 0.5, 0.6]))),
]


@pytest.mark.parametrize("average", ["gradients", "logits"])
@pytest.mark.parametrize(("clip_values", "channels_first", "preprocessing"), SETTINGS)
def test_a_deterministic_classifier_is_unchanged(clip_values, channels_first, preprocessing, average, x, hot):
    if isinstance(preprocessing[0], np.ndarray) and channels_first:
        preprocessing = tuple(p.reshape(C, 1, 1) for p in preprocessing)
    settings = {"clip_values": clip_values, "channels_first": channels_first, "preprocessing": preprocessing}
    wrapped = plain(Smooth(), Smooth(), **settings)
    eot = EOTClassifier(wrapped, 3, average, at_once=2 * N)
    x = outside(x, clip_values, channels_first)
    label = np.arange(N) % K
    for ask in (
        lambda c: c.predict(x, batch_size=2),
        lambda c: c.loss_gradient(x, hot),
        lambda c: c.class_gradient(x),
        lambda c: c.class_gradient(x, label=2),
        lambda c: c.class_gradient(x, label=label),
        lambda c: c.compute_loss(x, hot),
        lambda c: c.compute_loss(x, label, reduction="mean"),
    ):
        expected, found = ask(wrapped), ask(eot)
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        assert np.abs(expected).max() > 0
        assert np.allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    for name in ("input_shape", "nb_classes", "channels_first", "device", "device_type", "loss"):
        assert getattr(eot, name) == getattr(wrapped, name)
    assert np.array_equal(eot.clip_values, wrapped.clip_values)


@pytest.mark.parametrize("at_once", [None, N, 2 * N])
@pytest.mark.parametrize("average", ["gradients", "logits"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_every_reduction_keeps_its_scale(reduction, average, at_once, x, hot):
    weights = torch.tensor([0.2, 0.5, 1.0, 2.0])  # the mean of ART's loss is a weighted one
    loss = nn.CrossEntropyLoss(weight=weights, reduction=reduction, label_smoothing=0.1)
    wrapped = plain(Smooth(), loss=loss)
    found = EOTClassifier(wrapped, 5, average, at_once).loss_gradient(x, hot)
    images = torch.tensor(x, requires_grad=True)
    total = loss(wrapped.model(Smooth()(images)), torch.arange(N) % K).sum()  # ART refuses "none"
    expected = torch.autograd.grad(total, images)[0].numpy()
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-6)
    if reduction != "none":
        assert np.allclose(found, wrapped.loss_gradient(x, hot), rtol=1e-4, atol=1e-6)


def test_tensors_in_tensors_out(x, hot):
    wrapped = plain(Smooth())
    eot = EOTClassifier(wrapped, 3)
    images = torch.tensor(x)
    found = eot.loss_gradient(images, torch.tensor(hot))
    assert isinstance(found, torch.Tensor)
    assert not images.requires_grad
    images.requires_grad_()
    assert not found.requires_grad
    assert np.allclose(found.numpy(), wrapped.loss_gradient(x, hot), atol=1e-6)
    loss = eot.compute_loss(images, torch.tensor(hot), reduction="mean")
    assert torch.allclose(torch.autograd.grad(loss, images)[0], found, atol=1e-6)  # ART's own has no gradient here


def test_soft_labels_and_a_loss_that_art_does_not_know(x):
    soft = np.random.default_rng(2).dirichlet(np.ones(K), N).astype(np.float32)
    for loss in (nn.CrossEntropyLoss(), nn.MSELoss()):
        wrapped = plain(Smooth(), loss=loss)
        found, expected = EOTClassifier(wrapped, 2).loss_gradient(x, soft), wrapped.loss_gradient(x, soft)
        assert np.allclose(found, expected, rtol=1e-4, atol=1e-6)


# --- what is averaged ---


def test_the_variance_of_predictions_falls_with_the_draws(x):
    wrapped = plain(Noisy())

    def variance(classifier):
        return np.var([classifier.predict(x) for _ in range(300)], axis=0).mean()

    ratio = variance(wrapped) / variance(EOTClassifier(wrapped, 10))
    assert 8 < ratio < 12.5


def independent(wrapped, x, hot, draws, seed):
    """Logits (draws, N, K), and per draw the gradient of the mean cross-entropy, from ART's plain classifier."""
    logits, gradients = [], []
    with seeded(seed):
        noise = torch.randn(draws, *x.shape)
    for one in noise:
        images = torch.tensor(x, requires_grad=True)
        purified = (0.5 * images * (1 + 0.3 * one)).clamp(0, 1)
        logits.append(wrapped.model(purified))
        loss = nn.functional.cross_entropy(logits[-1], torch.tensor(hot).argmax(1))
        gradients.append(torch.autograd.grad(loss, images)[0].numpy())
    return torch.stack(logits).detach().numpy(), gradients


def test_gradients_are_the_mean_of_the_draws_own(x, hot):
    wrapped = plain(Noisy())
    logits, gradients = independent(wrapped, x, hot, 6, seed=5)
    eot = EOTClassifier(wrapped, 6)
    with seeded(5):
        found = eot.loss_gradient(x, hot)
    assert np.allclose(found, np.mean(gradients, 0), atol=1e-6)
    with seeded(5):
        mean_logits = eot.model(torch.tensor(x)).detach().numpy()  # `predict` has a DataLoader, which draws a seed
    assert np.allclose(mean_logits, logits.mean(0), atol=1e-5)
    losses = -np.log(
        np.take_along_axis(np.exp(logits), hot.argmax(1)[None, :, None], 2)[..., 0] / np.exp(logits).sum(2)
    )
    with seeded(5):
        assert np.allclose(eot.compute_loss(x, hot), losses.mean(0), atol=1e-5)
    with seeded(5):
        at_mean_logits = EOTClassifier(wrapped, 6, "logits").loss_gradient(x, hot)
    assert np.abs(at_mean_logits - found).max() > 100 * np.abs(np.mean(gradients, 0) - found).max()


def test_pieces_make_the_whole(x, hot):
    """One draw a pass consumes the noise in the order of one pass for all."""
    wrapped = plain(Noisy())
    for average in ("gradients", "logits"):
        for ask in (
            lambda c: c.loss_gradient(x, hot),
            lambda c: c.class_gradient(x),
            lambda c: c.predict(x),
            lambda c: c.compute_loss(x, hot),
        ):
            outs = []
            for at_once in (None, 1):
                with seeded(2):
                    outs.append(ask(EOTClassifier(wrapped, 4, average, at_once)))
            assert np.allclose(*outs, rtol=1e-4, atol=1e-6)


def test_logits_are_averaged_before_the_loss(x, hot):
    """The gradient at mean logits, from class gradients: sum over classes of (softmax - hot) times their gradient."""
    wrapped = plain(Noisy())
    eot = EOTClassifier(wrapped, 6, "logits")
    outs = []
    for ask in (
        lambda: eot.model(torch.tensor(x)).detach().numpy(),
        lambda: eot.class_gradient(x),
        lambda: eot.loss_gradient(x, hot),
    ):
        with seeded(5):
            outs.append(ask())
    logits, per_class, found = outs
    share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - hot
    assert np.allclose(found, np.einsum("nk,nkchw->nchw", share, per_class) / N, atol=1e-6)


def test_every_call_draws_anew(x, hot):
    eot = EOTClassifier(plain(Noisy()), 2)
    assert not np.allclose(eot.predict(x), eot.predict(x))
    assert not np.allclose(eot.loss_gradient(x, hot), eot.loss_gradient(x, hot))
    copies = np.repeat(x[:1], 3, 0)
    assert not np.allclose(*eot.predict(copies)[:2])


# --- nothing is left behind, nothing is trained ---


def test_leaves_no_trace(x, hot):
    wrapped = plain(Noisy())
    purifier = wrapped.preprocessing_defences[0].purifier
    before = copy.deepcopy(wrapped.model.state_dict())
    wrapped.model.head.weight.grad = torch.ones_like(wrapped.model.head.weight)
    eot = EOTClassifier(wrapped, 2)
    given = x.copy()
    eot.loss_gradient(x, hot, training_mode=False)
    eot.predict(x)
    assert torch.equal(wrapped.model.head.weight.grad, torch.ones(K, 24))
    wrapped.model.head.weight.grad = None
    eot.class_gradient(x)
    assert eot.compute_loss(x, hot, reduction="sum").shape == ()
    assert wrapped.loss.reduction == "mean"
    AutoProjectedGradientDescent(
        eot, eps=0.1, eps_step=0.05, max_iter=2, nb_random_init=1, loss_type="cross_entropy", verbose=False
    ).generate(x, hot)
    assert np.array_equal(x, given)
    assert all(p.grad is None for p in [*wrapped.model.parameters(), *purifier.parameters()])
    assert all(p.requires_grad for p in wrapped.model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in wrapped.model.state_dict().items())


def test_training_mode_is_the_networks_alone(x, hot):
    wrapped = plain(Noisy())
    eot = EOTClassifier(wrapped, 2)
    eot.loss_gradient(x, hot, training_mode=True)
    assert wrapped.model.drop.training
    assert not wrapped.preprocessing_defences[0].purifier.training
    eot.loss_gradient(x, hot)
    assert not wrapped.model.drop.training


def test_the_purifier_is_out_of_the_reach_of_a_reset():
    wrapped = plain(as_purifier(nn.Conv2d(C, C, 1)))
    purifier = wrapped.preprocessing_defences[0].purifier
    before = copy.deepcopy(purifier.state_dict())
    eot = EOTClassifier(wrapped, 2)
    for refused in (eot.reset, eot.clone_for_refitting, lambda: eot.fit(None, None), lambda: eot.fit_generator(None)):
        with pytest.raises(NotImplementedError, match="train the classifier that it wraps"):
            refused()
    assert torch.equal(eot.model.module.model.head.weight, wrapped.model.head.weight)
    PyTorchClassifier(eot.model, nn.CrossEntropyLoss(), (C, H, W), K, device_type="cpu").reset()
    assert all(torch.equal(v, before[k]) for k, v in purifier.state_dict().items())


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))], ids=["copy", "pickle"])
def test_copies(copier, x, hot):
    eot = EOTClassifier(plain(Noisy()), 3, "logits", 7)
    twin = copier(eot)
    assert (twin.eot_samples, twin.average, twin.at_once) == (3, "logits", 7)
    for ask in (lambda c: c.predict(x), lambda c: c.loss_gradient(x, hot)):
        outs = []
        for one in (eot, twin):
            with seeded(0):
                outs.append(ask(one))
        assert np.allclose(*outs, atol=1e-6)


def test_parameters():
    eot = EOTClassifier(plain(Noisy()), 3)
    assert {k: eot.get_params()[k] for k in ("eot_samples", "average", "at_once")} == {
        "eot_samples": 3, "average": "gradients", "at_once": None,
    }  # fmt: skip
    eot.set_params(eot_samples=7, at_once=11)
    assert (eot.draws, eot.model.draws, eot.model.at_once) == (7, 7, 11)
    with pytest.raises(ValueError, match="on the wrapped classifier"):
        eot.set_params(preprocessing_defences=PurifierPreprocessor(Noisy(), device_type="cpu"))


@pytest.mark.parametrize("options", [{"eot_samples": 0}, {"average": "labels"}, {"at_once": 0}])
def test_bad_options(options):
    with pytest.raises(ValueError, match="expected"):
        EOTClassifier(plain(Noisy()), **options)


def test_what_it_cannot_wrap():
    with pytest.raises(TypeError, match="expected an ART PyTorchClassifier, got Conv2d"):
        EOTClassifier(nn.Conv2d(C, C, 1))
    jpeg = JpegCompression((0, 1), 50, channels_first=True)
    with pytest.raises(ValueError, match=r"got JpegCompression: wrap it as PurifierPreprocessor\(as_purifier"):
        EOTClassifier(plain(jpeg))
    flat = PyTorchClassifier(nn.Linear(3, 2), nn.CrossEntropyLoss(), (3,), 2, device_type="cpu")
    with pytest.raises(ValueError, match=r"3 axes, got input_shape \(3,\)"):
        EOTClassifier(flat)
    EOTClassifier(plain(LabelSmoothing()))  # acts on fit alone


def test_a_numpy_defence_wrapped_as_the_error_says(x, hot):
    jpeg = as_purifier(JpegCompression((0, 1), 50, channels_first=True))
    eot = EOTClassifier(plain(jpeg, Noisy()), 4)
    assert (np.abs(eot.loss_gradient(x, hot)).reshape(N, -1).max(1) > 0).all()


# --- ART's attacks ---


def apgd(loss_type):
    return lambda c: AutoProjectedGradientDescent(
        c, eps=0.3, eps_step=0.1, max_iter=4, nb_random_init=1, loss_type=loss_type, verbose=False
    )


def square(c):
    return SquareAttack(c, eps=0.3, max_iter=10, p_init=0.3, verbose=False)


ATTACKS = {
    "pgd": lambda c: ProjectedGradientDescentPyTorch(c, eps=0.3, eps_step=0.1, max_iter=4, verbose=False),
    "apgd": apgd(None),
    "apgd ce": apgd("cross_entropy"),
    "apgd dlr": apgd("difference_logits_ratio"),
    "autoattack": lambda c: AutoAttack(c, eps=0.3, attacks=[apgd("cross_entropy")(c), square(c)]),
    "carlini": lambda c: CarliniL2Method(c, max_iter=5, binary_search_steps=2, initial_const=10, verbose=False),
    "square": square,
    "hopskipjump": lambda c: HopSkipJump(c, max_iter=1, max_eval=20, init_eval=5, init_size=50, verbose=False),
}


def linear(channels_first=True):
    """Left against right, and the images of either; 0.2 of contrast, so an Linf radius of 0.3 is enough."""
    weight = torch.zeros(K, C, H, W)
    weight[0, ..., : W // 2], weight[1, ..., W // 2 :] = 0.1, 0.1
    weight = weight if channels_first else weight.permute(0, 2, 3, 1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(C * H * W, K))
    model[1].weight.data, model[1].bias.data = weight.flatten(1).clone(), torch.tensor([0.0, 0.0, -9.0, -9.5])
    x = np.full((8, C, H, W), 0.4, np.float32)
    x[::2, ..., : W // 2] += 0.2
    x[1::2, ..., W // 2 :] += 0.2
    return model, outside(x, (0, 1), channels_first), np.arange(8) % 2


@pytest.mark.parametrize("channels_first", [True, False])
@pytest.mark.parametrize("name", ATTACKS)
def test_arts_attacks_run(name, channels_first):
    model, x, y = linear(channels_first)
    wrapped = plain(Noisy(0.05), model=model, channels_first=channels_first)
    assert (wrapped.predict(x).argmax(1) == y).all()
    x_adv = ATTACKS[name](EOTClassifier(wrapped, 4)).generate(x, y)
    assert (x_adv.shape, x_adv.dtype) == (x.shape, np.float32)
    assert 0 <= x_adv.min() <= x_adv.max() <= 1
    assert (np.abs(x_adv - x).reshape(len(x), -1).max(1) > 0).all()
    if name not in {"carlini", "hopskipjump"}:  # these look for the smallest change, whatever its size
        assert np.abs(x_adv - x).max() <= 0.3 + 1e-6
    if name in {"pgd", "apgd", "apgd ce", "apgd dlr", "autoattack"}:
        assert (wrapped.predict(x_adv).argmax(1) != y).all()


def test_apgd_without_a_loss_type_gets_the_gradients_of_the_draws(monkeypatch):
    model, x, y = linear()
    eot = EOTClassifier(plain(Noisy(), model=model), 2)
    asked = []
    original = eot.loss_gradient
    monkeypatch.setattr(eot, "loss_gradient", lambda *a, **k: asked.append(1) or original(*a, **k))
    ATTACKS["apgd"](eot).generate(x, y)
    assert asked
    asked.clear()
    ATTACKS["apgd ce"](eot).generate(x, y)  # has a classifier of its own, of the same model
    assert not asked
