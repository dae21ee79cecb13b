"""The folder of a training, and the training in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.progress import TaskID

from art_ext.cli.display import progress
from art_ext.cli.models import RECORD, json_object
from art_ext.cli.terminal import say
from art_ext.data import Images
from art_ext.files import replacing
from art_ext.training import Batches, Callbacks, Objective, Row, Step, run, said

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


def fit_stages(
    stages: Sequence[Objective], found: Images, out: Path, *, epochs: int, batch_size: int, seed: int
) -> None:
    """Trains the stages in order, each from its checkpoint if there is one."""
    batches = Batches(found.x, found.labels, batch_size=batch_size, seed=seed)
    with progress("steps") as bar:
        tasks: dict[int, TaskID] = {}

        def begin(number: int, _: Objective) -> None:
            if (state := out / f"{STATE}.{number}").exists():
                say(f"going on from {state}")
            tasks[number] = bar.add_task(f"stage {number}/{len(stages)}", total=epochs * len(batches))

        def move(step: Step) -> None:
            bar.update(tasks[len(tasks)], completed=step.number)

        def tell(_: int, row: Row) -> None:
            bar.console.print(said(row, epochs), markup=False, soft_wrap=True)

        run(
            stages, batches, epochs=epochs, seed=seed, checkpoint=out / STATE, every=min(SAVED_EVERY, len(batches)),
            callbacks=Callbacks(begin, move, tell),
        )  # fmt: skip
