"""Every public method that PyTorchClassifier has gives from our estimators what it gives from ART's, by shape."""

import inspect

import numpy as np
import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from torch import nn

from art_ext.classifiers.drrdn import DRRDN
from art_ext.defences import PurifierPreprocessor
from art_ext.estimators import DRRDNClassifier, EOTClassifier
from art_ext.purifiers import Purifier

N, C, H, W, K = 5, 3, 6, 8, 4
X = np.random.default_rng(1).uniform(0.02, 0.98, (N, C, H, W)).astype(np.float32)
LABELS = np.arange(N) % K
HOT = np.eye(K, dtype=np.float32)[LABELS]


class Noisy(Purifier):
    name, paper, stochastic = "noisy", "", True

    def purify(self, x):
        return x + 0.1 * torch.randn_like(x)


def net():
    return nn.Sequential(nn.Conv2d(C, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(6 * H * W, K)).eval()


def drrdn():
    encoder = nn.Sequential(nn.Conv2d(C, 4, 3, padding=1), nn.AdaptiveAvgPool2d((2, 3)), nn.Flatten())
    return DRRDN(encoder, 24, K, width=7, hidden=(6,), critic_width=8)


def classifier(kind=PyTorchClassifier, model=None, **options):
    model = model or net()
    settings = {"clip_values": (0, 1), "device_type": "cpu", "optimizer": torch.optim.SGD(model.parameters(), 0.1)}
    return kind(model, nn.CrossEntropyLoss(), (C, H, W), K, **settings | options)


def eot(**options):
    noisy = PurifierPreprocessor(Noisy(), device_type="cpu")
    return EOTClassifier(classifier(preprocessing_defences=noisy), 3, **options)


MADE = {
    "eot": eot,
    "eot in pieces": lambda: eot(at_once=N),
    "eot of logits": lambda: eot(average="logits"),
    "eot of drrdn": lambda: EOTClassifier(classifier(DRRDNClassifier, drrdn()), 3),
    "drrdn": lambda: classifier(DRRDNClassifier, drrdn()),
}


def distance(difference, p):
    return torch.linalg.vector_norm(difference, ord=p)


ASKED = {
    "predict": lambda c: c.predict(X, batch_size=2),
    "class_gradient": lambda c: [c.class_gradient(X, label=label) for label in (None, 2, LABELS)],
    "loss_gradient": lambda c: [c.loss_gradient(X, HOT), c.loss_gradient(torch.tensor(X), torch.tensor(HOT))],
    "compute_loss": lambda c: [
        c.compute_loss(X, y, reduction=reduction) for y in (HOT, LABELS) for reduction in ("none", "mean", "sum")
    ],
    "compute_losses": lambda c: [c.compute_losses(X, HOT, reduction=reduction) for reduction in ("none", "mean")],
    "compute_loss_from_predictions": lambda c: c.compute_loss_from_predictions(c.predict(X), HOT),
    "custom_loss_gradient": lambda c: c.custom_loss_gradient(distance, X, X[::-1].copy(), c.layer_names[-1]),
    "get_activations": lambda c: (
        [c.get_activations(X, layer, 2) for layer in (c.layer_names[-1], len(c.layer_names) - 1)]
        + [c.get_activations(X, c.layer_names[-1], N, framework=True)]
    ),
    "get_params": lambda c: sorted(c.get_params().keys() & PyTorchClassifier.estimator_params),
    "set_params": lambda c: c.set_params(clip_values=(0, 2)),
    "reduce_labels": lambda c: [c.reduce_labels(HOT), c.reduce_labels(torch.tensor(HOT))],
    "set_batchnorm": lambda c: c.set_batchnorm(train=False),
    "set_dropout": lambda c: c.set_dropout(train=False),
    "set_multihead_attention": lambda c: c.set_multihead_attention(train=False),
}
SEEN_ELSEWHERE = {"fit", "fit_generator", "reset", "clone_for_refitting", "save"}
"""Refused by EOTClassifier; test_eot.py and test_drrdn.py ask them."""


def shape(value):
    if isinstance(value, np.ndarray | torch.Tensor | np.generic):
        return type(value).__name__, tuple(value.shape), str(value.dtype)
    if isinstance(value, list | tuple):
        return [shape(v) for v in value]
    return {k: shape(v) for k, v in value.items()} if isinstance(value, dict) else value


def ask(name, made):
    try:
        return shape(ASKED[name](made))
    except NotImplementedError as error:
        return str(error)


def test_no_method_is_forgotten():
    public = {name for name, value in inspect.getmembers(PyTorchClassifier, callable) if not name.startswith("_")}
    assert public == ASKED.keys() | SEEN_ELSEWHERE


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize("name", ASKED)
def test_shapes_are_those_of_art(name, kind):
    assert ask(name, MADE[kind]()) == ask(name, classifier())


@pytest.mark.parametrize("kind", MADE)
def test_every_layer_that_is_named_has_activations_of_its_own_shape(kind):
    made = MADE[kind]()
    assert made.layer_names
    for number, layer in enumerate(made.layer_names):
        torch.manual_seed(0)
        by_name = made.get_activations(X, layer)
        torch.manual_seed(0)
        assert np.array_equal(by_name, made.get_activations(X, number))
        assert by_name.shape[0] == N
        assert made.get_activations(X, layer, framework=True).requires_grad is (kind in {"drrdn"})


def test_activations_are_means_over_the_samples():
    made = eot()
    plain = made.model.module.model
    torch.manual_seed(0)
    found = made.get_activations(X, "0")
    torch.manual_seed(0)
    noise = torch.randn(3 * N, C, H, W)
    seen = (torch.tensor(X).repeat(3, 1, 1, 1) + 0.1 * noise).clamp(0, 1)
    expected = plain[0](seen).view(3, N, 6, H, W).mean(0)
    assert np.allclose(found, expected.detach().numpy(), atol=1e-6)
    assert not any(m._forward_hooks for m in plain.modules())
    images = torch.tensor(X, requires_grad=True)
    tensor = made.get_activations(images, "3", framework=True)
    assert torch.autograd.grad(tensor.sum(), images)[0].abs().max() > 0


def test_a_layer_that_is_not_there():
    for layer in ("4", 4, -1):
        with pytest.raises(ValueError, match="expected layer to be one of"):
            eot().get_activations(X, layer)
    with pytest.raises(TypeError, match="expected layer as a name or a number, got None"):
        eot().get_activations(X)


def test_the_old_spelling_of_eot_samples():
    with pytest.warns(DeprecationWarning, match="called eot_samples now"):
        made = EOTClassifier(classifier(), draws=2)
    assert made.draws == made.eot_samples == made.model.eot_samples == 2
    with pytest.warns(DeprecationWarning, match="called eot_samples now"):
        made.set_params(draws=7)
    assert made.draws == made.eot_samples == made.model.eot_samples == 7


def test_repr_says_what_an_art_classifier_says_and_the_rest():
    ours, arts = repr(eot()), repr(classifier())
    assert ours.startswith("art_ext.estimators.eot.EOTClassifier(model=")
    assert ours.endswith("eot_samples=3, average='gradients', at_once=None)")
    for part in ("loss=CrossEntropyLoss()", "input_shape=(3, 6, 8), nb_classes=4", "clip_values=array([0., 1.]"):
        assert part in ours
        assert part in arts
