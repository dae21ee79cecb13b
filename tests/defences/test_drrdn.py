"""DRRDNTrainer: what is trained, the best epoch, early stopping, resuming, and validation through ART's door."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from art.data_generators import NumpyDataGenerator
from art.defences.trainer.trainer import Trainer
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from art_ext.attacks import Linf, ascent, cross_entropy, pgd
from art_ext.classifiers.drrdn import DRRDN, Weights, diagnose
from art_ext.defences import DRRDNTrainer, as_module
from art_ext.estimators import DRRDNClassifier
from art_ext.nn import seeded
from art_ext.objectives.robustness import Robustness

N, C, H, W, K = 10, 2, 4, 6, 3
X = np.random.default_rng(0).random((N, C, H, W), dtype=np.float32)
Y = np.arange(N) % K
ATTACK: dict[str, Any] = {"eps": 0.1, "steps": 1, "step_size": None}
FAST: dict[str, Any] = {"batch_size": 5, "scheduler": ()}
OUTSIDE: dict[str, Any] = {"clip_values": (0, 255), "channels_first": False, "preprocessing": (51.0, 102.0)}


class Encoder(nn.Module):
    def __init__(self, channels_first: bool) -> None:
        super().__init__()
        self.channels_first, self.norm = channels_first, nn.BatchNorm2d(C)
        self.linear = nn.Linear(C * H * W, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.channels_first else x.permute(0, 3, 1, 2)
        out: Tensor = self.linear(self.norm(x).flatten(1)).tanh()
        return out


def made(**options: Any) -> DRRDNClassifier:
    with seeded(0):
        model = DRRDN(Encoder(options.get("channels_first", True)), 6, K, width=5, critic_width=4)
    shape = (C, H, W) if options.get("channels_first", True) else (H, W, C)
    return DRRDNClassifier(
        model, nn.CrossEntropyLoss(), shape, K, **{"clip_values": (0, 1), "device_type": "cpu"} | options
    )


def user(x: np.ndarray, options: dict[str, Any]) -> np.ndarray:
    return (255 * x.transpose(0, 2, 3, 1)).astype(np.float32) if options else x


def weights(classifier: DRRDNClassifier) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in classifier.model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a)


def trained(epochs: int, trainer: dict[str, Any] | None = None, **fit: Any) -> tuple[dict[str, Tensor], DRRDNTrainer]:
    it = DRRDNTrainer(made(), **ATTACK | (trainer or {}))
    it.fit(X, Y, nb_epochs=epochs, **FAST | fit)
    return weights(it.classifier), it


# --- training ---


def test_every_part_is_trained_in_place() -> None:
    classifier = made()
    before, prediction = weights(classifier), classifier.predict(X)
    trainer = DRRDNTrainer(classifier, **ATTACK, printed=("information",))
    assert isinstance(trainer, Trainer)
    trainer.fit(X, np.eye(K)[Y], nb_epochs=2, **FAST)
    moved = {k.split(".")[0] for k, v in weights(classifier).items() if not torch.equal(v, before[k])}
    assert moved == {"encoder", "d_s", "d_i", "c_s", "c_i", "critic", "reconstructor"}
    assert not np.allclose(classifier.predict(X), prediction)
    terms = {f"classifiers/{t}" for t in ("class", "domain")} | {
        f"disentanglers/{t}" for t in ("adversarial", "entropy")
    }
    terms |= {"critic/information", "information/information", "reconstructor/reconstruction", "epoch"}
    assert [set(row) for row in trainer.history] == [terms] * 2
    assert trainer.best_epoch == -1


def test_weights_depend_on_the_seed_alone() -> None:
    first, again, other = (trained(1, {"seed": seed})[0] for seed in (1, 1, 2))
    assert same(first, again)
    assert not same(first, other)


def test_options_reach_the_objective() -> None:
    options: dict[str, Any] = {"eps": 0.2, "steps": 3, "step_size": 0.07}
    weighted = {"weights": {"entropy": 0.5}, "lambda_mi": 2.0, "lambda_rec": 3.0}
    trainer = DRRDNTrainer(made(), **options, **weighted, printed=("entropy",), learning_rate=0.3, weight_decay=0.4)
    objective = trainer.objective
    assert {k: getattr(objective, k) for k in options} == options
    assert objective.weights == Weights(1.0, 1.0, 0.5, 2.0, 3.0)
    assert objective.printed == ("entropy",)
    assert trainer.optimizers["classifiers"].param_groups[0]["lr"] == 0.3
    assert trainer.optimizers["classifiers"].param_groups[0]["weight_decay"] == 0.4
    assert list(DRRDNTrainer(made(), lambda_mi=0, lambda_rec=0).optimizers) == ["classifiers", "disentanglers"]
    both = [DRRDNTrainer(made(), through_encoder=v).optimizers["disentanglers"] for v in (True, False)]
    whole, heads = (sum(p.numel() for p in o.param_groups[0]["params"]) for o in both)
    assert whole - heads == sum(p.numel() for p in trainer.objective.model.encoder.parameters()) > 0
    DRRDNTrainer(made(), eps=33 / 255, steps=33, step_size=1 / 255)  # reaches it, but for rounding
    paper = DRRDNTrainer(made()).objective
    assert (paper.eps, paper.steps, paper.step_size, paper.learning_rate) == (0.3, 40, 0.01, 0.01)


def test_range_layout_and_standardisation_make_no_difference() -> None:
    """The network sees (x - 0.2) / 0.4 of images in [0, 1] both ways."""
    found = []
    for options in ({"preprocessing": (0.2, 0.4)}, OUTSIDE):
        classifier = made(**options)
        inside = {} if options is not OUTSIDE else options
        data = (user(X[:4], inside), Y[:4])
        trainer = DRRDNTrainer(classifier, **ATTACK)
        trainer.fit(user(X, inside), Y, validation_data=data, nb_epochs=2, **FAST)
        found.append((weights(classifier), trainer.history[-1]))
    (first, row), (second, other) = found
    for k, v in first.items():
        torch.testing.assert_close(second[k], v, atol=1e-4, rtol=1e-3, msg=k)
    assert other["validation_robust_accuracy"] == row["validation_robust_accuracy"]


def test_generators() -> None:
    trainer = DRRDNTrainer(made(), **ATTACK)
    before = weights(trainer.classifier)
    trainer.fit_generator(NumpyDataGenerator(X, Y, batch_size=5), validation_data=(X[:4], Y[:4]), nb_epochs=2)
    assert len(trainer.history) == 2
    assert not same(before, weights(trainer.classifier))
    assert trainer.best_epoch in (0, 1)


def test_the_papers_schedule_unless_another_is_given() -> None:
    trainer = trained(20, {"learning_rate": 0.1}, batch_size=10, scheduler=None)[1]
    rates = {k: o.param_groups[0]["lr"] for k, o in trainer.optimizers.items()}
    assert rates.pop("critic") == pytest.approx(1e-6)  # falls at 11, 15, 18 too
    assert list(rates.values()) == pytest.approx([1e-4] * 4)
    trainer = DRRDNTrainer(made(), **ATTACK)
    half = torch.optim.lr_scheduler.StepLR(trainer.optimizers["classifiers"], 1, 0.5)
    trainer.fit(X, Y, nb_epochs=2, batch_size=5, scheduler=half)
    assert trainer.optimizers["classifiers"].param_groups[0]["lr"] == pytest.approx(0.0025)
    assert trainer.optimizers["reconstructor"].param_groups[0]["lr"] == pytest.approx(0.01)


# --- validation ---


def test_what_is_validated() -> None:
    """Each number against one found another way, at weights that do not move."""
    for options in ({}, OUTSIDE):
        classifier = made(**options)
        data = (user(X, options), Y)
        attack: dict[str, Any] = {"eps": 0.2, "steps": 1, "step_size": None}
        trainer = DRRDNTrainer(classifier, **attack, learning_rate=0.0, validation_steps=3, seed=7)
        trainer.objective.critic_rate = 0.0
        trainer.optimizers["critic"].param_groups[0]["lr"] = 0.0
        classifier.model.encoder.norm.momentum = 0.0
        trainer.fit(user(X, options), Y, validation_data=data, nb_epochs=1, batch_size=N)
        module, x, y = as_module(classifier).eval(), torch.from_numpy(X), torch.from_numpy(Y)
        with seeded(7):
            x_adv = pgd(ascent(cross_entropy(module, y)), x, norm=Linf(), eps=0.2, steps=3)
        row = trainer.history[0]
        assert row["validation_accuracy"] == pytest.approx((classifier.predict(data[0]).argmax(1) == Y).mean())
        assert row["validation_robust_accuracy"] == pytest.approx((module(x_adv).argmax(1) == y).float().mean().item())
        found = diagnose(classifier.model, module.enter(x), module.enter(x_adv), y)
        assert {k: row[k] for k in found} == pytest.approx(found, abs=1e-5)


def test_validation_has_no_influence_on_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [0.1, 0.2, 0.3])
    assert same(trained(3)[0], trained(3, validation_data=(X, Y))[0])


def scripted(monkeypatch: pytest.MonkeyPatch, scores: list[float]) -> Iterator[float]:
    """Robust accuracies as they are to come; gives those that have not."""
    left = iter(scores)
    true = Robustness.measure

    def measure(self: Robustness) -> dict[str, float]:
        return true(self) | {"validation_robust_accuracy": next(left)}

    monkeypatch.setattr(Robustness, "measure", measure)
    return left


def test_the_best_epoch_is_kept_the_first_of_equals(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [0.2, 0.6, 0.4, 0.6, 0.1])
    found, trainer = trained(5, validation_data=(X, Y))
    assert trainer.best_epoch == 1
    assert len(trainer.history) == 5
    monkeypatch.undo()
    assert same(found, trained(2)[0])


@pytest.mark.parametrize(("patience", "epochs"), [(1, 3), (2, 4), (3, 6)])
def test_patience(monkeypatch: pytest.MonkeyPatch, patience: int, epochs: int) -> None:
    scripted(monkeypatch, [0.2, 0.6, 0.4, 0.6, 0.7, 0.1])
    trainer = trained(6, {"patience": patience}, validation_data=(X, Y))[1]
    assert len(trainer.history) == epochs


@pytest.mark.parametrize("killed_after", [1, 2, 3])
def test_a_resumed_training_ends_with_the_same_best_state(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, killed_after: int
) -> None:
    scores = [0.2, 0.6, 0.4, 0.5, 0.3]
    scripted(monkeypatch, scores)
    expected = trained(5, validation_data=(X, Y))[0]
    monkeypatch.undo()
    left = scripted(monkeypatch, scores)
    options = {"checkpoint": tmp_path / "state"}
    trained(killed_after, options, validation_data=(X, Y))
    found, trainer = trained(5, options, validation_data=(X, Y))
    assert same(found, expected)
    assert trainer.best_epoch == 1
    assert not list(left)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["state.1", "state.best"]


@pytest.mark.parametrize("batch_size", [5, N])
def test_a_stopped_training_stays_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, batch_size: int) -> None:
    left = scripted(monkeypatch, [0.6, 0.4, 0.9])
    options = {"checkpoint": tmp_path / "state", "patience": 1}
    first, _ = trained(9, options, validation_data=(X, Y), batch_size=batch_size)
    again, trainer = trained(9, options, validation_data=(X, Y), batch_size=batch_size)
    assert same(first, again)
    assert trainer.best_epoch == 0
    assert list(left) == [0.9]
    (tmp_path / "state.best").unlink()
    with pytest.raises(ValueError, match="expected the best state beside the checkpoint"):
        trained(9, options, validation_data=(X, Y), batch_size=batch_size)


@pytest.mark.parametrize("change", ["steps", "images"])
def test_another_validation_does_not_go_on(change: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"checkpoint": tmp_path / "state", "validation_steps": 2}
    trained(1, options, validation_data=(X, Y))
    other = options | ({"validation_steps": 3} if change == "steps" else {})
    trainer = DRRDNTrainer(made(), **ATTACK, **other)
    before = weights(trainer.classifier)
    data = (X, Y) if change == "steps" else (X[::-1].copy(), Y)
    with pytest.raises(ValueError, match="expected a checkpoint whose validation is"):
        trainer.fit(X, Y, nb_epochs=2, validation_data=data, **FAST)
    assert same(before, weights(trainer.classifier))


def test_the_best_epoch_outlives_a_training_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [0.6, 0.2])
    trainer = DRRDNTrainer(made(), **ATTACK)

    class Explodes:
        def __init__(self) -> None:
            self.epochs = 0

        def step(self) -> None:
            self.epochs += 1
            for optimizer in trainer.optimizers.values():
                optimizer.param_groups[0]["lr"] = 1e-2 if self.epochs < 2 else 1e30

    with pytest.raises(FloatingPointError):
        trainer.fit(X, Y, validation_data=(X, Y), nb_epochs=4, batch_size=5, scheduler=Explodes())
    assert trainer.best_epoch == 0
    monkeypatch.undo()
    assert same(trained(1)[0], weights(trainer.classifier))


def test_a_classifier_that_changed_its_range_needs_another_trainer() -> None:
    trainer = DRRDNTrainer(made(), **ATTACK)
    trainer.classifier.set_params(clip_values=(0, 255))
    before = weights(trainer.classifier)
    with pytest.raises(ValueError, match=r"made for, .*: make another trainer"):
        trainer.fit(255 * X, Y, nb_epochs=1, **FAST)
    assert same(before, weights(trainer.classifier))


# --- refused ---


def test_wrong_use_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    classifier = made()
    before = weights(classifier)
    trainer = DRRDNTrainer(classifier, **ATTACK, checkpoint=tmp_path / "state")
    for call, error, match in (
        (lambda: trainer.fit(X, None), ValueError, "expected labels"),
        (lambda: trainer.fit(X, Y + 1), ValueError, "whole numbers"),
        (lambda: trainer.fit(X, Y, validation_data=(X + 1, Y)), ValueError, "expected images in"),
        (
            lambda: trainer.fit(X, Y, validation_data=(X[:, :, 1:], Y)),
            ValueError,
            r"validation images of shape \(N, 2, 4",
        ),
        (lambda: trainer.fit(X, Y, validation_data=(X,)), ValueError, "images and labels, got 1"),
        (lambda: trainer.fit(X[:, :1], Y), ValueError, r"images of shape \(N, 2, 4, 6\), got \(10, 1, 4, 6\)"),
        (lambda: trainer.fit(X, Y, other=1), TypeError, "no further arguments"),
        (lambda: trainer.fit(X, Y, scheduler=3), TypeError, "scheduler with a method step"),
        (lambda: DRRDNTrainer(made(), patience=1).fit(X, Y), ValueError, "validation data where there is patience"),
        (lambda: DRRDNTrainer(made(), patience=0), ValueError, "patience"),
        (lambda: DRRDNTrainer(made(), steps=7), ValueError, "can reach eps=0.3, got 7 steps of 0.01"),
        (lambda: DRRDNTrainer(made(), eps=25.0, step_size=None), ValueError, r"eps in \(0, 1\]"),
        (lambda: DRRDNTrainer(made(), eps=float("nan")), ValueError, r"eps in \(0, 1\]"),
        (lambda: DRRDNTrainer(made(), steps=0, step_size=None), ValueError, "steps >= 1, got eps=0.3, steps=0"),
        (lambda: DRRDNTrainer(made(clip_values=None)), ValueError, "clip_values"),
    ):
        with pytest.raises(error, match=match):
            call()
    plain = PyTorchClassifier(nn.Flatten(), nn.CrossEntropyLoss(), (C, H, W), K, clip_values=(0, 1))
    with pytest.raises(TypeError, match="expected a classifier of a DRRDN, got one of Flatten"):
        DRRDNTrainer(plain)
    assert same(before, weights(classifier))
    assert not list(itertools.chain(tmp_path.iterdir()))
