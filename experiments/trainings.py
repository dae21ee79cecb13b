"""Trainings of an experiment by the executors that make its reports: a network of a seed is a unit."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch

from art_ext.evaluation.executors import Executor, Unit
from art_ext.evaluation.executors.progress import Progress
from art_ext.evaluation.executors.unit import Done
from art_ext.training import Objective, launched, make_fabric
from experiments import render
from experiments.lab import Lab, OutOfTime
from experiments.networks import Recipe


@dataclass
class Planned(Lab):
    """Makes networks and trains none.

    Attributes:
        order: names of the networks that would have been trained, each after those that it needs.
    """

    order: list[str] = field(default_factory=list)

    def _train(self, name: str, objective: Objective, recipe: Recipe) -> None:
        self.order.append(name)


def planned(lab: Lab, parts: Sequence[str], seeds: Sequence[int]) -> tuple[tuple[str, int], ...]:
    """The networks that these parts need trained, and their seeds, each after those that it needs itself."""
    each = [Planned(lab.experiment, lab.folder, lab.runs, lab.out, lab.fabric, seed, lab.dry) for seed in seeds]
    for one in each:
        one.prepare(parts)
    rows = zip_longest(*([(name, one.seed) for name in one.order] for one in each))
    return tuple(pair for row in rows for pair in row if pair is not None)


@dataclass(frozen=True)
class Trainings:
    """What a worker needs to train networks of an experiment, all of it plain values.

    Attributes:
        paper: name of its module.
        data: set of images.
        scale: of the experiment.
        todo: names of networks and their seeds; the number of a unit's job is a place here.
        images: folder of images that do not ship.
        folder: where networks are kept: a disk that driver and workers see.
        device: type of the device to train on.
        precision: of trainings.
        dry: a few steps.
        until: seconds since the epoch, after which a training stops to go on another time.
    """

    paper: str
    data: str
    scale: str
    todo: tuple[tuple[str, int], ...]
    images: Path | None
    folder: Path
    device: str
    precision: str
    dry: bool
    until: float | None

    @classmethod
    def of(cls, lab: Lab, todo: tuple[tuple[str, int], ...], precision: str) -> Trainings:
        """Those of a lab."""
        e, images = lab.experiment, lab.folder and lab.folder.resolve()
        return cls(e.paper, e.data, e.scale, todo, images, lab.runs.resolve(), lab.device.type, precision, lab.dry,
                   lab.deadline)  # fmt: skip

    @contextmanager
    def on_disk(self, runner: None) -> Iterator[Trainings]:
        """Itself."""
        yield self

    def in_memory(self, runner: None) -> None:
        """Nothing: workers read the images themselves."""

    def seen(self) -> bool:
        """Yes: see `worker`."""
        return True

    def worker(self, threads: int, images: Any = None) -> Trainer:
        """What trains in this process.

        Raises:
            ValueError: this process does not see the folder.
        """
        if not self.folder.is_dir():
            raise ValueError(f"expected a worker that sees {self.folder}, where trained networks are kept")
        torch.set_num_threads(threads)
        return Trainer(self)


class Locked(Lab):
    """Trains a network alone: where another process is training it, that is waited for."""

    def _train(self, name: str, objective: Objective, recipe: Recipe) -> None:
        with alone(self.runs / f"{name} {self.seed}.lock"):
            super()._train(name, objective, recipe)


class Trainer:
    """Trains networks in a worker's process."""

    def __init__(self, task: Trainings) -> None:
        self.task = task
        experiment = render.module(task.paper).declare(task.data, task.scale)
        fabric = launched(make_fabric(torch.device(task.device), precision=task.precision))
        self.lab = Locked(experiment, task.images, task.folder, task.folder, fabric, dry=task.dry, deadline=task.until)

    def do(self, unit: Unit) -> Done:
        """Trains one network, or says what was raised; what there is no time for is left."""
        start, (name, seed) = time.monotonic(), self.task.todo[unit.jobs[0]]
        if self.lab.seed != seed:
            self.lab = replace(self.lab, seed=seed, made={}, trainings={})
        error = ""
        try:
            self.lab(name)
        except OutOfTime:
            pass
        except Exception as raised:
            error = f"{name}, seed {seed}: {type(raised).__name__}: {raised}"
        return Done(unit, error, time.monotonic() - start)


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """One process at a time is inside; one that dies leaves."""
    with file.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


class Told(Progress):
    """Keeps what went wrong."""

    errors: tuple[str, ...] = ()

    def done(self, done: Done) -> None:
        """Counts a training."""
        super().done(done)
        self.errors += (done.error,) if done.error else ()


def train(executor: Executor, task: Trainings) -> None:
    """Has all networks trained.

    Raises:
        RuntimeError: what a training raised, by its name and seed.
    """
    units = [Unit((place,), 0, 1.0) for place in range(len(task.todo))]
    progress = Told(units, task.folder, bar=True)
    try:
        if units:
            executor.run(task, [units], progress, (), None)
    finally:
        progress.close()
    lost = [(*task.todo[unit.jobs[0]], why) for unit, why in progress.lost]
    errors = [*progress.errors, *(f"{name}, seed {seed}: {why}" for name, seed, why in lost)]
    if errors:
        raise RuntimeError("; ".join(errors))
