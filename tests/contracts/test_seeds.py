"""The seed alone decides a training: twice in one process and once in another, each method ends at the same weights."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from safetensors.torch import load_file
from torch import nn
from typer.testing import CliRunner

from art_ext import defences
from art_ext.classifiers import SmallDRRDN
from art_ext.cli import app
from art_ext.estimators import DRRDNClassifier
from art_ext.nn.hashing import sha256
from art_ext.nn.modes import seeded
from art_ext.purifiers import PURIFIERS

ROOT = Path(__file__).parents[2]
N, C, SIDE, K = 6, 3, 12, 4
X = np.random.default_rng(0).random((N, C, SIDE, SIDE), dtype=np.float32)
Y = np.arange(N) % K
SMALL = {name: {**kind.small} for name, kind in PURIFIERS.items()}
SMALL["cdvae"] |= {"size": [SIDE, SIDE], "classes": K}
SMALL["drrdn"] = {"channels": C, "classes": K, "width": 2, "hidden": 6, "critic_width": 4}
TUNING: dict[str, dict[str, Any]] = {
    "rdp": {"steps": 1}, "dir": {"steps": 1}, "atop": {}, "cdvae": {"game": True, "train_classifier": True, "steps": 1},
    "drrdn": {"steps": 1, "step_size": None},
}  # fmt: skip
CLASSES = {"rdp": "RDP", "cdvae": "CDVAE", "dir": "DIR", "atop": "AToP", "drrdn": "DRRDN"}
CODE = """
import torch
from torch import nn

def network():
    layer = nn.Linear(432, 4)
    weights = torch.linspace(-1, 1, 432 * 4).sin()  # seeds nothing
    layer.load_state_dict({"weight": weights.view(4, 432), "bias": torch.zeros(4)})
    return nn.Sequential(nn.Flatten(), layer)
"""
METHODS = [(door, name) for door in ("trainer", "command line") for name in CLASSES]


def estimator(name: str) -> tuple[Any, list[nn.Module]]:
    """An ART classifier that is a DRRDN or that a purifier defends, and the networks that a training may move."""
    options: dict[str, Any] = {"input_shape": (C, SIDE, SIDE), "nb_classes": K, "clip_values": (0, 1)}
    options |= {"device_type": "cpu", "loss": nn.CrossEntropyLoss()}
    with seeded(0):
        model: Any = SmallDRRDN(**SMALL[name]) if name == "drrdn" else nn.Sequential(nn.Flatten(), nn.Linear(432, K))
    if name == "drrdn":
        return DRRDNClassifier(model, **options), [model]
    defence = getattr(defences, f"{CLASSES[name]}Preprocessor")(**SMALL[name], device_type="cpu")
    return PyTorchClassifier(model, **options, preprocessing_defences=defence), [model, defence.purifier]


def by_trainer(name: str) -> str:
    """A hash of the weights that a trainer leaves in method and classifier."""
    classifier, trained = estimator(name)
    trainer = getattr(defences, f"{CLASSES[name]}Trainer")(classifier, seed=3, **TUNING[name])
    trainer.fit(X, Y, nb_epochs=1, batch_size=4)
    return sha256([v for module in trained for v in module.state_dict().values()])


def by_command(name: str) -> str:
    """A hash of the weights that `art-ext train` writes."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "net.py").write_text(CODE)
        np.savez(root / "train.npz", x=(255 * X).astype(np.uint8), y=Y)
        settings = [w for k, v in (SMALL[name] | TUNING[name]).items() for w in ("--set", f"{k}={json.dumps(v)}")]
        classifier = [] if name == "drrdn" else ["--classifier", f"{root / 'net.py'}:network"]
        command = ["train", name, "--data", str(root / "train.npz"), *classifier, *settings, "--seed", "3"]
        command += ["--epochs", "1", "--batch-size", "4", "--device", "cpu", "--out", str(root / "out")]
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        files = sorted((root / "out").glob("*.safetensors"))
        return sha256([v for file in files for _, v in sorted(load_file(file).items())])


def trained(door: str, name: str, ambient: int) -> str:
    """The hash, after the ambient generators were left in some state."""
    torch.manual_seed(ambient)
    np.random.seed(ambient)  # noqa: NPY002
    return {"trainer": by_trainer, "command line": by_command}[door](name)


@functools.cache
def elsewhere() -> dict[str, str]:
    """The hashes of another process."""
    done = subprocess.run([sys.executable, __file__], cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(("door", "name"), METHODS)
def test_twice_in_one_process_and_once_in_another(door: str, name: str) -> None:
    first = trained(door, name, 1)
    assert trained(door, name, 2) == first
    assert elsewhere()[f"{door} {name}"] == first


if __name__ == "__main__":
    sys.stdout.write(json.dumps({f"{door} {name}": trained(door, name, 5) for door, name in METHODS}))
