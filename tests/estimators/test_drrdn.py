"""DRRDNClassifier is an ART classifier in every respect, and shows its representations in ART's range and layout."""

import pickle

import numpy as np
import pytest
import torch
from art.attacks.evasion import (
    AutoAttack,
    AutoProjectedGradientDescent,
    DeepFool,
    FastGradientMethod,
    ProjectedGradientDescent,
    SquareAttack,
)
from art.defences.trainer import AdversarialTrainer
from art.estimators.classification import PyTorchClassifier
from torch import nn

from art_ext.classifiers.drrdn import DRRDN
from art_ext.defences import PurifierPreprocessor, as_module, as_purifier
from art_ext.estimators import DRRDNClassifier
from art_ext.evaluation import Attack, Defended, Threat, evaluate

N, C, H, W, K, D, F = 5, 3, 6, 8, 4, 7, 24
X = np.random.default_rng(1).uniform(0.02, 0.98, (N, C, H, W)).astype(np.float32)
Y = np.arange(N) % K
HOT = np.eye(K, dtype=np.float32)[Y]


@pytest.fixture(autouse=True)
def _art_data(monkeypatch, tmp_path):
    """ART writes weights to ~/.art when a classifier is copied or pickled."""
    monkeypatch.setattr("art.config.ART_DATA_PATH", str(tmp_path / "art"))


class Encoder(nn.Module):
    """Images in any layout to (N, F); modes matter."""

    def __init__(self, channels_first=True):
        super().__init__()
        self.channels_first = channels_first
        self.conv, self.norm = nn.Conv2d(C, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x):
        x = x if self.channels_first else x.permute(0, 3, 1, 2)
        return nn.functional.adaptive_avg_pool2d(torch.tanh(3 * self.norm(self.conv(x))), (2, 3))


def network(channels_first=True):
    torch.manual_seed(0)
    return DRRDN(Encoder(channels_first), F, K, width=D, hidden=(6,), dropout=0.5, critic_width=8)


def made(kind=DRRDNClassifier, model=None, **options):
    model = model or network(options.get("channels_first", True))
    shape = (C, H, W) if options.get("channels_first", True) else (H, W, C)
    settings = {"clip_values": (0, 1), "device_type": "cpu", "optimizer": torch.optim.SGD(model.parameters(), 0.1)}
    return kind(model, nn.CrossEntropyLoss(), shape, K, **settings | options)


def weights(classifier):
    return {k: v.clone() for k, v in classifier.model.state_dict().items()}


# --- an ART classifier ---

OUTSIDE = [
    {},
    {"clip_values": (0, 255), "channels_first": False, "preprocessing": (100.0, 50.0)},
    {"clip_values": (-1, 1), "preprocessing": (np.full((C, 1, 1), 0.1), np.full((C, 1, 1), 0.4))},
]


def user(options):
    low, high = options.get("clip_values", (0, 1))
    x = X if options.get("channels_first", True) else np.ascontiguousarray(X.transpose(0, 2, 3, 1))
    return (x * (high - low) + low).astype(np.float32)


@pytest.mark.parametrize("options", OUTSIDE, ids=str)
def test_it_answers_as_a_classifier_of_its_class_specific_branch(options):
    model, x = network(options.get("channels_first", True)), user(options)
    plain = nn.Sequential(model.encoder, nn.Flatten(), model.d_s, model.c_s)
    mine, theirs = made(model=model, **options), made(PyTorchClassifier, plain, **options)
    for ask in (
        lambda c: c.predict(x, batch_size=2),
        lambda c: c.loss_gradient(x, HOT),
        lambda c: c.class_gradient(x),
        lambda c: c.class_gradient(x, label=Y),
        lambda c: c.compute_loss(x, HOT),
    ):
        np.testing.assert_allclose(ask(mine), ask(theirs), rtol=1e-4, atol=1e-6)
        assert np.abs(ask(theirs)).max() > 0


def test_what_it_costs_is_the_branch():
    classifier = made()
    called = []
    for part in ("d_i", "c_i", "critic", "reconstructor"):
        getattr(classifier.model, part).register_forward_hook(lambda *_: called.append(1))
    classifier.predict(X)
    classifier.loss_gradient(X, HOT)
    assert not called


def test_fit_trains_the_branch_and_nothing_else():
    classifier = made(optimizer=None)
    classifier._optimizer = torch.optim.Adam(classifier.model.parameters(), 0.01)
    before = weights(classifier)
    loss = classifier.compute_loss(X, HOT).mean()
    classifier.fit(X, HOT, nb_epochs=30, batch_size=N)
    assert classifier.compute_loss(X, HOT).mean() < loss
    moved = {k.split(".")[0] for k, v in weights(classifier).items() if not torch.equal(v, before[k])}
    assert moved == {"encoder", "d_s", "c_s"}


def test_parameters_clone_save_and_pickle(tmp_path):
    classifier = made(preprocessing=(0.1, 0.7))
    assert classifier.get_params()["clip_values"].tolist() == [0, 1]
    classifier.set_params(clip_values=(0, 2))
    assert classifier.clip_values.tolist() == [0, 2]
    classifier.model.critic.log_mean.fill_(3.0)
    clone = classifier.clone_for_refitting()
    assert type(clone) is DRRDNClassifier
    assert clone.model.critic.log_mean.isinf()
    assert clone.clip_values.tolist() == [0, 2]
    for a, b in zip(clone.model.parameters(), classifier.model.parameters(), strict=True):
        assert a.ndim == 1 or not torch.equal(a, b)
    before = clone.predict(X)
    clone.fit(X, HOT, nb_epochs=1)
    assert not np.allclose(clone.predict(X), before)
    classifier.save("net", str(tmp_path))
    other = network()
    other.load_state_dict(torch.load(tmp_path / "net.model"))
    assert torch.equal(other.critic.log_mean, torch.tensor(3.0))
    loaded = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(loaded.predict(X), classifier.predict(X))
    for k, v in classifier.representations(X).items():
        np.testing.assert_array_equal(loaded.representations(X)[k], v)


ATTACKS = {
    "fgm": lambda c: FastGradientMethod(c, eps=0.3),
    "pgd": lambda c: ProjectedGradientDescent(c, eps=0.3, eps_step=0.1, max_iter=4, verbose=False),
    "apgd": lambda c: AutoProjectedGradientDescent(
        c, eps=0.3, eps_step=0.1, max_iter=3, loss_type="cross_entropy", verbose=False
    ),
    "square": lambda c: SquareAttack(c, eps=0.3, max_iter=5, p_init=0.3, verbose=False),
    "autoattack": lambda c: AutoAttack(c, eps=0.3, attacks=[ATTACKS["apgd"](c), DeepFool(c, 3, verbose=False)]),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_arts_attacks(name):
    classifier = made()
    right = classifier.predict(X).argmax(1)
    x_adv = ATTACKS[name](classifier).generate(X, np.eye(K)[right])
    assert 0 < np.abs(x_adv - X).max() <= 0.3 + 1e-6
    labels = np.eye(K, dtype=np.float32)[right]
    assert classifier.compute_loss(x_adv, labels).mean() > classifier.compute_loss(X, labels).mean()


@pytest.mark.parametrize(
    "attack",
    [
        Attack("native", "PGD", {"steps": 3}),
        Attack("torchattacks", "PGD", {"steps": 3, "alpha": 0.2}),
        Attack("autoattack", "custom", {"attacks": ["apgd-ce"]}),
    ],
    ids=lambda a: a.backend,
)
def test_other_libraries_attacks(attack):
    if attack.backend == "torchattacks":
        pytest.importorskip("torchattacks")
    classifier = made()
    defended = Defended.from_art("DRRDN", classifier)
    y = torch.from_numpy(classifier.predict(X).argmax(1))
    report = evaluate(
        [defended], [attack], torch.from_numpy(X), y, threat=Threat("Linf", 0.3), probe=None, progress=False
    )
    (found,) = report.attacked("DRRDN")
    assert found.images == N
    assert not found.refused
    assert found.accuracy.mean < 1
    torch.testing.assert_close(
        as_module(classifier)(torch.from_numpy(X)), torch.from_numpy(classifier.predict(X))
    )  # fmt: skip


def test_inside_arts_adversarial_trainer():
    classifier = made()
    before = weights(classifier)
    AdversarialTrainer(classifier, FastGradientMethod(classifier, eps=0.1), ratio=0.5).fit(
        X, HOT, batch_size=3, nb_epochs=1
    )
    moved = {k.split(".")[0] for k, v in weights(classifier).items() if not torch.equal(v, before[k])}
    assert moved == {"encoder", "d_s", "c_s"}


# --- what is inside ---


@pytest.mark.parametrize("options", OUTSIDE, ids=str)
def test_representations_are_those_of_the_module_whatever_range_and_layout(options):
    classifier, x = made(**options), user(options)
    classifier.model.train()
    found = classifier.representations(x, batch_size=2)
    assert classifier.model.training
    assert {k: (v.shape, v.dtype) for k, v in found.items()} == {
        "z": ((N, F), np.float32), "z_s": ((N, D), np.float32), "z_i": ((N, D), np.float32)
    }  # fmt: skip
    mean, std = options.get("preprocessing", (0.0, 1.0))
    seen = torch.from_numpy(((x - mean) / std).astype(np.float32))
    expected = classifier.model.eval().represent(seen)
    for name, part in expected._asdict().items():
        np.testing.assert_allclose(found[name], part.detach(), rtol=1e-4, atol=1e-5)
    logits = classifier.model.c_s(torch.from_numpy(found["z_s"])).detach()
    np.testing.assert_allclose(logits, classifier.predict(x), rtol=1e-4, atol=1e-5)


def test_preprocessing_defences_come_first():
    purifier = PurifierPreprocessor(as_purifier(lambda x: 1 - x, differentiable=True), device_type="cpu")
    defended, bare = made(preprocessing_defences=purifier), made()
    np.testing.assert_allclose(defended.representations(X)["z"], bare.representations(1 - X)["z"], rtol=1e-4, atol=1e-5)


def test_hybrids_recombine_both_parts():
    classifier, x_adv = made(), np.clip(X + 0.2, 0, 1)
    found = classifier.hybrid(X, x_adv, batch_size=2)
    natural, adversarial = classifier.representations(X), classifier.representations(x_adv)
    for name, (s, i) in {
        "z_s + z_i": (natural, natural),
        "z_s' + z_i": (adversarial, natural),
        "z_s + z_i'": (natural, adversarial),
        "z_s' + z_i'": (adversarial, adversarial),
    }.items():
        parts = torch.from_numpy(s["z_s"]), torch.from_numpy(i["z_i"])
        expected = classifier.model.reconstruct(*parts).detach()
        np.testing.assert_allclose(found.pop(name), expected, rtol=1e-4, atol=1e-5)
    assert not found


def test_activations_are_those_of_what_runs():
    classifier = made()
    classifier.representations(X[:3])  # runs the other parts too
    z = classifier.representations(X)
    np.testing.assert_allclose(classifier.get_activations(X, "d_s", batch_size=2), z["z_s"], atol=1e-5)
    np.testing.assert_allclose(classifier.get_activations(X, "c_s"), classifier.predict(X), atol=1e-5)
    number = classifier.layer_names.index("d_s")
    np.testing.assert_allclose(classifier.get_activations(X, number), z["z_s"], atol=1e-5)
    for layer in ("d_i", "critic", "other", "c_i", 99, None, 3):
        with pytest.raises(ValueError, match="expected layer to be one of encoder, d_s, c_s"):
            classifier.get_activations(X, layer)


def test_wrong_use_is_refused():
    with pytest.raises(TypeError, match="expected a DRRDN, got Linear"):
        made(model=nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"expected adversaries of the shape of x, \(5, 3, 6, 8\), got \(4"):
        made().hybrid(X, X[:4])
    with pytest.raises(ValueError, match="batch_size >= 1, got 5 and 0"):
        made().representations(X, batch_size=0)
    with pytest.raises(ValueError, match="expected images"):
        made().representations(X[:0])
