"""Trainings that are killed with SIGKILL at random moments and run again: do they end where the unbroken one does?

    python -m tests.training.kills 18                  # all methods by trainer and command line, 18 kills each
    python -m tests.training.kills 4 "trainer rdp"     # one of them

Each training runs in a process of its own, forked from this one, so that a kill costs no imports.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from art_ext import defences
from art_ext.cli import app
from art_ext.nn.hashing import sha256
from tests.contracts.test_seeds import CLASSES, CODE, SMALL, TUNING, X, Y, estimator

DOORS = ("trainer", "command line")
EPOCHS, BATCH = 6, 2
DONE = "done.txt"
"""Holds the hash of the weights of a training that has ended."""


def by_trainer(name: str, folder: Path) -> str:
    """A hash of what a trainer leaves, which keeps its state in the folder."""
    classifier, trained = estimator(name)
    torch.seed()  # nothing of the ambient state may count
    trainer = getattr(defences, f"{CLASSES[name]}Trainer")(classifier, checkpoint=folder / "state", **TUNING[name])
    trainer.fit(X, Y, nb_epochs=EPOCHS, batch_size=BATCH)
    return sha256([v for module in trained for v in module.state_dict().values()])


def by_command(name: str, folder: Path) -> str:
    """A hash of what `art-ext train` writes into the folder."""
    torch.seed()
    (folder / "net.py").write_text(CODE)
    np.savez(folder / "train.npz", x=(255 * X).astype(np.uint8), y=Y)
    settings = [w for k, v in (SMALL[name] | TUNING[name]).items() for w in ("--set", f"{k}={json.dumps(v)}")]
    classifier = [] if name == "drrdn" else ["--classifier", f"{folder / 'net.py'}:network"]
    command = ["train", name, "--data", str(folder / "train.npz"), *classifier, *settings, "--device", "cpu"]
    command += ["--epochs", str(EPOCHS), "--batch-size", str(BATCH), "--out", str(folder / "out")]
    done = CliRunner().invoke(app, command)
    if done.exit_code:
        raise RuntimeError(done.output)
    files = sorted((folder / "out").glob("*.safetensors"))
    return sha256([v for file in files for _, v in sorted(load_file(file).items())])


def ends_within(child: int, seconds: float) -> bool:
    """Whether a process ends by itself in so many seconds; it is left to be waited for."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return True
        time.sleep(0.002)
    return False


def run_once(door: str, name: str, folder: Path, kill_after: float | None = None) -> str | None:
    """The hash of the weights of a training in a process of its own, None where it was killed before its end."""
    child = os.fork()
    if not child:
        code = 1
        try:
            torch.set_num_threads(1)
            found = (by_trainer if door == "trainer" else by_command)(name, folder)
            (folder / DONE).write_text(found)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    if kill_after is not None and not ends_within(child, kill_after):
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError(f"expected {door} {name} to end, got a failure in {folder}")
    return None if os.WIFSIGNALED(status) else (folder / DONE).read_text()


def trial(door: str, name: str, after: float) -> tuple[str, bool, bool]:
    """A training killed after so many seconds and run again: its hash, whether it was killed, and found a state."""
    with tempfile.TemporaryDirectory() as held:
        folder = Path(held)
        killed = run_once(door, name, folder, after) is None
        states = [p for p in folder.rglob("*.1") if p.name.startswith(("state", "training.pt"))]
        found = run_once(door, name, folder)
        assert found is not None
        return found, killed, bool(states)


def kills(door: str, name: str, count: int, chance: random.Random) -> dict[str, int]:
    """How many of so many trainings were killed, went on from a state, and ended at other weights than the unbroken."""
    with tempfile.TemporaryDirectory() as held:
        run_once(door, name, Path(held))  # first use of everything
    with tempfile.TemporaryDirectory() as held:
        began = time.monotonic()
        unbroken = run_once(door, name, Path(held))
        seconds = time.monotonic() - began
    done = [trial(door, name, chance.uniform(0, seconds)) for _ in range(count)]
    return {
        "kills": sum(killed for _, killed, _ in done),
        "resumed": sum(killed and state for _, killed, state in done),
        "other weights": sum(found != unbroken for found, _, _ in done),
    }


def main(count: int, chosen: str | None = None) -> int:
    """Prints a line for each way to train; gives how many ended elsewhere."""
    wrong = 0
    chance = random.Random(os.urandom(8))
    for door in DOORS:
        for name in CLASSES:
            if chosen in (None, f"{door} {name}"):
                found = kills(door, name, count, chance)
                wrong += found["other weights"]
                print(f"{door:12} {name:6}", found, flush=True)
    return wrong


if __name__ == "__main__":
    sys.exit(bool(main(int(sys.argv[1]), *sys.argv[2:])))
