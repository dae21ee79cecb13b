"""Training from files: the purifier that comes out is the one that Python would have trained, kills lose nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from art_ext.classifiers import SmallDRRDN
from art_ext.cli.classifiers import load_classifier
from art_ext.cli.code import code
from art_ext.cli.methods import method_of, methods
from art_ext.nn import FeatureExtractor, seeded
from art_ext.purifiers import PURIFIERS, RDP
from art_ext.training import Batches, Objective, fit
from art_ext.training import loop as training_loop

TINY = ("--width", 2, "--blocks", 2, "--block", "residual", "--fold", 2, "--steps", 1, "--eps", "8/255")
USUAL = ("--epochs", 2, "--batch-size", 5, "--device", "cpu", "--seed", 2, *TINY)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return RDP.from_pretrained(folder).state_dict()


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def command(files: Any) -> tuple[Any, ...]:
    layer = ("--features-layer", "features.1")
    return ("train", "rdp", "--data", files.npz, "--classifier", files.spec("layered"), *layer, *USUAL)


@pytest.fixture(scope="module")
def trained(call: Any, command: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out: Path = tmp_path_factory.mktemp("trained") / "rdp"
    shown = call(*command, "--out", out)
    assert "epoch 2/2: restorers/feature" in shown.stderr
    return out


def test_it_is_what_python_trains(files: Any, trained: Path) -> None:
    features = FeatureExtractor(code(files.spec("layered"))(), "features.1")
    with seeded(2):  # with 0 every unit of so small a network is dead
        purifier = RDP(channels=1, width=2, blocks=2, block="residual", fold=2)
    with seeded(2):  # the reconstructor is new, too
        (objective,) = purifier.stages(features=features, eps=8 / 255, steps=1)
    for _ in fit(objective, Batches(files.x.float() / 255, files.y, batch_size=5, seed=2), epochs=2, seed=2):
        pass
    assert equal(weights(trained), purifier.state_dict())
    assert {p.name for p in trained.iterdir()} >= {"config.json", "model.safetensors", "training.pt.1", "training.json"}
    assert json.loads((trained / "training.json").read_text())["method"] == "rdp"


@pytest.mark.parametrize("stop_after", [0, 1, 4])
def test_a_killed_training_goes_on(
    call: Any, command: Any, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    steps: list[int] = []
    honest = training_loop._Run.step

    def counted(self: Any, *batch: Any) -> dict[str, float]:
        if len(steps) == stop_after:
            raise KeyboardInterrupt
        steps.append(self.steps)
        return honest(self, *batch)

    monkeypatch.setattr(training_loop._Run, "step", counted)
    assert "the same command goes on" in call(*command, "--out", tmp_path / "rdp", code=130).stderr
    monkeypatch.setattr(training_loop._Run, "step", honest)
    assert ("going on" in call(*command, "--out", tmp_path / "rdp").stdout) == (stop_after >= 3)  # saved each epoch
    assert equal(weights(tmp_path / "rdp"), weights(trained))


def test_a_folder_of_images_gives_its_channels(call: Any, files: Any, tmp_path: Path) -> None:
    arguments = ("--classifier", files.spec("layered"), "--epochs", 1, *TINY, "--set", "encoder_blocks=2")
    call("train", "rdp", "--data", files.folder, *arguments, "--out", tmp_path / "rdp")
    config = json.loads((tmp_path / "rdp" / "config.json").read_text())
    assert (config["channels"], config["encoder_blocks"], config["width"], config["fold"]) == (1, 2, 2, 2)


def test_labels_are_not_needed(call: Any, files: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "bare.npz", x=files.x.numpy())
    arguments = ("--classifier", files.spec("make"), "--epochs", 1, *TINY, "--out", tmp_path / "rdp")
    call("train", "rdp", "--data", tmp_path / "bare.npz", *arguments)


def test_another_training_in_the_folder_is_refused(
    refused: Any, changed: Any, command: Any, trained: Path, tmp_path: Path
) -> None:
    before = weights(trained)
    assert "other tuning" in refused(*changed(command, "--eps", 0.1), "--out", trained)
    assert "other seed" in refused(*changed(command, "--seed", 1), "--out", trained)
    assert equal(before, weights(trained))
    (tmp_path / "mine.txt").write_text("mine")
    assert "new, empty" in refused(*command, "--out", tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("--features-layer", "features.7"), "did you mean 'features.1'?"),
        (("--set", "widht=3"), "did you mean 'width'?"),
        (("--set", "width"), "key=value"),
        (("--block", "rbd"), "one of rrdb, residual"),
        (("--fold", "5"), "the purifier to take images"),
        (("--set", "channels=3"), "3 channel(s), what the purifier takes, got 1"),
        (("--eps", "2"), "eps in (0, 1]"),
        (("--eps", "much"), "a fraction such as 8/255"),
        (("--data", "missing.npz"), "not there"),
        (("--keys", "a,b"), "got keys: x, y"),
        (("--keys", "x"), "IMAGES,LABELS"),
        (("--channels", "3"), "with a folder"),
        (("--device", "cuda:99"), "a device that is there"),
        (("--mean", "0.5"), "--mean and --std together"),
    ],
)
def test_refused_before_anything_is_written(
    refused: Any, changed: Any, command: Any, tmp_path: Path, changes: tuple[str, str], message: str
) -> None:
    assert message in refused(*changed(command, *changes), "--out", tmp_path / "rdp")
    assert not (tmp_path / "rdp").exists()


DIR_SHAPE = ("--width", 8, "--set", "heads=2", "--set", "depth=1", "--set", "decoder_depth=1")
ATOP_SHAPE = ("--width", 4, "--set", "dilations=[1]", "--set", "grid=4")


@pytest.mark.parametrize(
    ("method", "shape", "rates"),
    [
        ("dir", DIR_SHAPE, {"pretraining_rate": 0.02, "learning_rate": 0.01}),
        ("atop", ATOP_SHAPE, {"learning_rate": 0.01}),
    ],
)
def test_methods_of_two_stages(
    call: Any, files: Any, tmp_path: Path, method: str, shape: tuple[Any, ...], rates: dict[str, float]
) -> None:
    out = tmp_path / method
    settings = [word for k, v in rates.items() for word in ("--set", f"{k}={v}")]
    shown = call(
        "train", method, "--data", files.npz, "--classifier", files.spec("layered"), "--epochs", 1, *shape, "--eps",
        "0.1", "--steps", 1, *settings, "--device", "cpu", "--out", out,
    )  # fmt: skip
    assert shown.stderr.count("epoch 1/1") == 2
    assert json.loads((out / "training.json").read_text())["tuning"] == {"eps": 0.1, "steps": 1, **rates}
    assert {p.name for p in out.iterdir()} >= {"config.json", "model.safetensors", "training.pt.1", "training.pt.2"}
    assert PURIFIERS[method].from_pretrained(out).channels == 1


@pytest.mark.parametrize("game", [False, True])
def test_cdvae_fits_the_images_and_trains_the_classifier_only_in_the_game(
    call: Any, files: Any, tmp_path: Path, game: bool
) -> None:
    out, data = tmp_path / "cdvae", tmp_path / "larger.npz"
    np.savez(data, x=np.pad(files.x.numpy(), ((0, 0), (0, 0), (0, 2), (0, 4)), mode="edge"), y=files.y.numpy())
    more = ("--set", "game=true", "--eps", "0.1", "--steps", 1) if game else ()
    shown = call(
        "train", "cdvae", "--data", data, "--classifier", files.spec("make"), "--epochs", 1, "--width", 4,
        "--set", "gamma=0.5", "--set", "classifier_width=4", *more, "--device", "cpu", "--out", out,
    )  # fmt: skip
    config = json.loads((out / "config.json").read_text())
    assert (config["size"], config["classes"], config["channels"]) == ([8, 12], 4, 1)
    record = json.loads((out / "training.json").read_text())
    assert record["tuning"] == {"gamma": 0.5} | ({"eps": 0.1, "steps": 1, "game": True} if game else {})
    assert (out / "classifier.safetensors").is_file() is game
    assert ("classifier.safetensors" in shown.stdout) is game
    assert isinstance(PURIFIERS["cdvae"].from_pretrained(out), PURIFIERS["cdvae"])
    assert ("CD-VAE is meant for a classifier that was trained on its output" in shown.stdout) is not game


def test_cdvae_is_of_the_images_size(refused: Any, files: Any, tmp_path: Path) -> None:
    arguments = ("--data", files.npz, "--classifier", files.spec("layered"), "--out", tmp_path / "cdvae")
    assert "multiples of 4 of at least 8, got [6, 8]" in refused("train", "cdvae", *arguments)
    assert "no --features-layer for cdvae" in refused("train", "cdvae", *arguments, "--features-layer", "features.1")
    size = ("--set", "size=8", "--set", "classes=4")
    assert "(6, 8)" in refused("train", "cdvae", *arguments, *size)  # what the images are
    assert not (tmp_path / "cdvae").exists()


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        (("--blocks", "3"), ("expected a setting of dir out of channels, patch, width", "got 'blocks'")),
        (("--set", "radus=0.1"), ("of its training out of eps, steps", "did you mean 'radius'?")),
        (("--set", "joint=1"), ("expected joint as true or false, got 1",)),
        (("--set", "alpha=much"), ("expected alpha as a number, got 'much'",)),
        (("--set", "radius_steps=2.5"), ("expected radius_steps as a whole number, got 2.5",)),
        (("--set", "radius=[1]"), ("expected radius as a number or null, got [1]",)),
        (("--set", "norm=L3"), ("expected norm out of Linf, L2, L1, got 'L3'",)),
        (("--set", "restore=false", "--set", "alpha=3"), ("expected alpha only with restore=True, got alpha=3",)),
        (("--set", "restore=false", "--set", "pretrain=false"), ("expected a stage to train",)),
    ],
)
def test_settings_that_do_not_fit(
    refused: Any, files: Any, tmp_path: Path, changes: tuple[str, ...], messages: tuple[str, ...]
) -> None:
    arguments = ("--data", files.npz, "--classifier", files.spec("layered"), "--out", tmp_path / "dir")
    line = refused("train", "dir", *arguments, *DIR_SHAPE, *changes)
    assert all(message in line for message in messages)
    assert not (tmp_path / "dir").exists()


def test_a_method_has_a_classifier_or_is_one(refused: Any, files: Any, tmp_path: Path) -> None:
    arguments = ("--data", files.npz, "--out", tmp_path / "out")
    assert "expected --classifier to train rdp for, got none" in refused("train", "rdp", *arguments)
    given = ("--classifier", files.spec("make"), "--mean", "0.5", "--std", "0.5")
    line = refused("train", "drrdn", *arguments, *given)
    assert "expected no --classifier, --mean, --std for drrdn, which is a classifier itself" in line
    assert not (tmp_path / "out").exists()


def test_features_are_named_once(refused: Any, command: Any, files: Any, tmp_path: Path) -> None:
    line = refused(*command, "--set", f"features={files.spec('layered')}", "--out", tmp_path / "rdp")
    assert "expected features once, got --features-layer and --set features=" in line


def test_labels_that_are_needed(refused: Any, files: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "bare.npz", x=files.x.numpy())
    arguments = ("--data", tmp_path / "bare.npz", "--classifier", files.spec("layered"), "--out", tmp_path / "dir")
    line = refused("train", "dir", *arguments, *DIR_SHAPE)
    assert "expected labels to train DIRRestoration, got None" in line
    assert not (tmp_path / "dir").exists()


def test_help_has_the_settings_of_every_method(call: Any) -> None:
    words = {word.strip(",;.│") for word in call("train", "--help").stdout.split()}
    for name in methods():
        method = method_of(name)
        assert {*method.constructor, *method.training} <= words
    assert {"shared_latent", "encoder_blocks", "through_encoder", "widen"} <= words


DRRDN_SHAPE = ("--width", 2, "--set", "hidden=6", "--set", "critic_width=4", "--steps", 1, "--set", "step_size=null")


def test_a_drrdn_is_trained_and_evaluated(
    call: Any, files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("art_ext.plots.figures", lambda report: {})
    out = tmp_path / "drrdn"
    shown = call(
        "train", "drrdn", "--data", files.npz, "--epochs", 1, "--batch-size", 5, "--eps", "0.1", *DRRDN_SHAPE, "--set",
        "momentum=0.5", "--device", "cpu", "--out", out,
    )  # fmt: skip
    assert "epoch 1/1: classifiers/class" in shown.stderr
    config = json.loads((out / "config.json").read_text())
    assert config == {
        "class": "SmallDRRDN",
        "arguments": {"channels": 1, "classes": 2, "width": 2, "hidden": 6, "critic_width": 4},
    }
    twin = SmallDRRDN(**config["arguments"]).eval()
    twin.load_state_dict(load_file(out / "model.safetensors"))
    exported = load_classifier(str(out / "classifier.pt2"), device=torch.device("cpu"))
    x = files.x.float() / 255
    for n in (1, 12):
        torch.testing.assert_close(exported(x[:n]), twin(x[:n]), atol=1e-5, rtol=1e-4)
    (line,) = [line for line in shown.stdout.splitlines() if line.startswith("next: art-ext ")]
    words = line.removeprefix("next: art-ext ").replace("TEST", str(files.npz))
    call(*words.split(), "--attack", "native:PGD:steps=1", "--knowledge", "full", "--images", 4, "--eps", "0.1")
    assert (tmp_path / "drrdn_evaluation" / "report.json").is_file()


def test_an_unknown_method(refused: Any, command: Any, tmp_path: Path) -> None:
    assert "did you mean 'rdp'?" in refused("train", "rpd", *command[2:], "--out", tmp_path / "rdp")


def test_a_loss_that_is_no_number_ends_with_one_line(
    call: Any, command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nan(self: Any, player: str, x: torch.Tensor, *rest: Any) -> dict[str, torch.Tensor]:
        return {"loss": x.sum() * float("nan")}

    for kind in Objective.__subclasses__():
        monkeypatch.setattr(kind, "terms", nan)
    result = call(*command, "--out", tmp_path / "rdp", code=1)
    assert result.stderr.startswith("error: expected finite losses")
