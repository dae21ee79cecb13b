"""Trainings of an experiment by the executors that make its reports: a network of a seed is a unit."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from art_ext.evaluation.executors import Executor, Unit
from art_ext.evaluation.executors.progress import Progress
from art_ext.evaluation.executors.unit import Done
from art_ext.training import launched, make_fabric
from experiments import render
from experiments.core import Part, Work
from experiments.lab import Lab


@dataclass
class Planned(Lab):
    """Makes networks and trains none.

    Attributes:
        order: names of the networks that would have been trained, each after those that it needs.
    """

    order: list[str] = field(default_factory=list)

    def __call__(self, name: str) -> Any:
        """The network, untrained."""
        if name not in self.made:
            declared = self.experiment.networks[name]
            network: nn.Module = declared.make(self)
            if declared.objective is not None and not self._kept(declared, network):
                declared.objective(network, self)
                self.order.append(name)
            self.made[name] = network.eval().requires_grad_(False)
        return self.made[name]


def planned(lab: Lab, parts: Sequence[str]) -> list[str]:
    """Names of the networks that these parts need trained, each after those that it needs itself."""
    found = Planned(lab.experiment, lab.folder, lab.runs, lab.out, lab.fabric, lab.seed, lab.dry)
    for part in (lab.experiment.parts[name] for name in parts):
        if isinstance(part, Part):
            for model in part.models:
                found.defended(model)
        elif isinstance(part, Work):
            for name in lab.experiment.networks:
                if name.startswith(part.needs):
                    found(name)
    return found.order


@dataclass(frozen=True)
class Trainings:
    """What a worker needs to train networks of an experiment, all of it plain values.

    Attributes:
        paper: name of its module.
        data: set of images.
        scale: of the experiment.
        names: of networks; the numbers of a unit's jobs are places here, its block is the seed.
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
    names: tuple[str, ...]
    images: Path | None
    folder: Path
    device: str
    precision: str
    dry: bool
    until: float | None

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


class Trainer:
    """Trains networks in a worker's process. A network that another worker is training is waited for."""

    def __init__(self, task: Trainings) -> None:
        self.task = task
        experiment = render.module(task.paper).declare(task.data, task.scale)
        fabric = launched(make_fabric(torch.device(task.device), precision=task.precision))
        deadline = None if task.until is None else time.monotonic() + task.until - time.time()
        self.lab = Lab(experiment, task.images, task.folder, task.folder, fabric, dry=task.dry, deadline=deadline)

    def do(self, unit: Unit) -> Done:
        """Trains one network, or says what was raised."""
        start, name = time.monotonic(), self.task.names[unit.jobs[0]]
        if self.lab.seed != unit.block:
            self.lab = replace(self.lab, seed=unit.block, made={}, trainings={})
        try:
            with alone(self.task.folder / f"{name} {unit.block}.lock"):
                self.lab(name)
        except Exception as error:
            return Done(unit, f"{name}, seed {unit.block}: {type(error).__name__}: {error}", time.monotonic() - start)
        return Done(unit, "", time.monotonic() - start)


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """One process at a time is inside; one that dies leaves."""
    with file.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


class Told(Progress):
    """Keeps what went wrong."""

    def __init__(self, units: Sequence[Unit], folder: Path) -> None:
        super().__init__(units, folder, bar=True)
        self.errors: list[str] = []

    def done(self, done: Done) -> None:
        """Counts a training."""
        super().done(done)
        self.errors += [done.error] if done.error else []


def train(executor: Executor, task: Trainings, seeds: Sequence[int]) -> None:
    """Has all networks of all seeds trained.

    Raises:
        RuntimeError: what a training raised, by its name and seed.
    """
    units = [Unit((place,), seed, 1.0) for place in range(len(task.names)) for seed in seeds]
    progress = Told(units, task.folder)
    try:
        if units:
            executor.run(task, [units], progress, (), None)
    finally:
        progress.close()
    errors = progress.errors + [f"{task.names[u.jobs[0]]}, seed {u.block}: {why}" for u, why in progress.lost]
    if errors:
        raise RuntimeError("; ".join(errors))
