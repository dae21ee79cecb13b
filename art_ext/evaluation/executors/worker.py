"""A worker: its own copy of an evaluation, held against the driver's, and what it does with a unit."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from art_ext.evaluation.backends import Attack
from art_ext.evaluation.executors.task import Task, read_images
from art_ext.evaluation.executors.unit import Done, Unit
from art_ext.evaluation.inspect import fingerprint, identities
from art_ext.evaluation.numerics import full_precision
from art_ext.evaluation.run import Runner, Store
from art_ext.evaluation.run.manifest import differing, image_hashes, manifest
from art_ext.evaluation.schedule import Job, schedule
from art_ext.evaluation.targets import Defended
from art_ext.nn.modes import all_seeded, evaluating, trainable


def work(runner: Runner, jobs: Sequence[Job], unit: Unit) -> Done:
    """Makes a unit; errors of an attack or a model are reported, errors of the disk end the worker.

    Raises:
        Exception: whatever kept the folder from being written.
    """
    start, broken, error = time.monotonic(), 0, ""
    for number in unit.jobs:
        try:
            broken += runner.make(jobs[number], unit.block)
        except Exception as raised:
            if raised is runner.store.failed:
                raise
            error = error or f"{type(raised).__name__}: {raised}"
    return Done(unit, error, time.monotonic() - start, broken)


class Worker:
    """A worker in a process of its own.

    Args:
        task: of the driver.
        threads: of torch, in this process.
        folder: where pieces go, unless to the task's.
        images: x and y, unless in the task's folder.

    Raises:
        ValueError: this process would make another evaluation than the driver: names what differs.
    """

    def __init__(
        self, task: Task, threads: int, folder: Path | None = None, images: tuple[Tensor, Tensor] | None = None
    ) -> None:
        torch.set_num_threads(threads)
        device = torch.device(task.call["device"])
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ValueError("expected a worker with a device of the driver's type, cuda, got one that has none")
        models, attacks = task.things(device)
        x, y = (t.to(device) for t in images or read_images(task.images))
        self._prepare(models, task.made.seed)
        who = _checked(task, models, attacks, x, y)
        planned = schedule(models, attacks, task.threat, tuple(x.shape[1:]), len(x), task.made, task.found)
        self.jobs = (*planned.jobs, *planned.probes)
        store = Store(folder or task.folder)
        self.runner = Runner(x, y, task.made, task.shard, store, task.found, who)

    def _prepare(self, models: Sequence[Defended], seed: int) -> None:
        """Modes, precision and randomness as the driver has them, for as long as the process lives."""
        networks = [network for model in models for network in model.parts()]
        parameters = [p for network in networks for p in network.parameters()]
        self.modes = ExitStack()
        for mode in (full_precision(), evaluating(*networks), trainable((), parameters), all_seeded(seed)):
            self.modes.enter_context(mode)

    def do(self, unit: Unit) -> Done:
        """Makes a unit, see `work`."""
        return work(self.runner, self.jobs, unit)


def _checked(
    task: Task, models: Sequence[Defended], attacks: Sequence[Attack], x: Tensor, y: Tensor
) -> dict[str, Any]:  # fmt: skip
    """The identities of the models' parts here; the worker's whole manifest must be the driver's."""
    who = {m.name: identities(m) for m in models}
    answers = {m.name: fingerprint(m, x) for m in models}
    here = manifest(
        models, attacks, x, y, task.settings, task.threat, task.shard, task.call["data"], who, answers
    )  # fmt: skip
    here |= {"criteria": task.call["criteria"]} if "criteria" in task.call else {}
    others = differing(task.call, here, lambda n: image_hashes(x[:n], y[:n]))
    if others:
        there, mine = (call["versions"] for call in (task.call, here))
        apart = [f"{k} {there.get(k)} and {mine.get(k)}" for k in {*there, *mine} if there.get(k) != mine.get(k)]
        said = f" ({'; '.join(apart)})" if apart else ""
        raise ValueError(f"expected a worker of the driver's evaluation, got one of other {', '.join(others)}{said}")
    return who
