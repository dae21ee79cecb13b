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


def test_all_but_one_of_several_stages_are_here() -> None:
    assert {*presets.names()} - {*MADE} == {"fashion_mnist_rdp"}  # by a shell script, of the same program


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
    assert (made.class_name, made.arguments, made.data.split("(")[0]) == (
        before.class_name, before.arguments, before.data.split("(")[0],
    )  # fmt: skip
    assert made.measured.keys() == before.measured.keys()
    presets.load(name, folder)
