"""Evaluations killed, terminated, or made by two processes at once: do they give the report of an unbroken one?

    python -m tests.evaluation.kills 20 10 10     # kill -9, SIGTERM, pairs of processes in one folder

Each evaluation runs the command line in a process of its own, forked from this one, so that a kill costs no imports.
Compared are the report's findings and the bytes of every adversarial example.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from typer.testing import CliRunner

from art_ext.cli import app
from art_ext.cli.errors import TERMINATED
from art_ext.evaluation import Report
from art_ext.nn.hashing import sha256_of_file
from tests.training.kills import ends_within

CODE = """
import torch
from torch import nn

class Noise(nn.Module):
    def forward(self, x):
        return (x + 0.1 * torch.randn_like(x)).clamp(0, 1)

class Blur(nn.AvgPool2d):
    def __init__(self):
        super().__init__(3, 1, 1)
"""
"""A purifier that draws and one that does not."""

COMMAND = [
    "evaluate", "--data", "fashion_mnist", "--images", "64", "--classifier", "fashion_mnist_cnn", "--attack",
    "native:PGD:steps=5", "--attack", "native:APGD:steps=6", "--attack", "torchattacks:PGD:steps=3", "--eot-samples",
    "2", "--repeats", "3", "--batch-size", "32", "--device", "cpu",
]  # fmt: skip

Outcome = tuple[str, str]
"""The report's findings, and a hash of the adversarial examples. What a piece cost stands in its own file."""

Made = Callable[[Path], int]
"""Makes an evaluation in a folder's `out`; gives the exit code."""


def evaluated(folder: Path) -> int:
    """The exit code of one evaluation into folder/out."""
    code = folder / "noise.py"
    if not code.exists():
        code.write_text(CODE)
    command = [*COMMAND, "--purifier", f"{code}:Noise", "--purifier", f"{code}:Blur", "--out", str(folder / "out")]
    done = CliRunner().invoke(app, command)
    if done.exit_code not in (0, TERMINATED):
        print(done.output)
    return done.exit_code


def start(folder: Path, made: Made) -> int:
    """The process of an evaluation, forked from this one; it ends with the exit code."""
    child = os.fork()
    if not child:
        code = 1
        try:
            torch.set_num_threads(1)
            code = made(folder)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return child


def outcome(folder: Path) -> Outcome:
    """What an evaluation that has ended left."""
    out = folder / "out"
    assert not list(out.rglob("*.part")), "expected no unfinished file"
    return Report.load(out / "report.json").findings().to_json(), sha256_of_file(out / "x_adv.safetensors")


def whole(folder: Path, made: Made) -> Outcome:
    """What an evaluation gives that nothing stops, or goes on with what a stopped one left."""
    _, status = os.waitpid(start(folder, made), 0)
    assert status == 0, f"expected an evaluation to end, got status {status} in {folder}"
    return outcome(folder)


def stopped(by: signal.Signals, after: float, made: Made) -> tuple[Outcome, bool]:
    """What a stopped evaluation gives when it is run again, and whether it was stopped before its end."""
    with tempfile.TemporaryDirectory() as held:
        folder = Path(held)
        child = start(folder, made)
        if not ends_within(child, after):
            os.kill(child, by)
        _, status = os.waitpid(child, 0)
        # SIGTERM ends a process by itself that has not come to the command yet.
        halted = os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == TERMINATED
        assert halted or status == 0, f"expected an end, got status {status}"
        return whole(folder, made), halted


def pair(made: Made) -> Outcome:
    """What two processes give that start at once in one folder."""
    with tempfile.TemporaryDirectory() as held:
        folder = Path(held)
        (folder / "noise.py").write_text(CODE)
        children = [start(folder, made) for _ in range(2)]
        assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
        return outcome(folder)


def main(kills: int, terminations: int, pairs: int) -> int:
    """Prints a line for each kind of disturbance; gives how many ended with another report or other examples."""
    chance = random.Random(os.urandom(8))
    with tempfile.TemporaryDirectory() as held:
        first = whole(Path(held), evaluated)  # first use of everything
    with tempfile.TemporaryDirectory() as held:
        began = time.monotonic()
        unbroken = whole(Path(held), evaluated)
        seconds = time.monotonic() - began
    assert first == unbroken, "expected two unbroken evaluations to be equal"
    print(f"an evaluation takes {seconds:.1f} s", flush=True)
    wrong = 0
    for by, count in ((signal.SIGKILL, kills), (signal.SIGTERM, terminations)):
        done = [stopped(by, chance.uniform(0, seconds), evaluated) for _ in range(count)]
        wrong += sum(found != unbroken for found, _ in done)
        halted = sum(halted for _, halted in done)
        print(f"{by.name}: {halted} of {count} stopped, {sum(f != unbroken for f, _ in done)} other", flush=True)
    both = [pair(evaluated) for _ in range(pairs)]
    print(f"two processes: {pairs} pairs, {sum(found != unbroken for found in both)} other", flush=True)
    return wrong + sum(found != unbroken for found in both)


if __name__ == "__main__":
    sys.exit(bool(main(*map(int, sys.argv[1:]))))
