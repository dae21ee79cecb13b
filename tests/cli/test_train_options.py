"""`art-ext train` in other precisions, with augmentations, loggers, held-out images, and in several processes."""

from __future__ import annotations

import csv
import json
import os
import platform
import re
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from art_ext.cli.methods import method_of
from art_ext.data.augment import shift_and_flip
from art_ext.nn import FeatureExtractor, seeded
from art_ext.purifiers import RDP
from art_ext.training import Batches, fit, make_fabric
from tests.processor import AMX

TINY = ("--width", 2, "--blocks", 2, "--block", "residual", "--fold", 2, "--steps", 1, "--eps", "8/255")
USUAL = ("--epochs", 2, "--batch-size", 5, "--device", "cpu", "--seed", 2, *TINY)
DRRDN = ("--set", "hidden=6", "--set", "critic_width=4", "--width", 2, "--steps", 1, "--set", "step_size=null")


@pytest.fixture
def command(files: Any) -> tuple[Any, ...]:
    layer = ("--features-layer", "features.1")
    return ("train", "rdp", "--data", files.npz, "--classifier", files.spec("layered"), *layer, *USUAL)


def by_python(files: Any, augment: Any, **how: Any) -> dict[str, torch.Tensor]:
    from art_ext.cli.code import code

    features = FeatureExtractor(code(files.spec("layered"))(), "features.1")
    with seeded(2):
        purifier = RDP(channels=1, width=2, blocks=2, block="residual", fold=2)
    with seeded(2):
        (objective,) = purifier.stages(features=features, eps=8 / 255, steps=1)
    batches = Batches(files.x.float() / 255, files.y, batch_size=5, seed=2, augment=augment)
    for _ in fit(objective, batches, epochs=2, seed=2, fabric=make_fabric(torch.device("cpu"), **how)):
        pass
    return purifier.state_dict()


@pytest.mark.parametrize(
    "option",
    [
        pytest.param(("--precision", "bf16-mixed"), marks=pytest.mark.skipif(AMX, reason="NaN in bfloat16, see AMX")),
        ("--augment", "shift_and_flip:1"),
    ],
)
def test_an_option_is_what_python_does(
    call: Any, command: Any, files: Any, tmp_path: Path, option: tuple[str, str]
) -> None:
    call(*command, *option, "--out", tmp_path / "rdp")
    augment = shift_and_flip(1) if option[0] == "--augment" else None
    how = {"precision": option[1]} if option[0] == "--precision" else {}
    found, expected, plain = (
        RDP.from_pretrained(tmp_path / "rdp").state_dict(), by_python(files, augment, **how), by_python(files, None)
    )  # fmt: skip
    assert all(torch.equal(found[k], v) for k, v in expected.items())
    assert not all(torch.equal(found[k], v) for k, v in plain.items())


def test_another_option_is_another_training(refused: Any, call: Any, command: Any, tmp_path: Path) -> None:
    call(*command, "--augment", "shift_and_flip:1", "--out", tmp_path / "rdp")
    for changed, name in ((("--augment", "shift_and_flip:2"), "augment"), ((), "augment"), (
        ("--augment", "shift_and_flip:1", "--precision", "bf16-mixed"), "precision")):  # fmt: skip
        assert f"got one of other {name}" in refused(*command, *changed, "--out", tmp_path / "rdp")
    changed = ("--augment", "shift_and_flip:1", "--learning-rate", "0.5")
    told = refused(*command, *changed, "--out", tmp_path / "rdp")
    assert re.search(r"other tuning \(learning_rate .* there, 0\.5 now\) in ", told)
    (tmp_path / "rdp" / "config.json").unlink()
    assert "the training of one in" in refused(
        "evaluate", "--classifier", "fashion_mnist_cnn", "--data", "fashion_mnist", "--purifier", tmp_path / "rdp",
        "--out", tmp_path / "e",
    )  # fmt: skip


def test_figures_are_logged(call: Any, command: Any, tmp_path: Path) -> None:
    call(*command, "--logger", "csv", "--out", tmp_path / "rdp")
    with (tmp_path / "rdp" / "logs" / "csv" / "version_0" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["epoch"], r["stage"], r["step"]) for r in rows] == [("0.0", "1.0", "3"), ("1.0", "1.0", "6")]
    assert all(float(r["restorers/feature"]) > 0 for r in rows)


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (("--logger", "paper"), "logger out of csv, tensorboard, mlflow, wandb, got 'paper'"),
        (("--precision", "bf16-true"), "precision 32-true, bf16-mixed, 16-mixed, got 'bf16-true'"),
        (("--precision", "16-mixed"), "which needs a GPU"),
        (("--augment", "crop"), "an augmentation as shift_and_flip:2"),
        (("--augment", "crop:7"), "images of at least 7 x 7 pixels to crop, got 6 x 8"),
        (("--augment", "turn:7"), "got 'turn:7'"),
        (("--patience", 2), "--patience only with --validation-share"),
        (("--validation-share", 0.3), "only for a classifier that is trained, got it for rdp"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    refused: Any, command: Any, tmp_path: Path, option: tuple[Any, ...], told: str
) -> None:
    assert told in refused(*command, *option, "--out", tmp_path / "rdp")
    assert not (tmp_path / "rdp").exists()


def test_a_missing_package_is_said_before_the_first_step(
    refused: Any, command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lightning_fabric.loggers.tensorboard as theirs

    for name in ("_TENSORBOARD_AVAILABLE", "_TENSORBOARDX_AVAILABLE"):
        monkeypatch.setattr(theirs, name, False)
    assert "the package tensorboard" in refused(*command, "--logger", "tensorboard", "--out", tmp_path / "rdp")
    assert not (tmp_path / "rdp").exists()


def test_crops_that_the_classifier_does_not_take(call: Any, command: Any, tmp_path: Path) -> None:
    line = call(*command, "--augment", "crop:4", "--out", tmp_path / "rdp", code=None).stderr
    assert "the classifier" in line
    assert not (tmp_path / "rdp").exists()


def test_the_best_epoch_of_a_drrdn_is_kept(call: Any, refused: Any, files: Any, tmp_path: Path) -> None:
    from art_ext.objectives.robustness import Robustness

    scores = iter([0.2, 0.6, 0.4, 0.3])
    true, sizes = Robustness.measure, []
    base = ("train", "drrdn", "--data", files.npz, "--batch-size", 5, *DRRDN, "--device", "cpu")

    def measure(self: Robustness) -> dict[str, float]:
        sizes.append(len(self.x))
        return true(self) | {"validation_robust_accuracy": next(scores)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Robustness, "measure", measure)
        options = ("--validation-share", 0.25, "--patience", 2)
        shown = call(*base, "--epochs", 9, *options, "--out", tmp_path / "kept").stderr
    assert shown.count("validation_robust_accuracy") == 4  # two after the best
    assert sizes == [3] * 4
    call(*base, "--epochs", 2, "--validation-share", 0.25, "--out", tmp_path / "two")
    found, expected = (load_file(tmp_path / n / "model.safetensors") for n in ("kept", "two"))
    state = torch.load(tmp_path / "kept" / "training.pt.best", weights_only=True)["objective"]
    assert all(torch.equal(v, state[f"model.{k}"]) for k, v in found.items())
    if json.loads((tmp_path / "two" / "training.json").read_text())["validation_share"] == 0.25:
        assert found.keys() == expected.keys()
    assert "on both sides, got 0 of 12" in refused(*base, "--validation-share", 0.01, "--out", tmp_path / "none")
    assert method_of("drrdn").purifies is False


def test_a_training_killed_as_it_claims_its_folder_begins_anew(
    call: Any, refused: Any, command: Any, tmp_path: Path
) -> None:
    """The record is being written; no process of this number lives."""
    machine = f"{zlib.crc32(platform.node().encode()):08x}"
    (tmp_path / "rdp").mkdir()
    (tmp_path / "rdp" / f".training.json.{machine}-999999999-5.abc.part").write_text("{")
    call(*command, "--out", tmp_path / "rdp")
    assert not list((tmp_path / "rdp").glob("*.part")) + list((tmp_path / "rdp").glob(".*.part"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert "new, empty" in refused(*command, "--out", tmp_path / "mine")


SCRIPT = "from art_ext.cli import app\napp()\n"


def run_program(tmp_path: Path, words: tuple[Any, ...], how: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    (tmp_path / "program.py").write_text(SCRIPT)
    python = [sys.executable, "-m", *how] if how else [sys.executable]
    command = [*python, str(tmp_path / "program.py"), *map(str, words)]
    return subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=150,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


LAUNCHERS = {
    "alone": ((), ("--devices", 2)),
    "torchrun": (("torch.distributed.run", "--standalone", "--nproc-per-node=2"), ()),
    "fabric run": (("lightning_fabric.cli", "--accelerator=cpu", "--devices=2"), ()),
}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_processes_however_they_are_launched(command: Any, tmp_path: Path) -> None:
    weights = []
    for launcher, (how, options) in LAUNCHERS.items():
        out = tmp_path / launcher.replace(" ", "_")
        done = run_program(tmp_path, (*command, *options, "--out", out), how)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("written to") == 1, launcher  # the first process alone prints and writes
        assert done.stderr.count("epoch 2/2") == 1, launcher
        assert json.loads((out / "training.json").read_text())["processes"] == 2
        weights.append(RDP.from_pretrained(out).state_dict())
    assert all(torch.equal(v, other[k]) for other in weights[1:] for k, v in weights[0].items())


def test_several_processes_of_what_cannot_be_run_again() -> None:
    words = "import torch; from art_ext.training import make_fabric; make_fabric(torch.device('cpu'), devices=2)"
    done = subprocess.run(
        [sys.executable, "-c", words], cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60
    )
    assert "ValueError: expected devices=1 in a notebook or an interactive session, got 2" in done.stderr
