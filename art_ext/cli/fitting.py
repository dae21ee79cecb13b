"""The folder of a training, and the training in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from art_ext.cli.display import progress
from art_ext.cli.errors import machine_failed
from art_ext.cli.models import RECORD, json_object
from art_ext.cli.terminal import say
from art_ext.data import Images
from art_ext.training import Batches, Checkpoint, Objective, fit, replacing

STATE = "training.pt"
SAVED_EVERY = 200
"""Most steps that a kill can cost."""


def claim(out: Path, record: dict[str, Any]) -> None:
    """Makes the folder this training's.

    Raises:
        ValueError: it holds something else, or another training.
    """
    known = out / RECORD
    if not known.exists():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ValueError(f"expected --out to be new, empty, or of this training, got {out}")
        with replacing(known) as temporary:
            temporary.write_text(json.dumps(record, indent=1), "utf-8")
        return
    there = json_object(known)
    now = json.loads(json.dumps(record))
    differing = sorted(k for k in {*there, *now} if there.get(k) != now.get(k))
    if differing:
        raise ValueError(
            f"expected a new folder or the same training, got one of other {', '.join(differing)} in {out}"
        )


def _check_state(state: Path) -> None:
    """Refuses a file that is no checkpoint.

    Raises:
        ValueError: it is empty, cut, or something else.
    """
    try:
        Checkpoint(state).load()
    except Exception as error:  # pickle, zipfile and torch each raise their own
        if machine_failed(error):
            raise
        raise ValueError(
            f"expected the checkpoint of this training, got {state}, which is damaged: without it the training starts "
            f"again ({type(error).__name__}: {error})"
        ) from error


def fit_stages(
    stages: Sequence[Objective], found: Images, out: Path, *, epochs: int, batch_size: int, seed: int
) -> None:
    """Trains the stages in order, each from its checkpoint if there is one."""
    batches = Batches(found.x, found.labels, batch_size=batch_size, seed=seed)
    every = min(SAVED_EVERY, len(batches))
    with progress("steps") as bar:
        for number, stage in enumerate(stages, start=1):
            state = out / (STATE if len(stages) == 1 else f"{STATE}.{number}")
            if state.exists():
                _check_state(state)
                say(f"going on from {state}")
            task = bar.add_task(f"stage {number}/{len(stages)}", total=epochs * len(batches))
            sums: dict[str, float] = {}
            for step in fit(stage, batches, epochs=epochs, seed=seed, checkpoint=Checkpoint(state, every)):
                bar.update(task, completed=step.number)
                sums = {k: sums.get(k, 0.0) + v for k, v in step.terms.items()}
                if step.number % len(batches) == 0:
                    means = ", ".join(f"{k} {v / len(batches):.4g}" for k, v in sums.items())
                    bar.console.print(f"epoch {step.epoch + 1}/{epochs}: {means}", markup=False, soft_wrap=True)
                    sums = {}
