"""The command that each preset says it was made with still runs: a step or two of it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from art_ext import presets

ROOT = Path(__file__).parents[2]
SHORT = "--images 128 --test 8 --epochs 1 --pretraining-epochs 1 --classifier-epochs 1 --steps 1 --batch-size 64"
MADE = [n for n in presets.names() if presets.describe(n).command.startswith("python examples/make_presets.py")]


SCRIPTED = {"fashion_mnist_rdp": "sh examples/make_fashion_mnist_rdp.sh"}
"""By a shell script, of the same program."""


def test_every_preset_says_a_command_that_is_tried_here() -> None:
    assert {n: presets.describe(n).command for n in {*presets.names()} - {*MADE}} == SCRIPTED


def same_kind(made: presets.Preset, before: presets.Preset) -> None:
    """A preset of the same class and arguments, on the same data, with the same figures measured."""
    assert (made.class_name, made.arguments, made.data.split("(")[0]) == (
        before.class_name, before.arguments, before.data.split("(")[0],
    )  # fmt: skip
    assert made.measured.keys() == before.measured.keys()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_script_of_four_stages_makes_its_preset(tmp_path: Path) -> None:
    """As it is, where `python` adds the options that make a training short."""
    for name in ("art_ext", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@" {SHORT}\n')
    python.chmod(0o755)
    done = subprocess.run(
        shlex.split(SCRIPTED["fashion_mnist_rdp"]), cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"PATH": f"{python.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    weights = []
    for stage in (1, 2, 3, 4):
        folder = tmp_path / "runs" / f"rdp{stage}"
        same_kind(presets.describe("fashion_mnist_rdp", folder), presets.describe("fashion_mnist_rdp"))
        weights.append(presets.describe("fashion_mnist_rdp", folder).sha256)
    presets.load("fashion_mnist_rdp", tmp_path / "runs" / "rdp4")
    assert len({*weights}) == 4


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", MADE)
def test_its_command_makes_a_preset_of_that_name(name: str, tmp_path: Path) -> None:
    """Those for CIFAR-10 need its folder, in ART_EXT_CIFAR10."""
    data = os.environ.get("ART_EXT_CIFAR10")
    if name.startswith("cifar10") and data is None:
        pytest.skip("expected the folder of CIFAR-10 in ART_EXT_CIFAR10, got none")
    folder, before = tmp_path / "presets", presets.describe(name)
    shutil.copytree(presets.FOLDER, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__", f"{name}.*"))
    words = shlex.split(before.command)[1:] + shlex.split(SHORT)
    words += ["--folder", str(folder), "--runs", str(tmp_path / "runs"), "--data", data or "data"]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    made = presets.describe(name, folder)
    same_kind(made, before)
    presets.load(name, folder)
