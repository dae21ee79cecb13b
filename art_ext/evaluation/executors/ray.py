"""Ray's actors as workers: on every node that joins, as long as there are units; one that dies costs what it had."""

from __future__ import annotations

import os
import pickle
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any
from weakref import finalize

from art_ext.evaluation.executors.base import Executor
from art_ext.evaluation.executors.progress import Progress
from art_ext.evaluation.executors.task import Images, Sent
from art_ext.evaluation.executors.unit import TRIES, Done, Load, Unit
from art_ext.evaluation.executors.units import Queue
from art_ext.evaluation.run import Runner
from art_ext.evaluation.schedule import Job
from art_ext.files import replacing
from art_ext.plain import number

LOOK = 1.0
"""Seconds between two looks at what the cluster has free."""
PIECE = re.compile(r"(pieces|answers)/[0-9a-f]{32}\.safetensors")
"""What a worker may send into the driver's folder."""


class Ray(Executor):
    """Actors of a Ray cluster, as many as there is room for; the folder may lie on storage that they share, or not.

    Args:
        address: of a cluster (ray://HOST:PORT); unless given, the one that RAY_ADDRESS names or a new one here.
        workers: the most actors; as many as fit unless given.
        gpus: of each actor; 1 for models on a GPU, else 0, unless given.
        cpus: of each actor.
        load: makes models and attacks in each actor; pickled from here unless given.

    Raises:
        ImportError: Ray is not installed.
    """

    def __init__(
        self, address: str | None = None, workers: int | None = None, gpus: float | None = None, cpus: float = 1.0,
        load: Load | None = None,
    ) -> None:  # fmt: skip
        try:
            import ray
        except ImportError as error:
            raise ImportError("pip install art-ext[ray]") from error
        self.ray, self.address, self.gpus, self.load = ray, address, gpus, load
        self.pickler = ray.cloudpickle
        self.workers = None if workers is None else number(workers, "workers", at_least=1, whole=True)
        self.cpus = number(cpus, "cpus", at_least=0)

    def run(
        self, task: Sent, waves: Sequence[Sequence[Unit]], progress: Progress, jobs: Sequence[Job],
        runner: Runner | None,
    ) -> None:  # fmt: skip
        if not waves:
            return
        mine = not self.ray.is_initialized()
        if mine:
            new = self.address is None and "RAY_ADDRESS" not in os.environ
            options: dict[str, Any] = {"include_dashboard": False} if new else {}
            # Without "local" Ray joins whatever cluster left its address on this machine, dead ones among them.
            self.ray.init("local" if new else self.address, log_to_driver=False, **options)
        cluster = _Cluster(self, task, task.in_memory(runner), progress)
        try:
            for units in waves:
                queue = Queue(units, progress)
                while queue:
                    cluster.grow(len(queue.waiting))
                    cluster.hand_out(queue)
                    cluster.wait(queue)
        finally:
            cluster.end()
            if mine:
                self.ray.shutdown()


class _Cluster:
    """The actors of a run."""

    def __init__(self, executor: Ray, task: Sent, arrays: Images | None, progress: Progress) -> None:
        self.ray, self.limit, self.progress, self.folder = executor.ray, executor.workers, progress, task.folder
        gpus = executor.gpus if executor.gpus is not None else float(task.device == "cuda")
        self.needs = {"CPU": executor.cpus, "GPU": gpus}
        options = {"num_cpus": executor.cpus, "num_gpus": gpus, "max_restarts": 0}
        payload = self.ray.put(pickle.dumps(task))  # once, for all actors
        images = self.ray.put(arrays)
        threads = max(1, int(executor.cpus))
        self.make = partial(self.ray.remote(_Actor).options(**options).remote, payload, images, threads)
        self.busy: dict[Any, tuple[Any, Unit | None]] = {}  # by what is awaited
        self.idle: list[Any] = []
        self.looked, self.early = 0.0, 0

    def grow(self, waiting: int) -> None:
        """Starts actors where the cluster has room, and one to wait for room where there is none at all."""
        there = len(self.busy) + len(self.idle)
        if there and time.monotonic() - self.looked < LOOK:
            return
        self.looked = time.monotonic()
        free = self.ray.available_resources()
        room = min((int(free.get(k, 0) // v) for k, v in self.needs.items() if v), default=1)
        room = max(room, 0 if there else 1)
        most = waiting if self.limit is None else min(waiting, self.limit - there)
        for _ in range(min(room, most)):
            actor = self.make()
            self.busy[actor.prepare.remote()] = (actor, None)

    def hand_out(self, queue: Queue) -> None:
        while self.idle and (unit := queue.take()) is not None:
            actor = self.idle.pop()
            self.busy[actor.do.remote(unit)] = (actor, unit)

    def wait(self, queue: Queue) -> None:
        """Takes what actors say; a unit of one that has died goes back."""
        said, _ = self.ray.wait(list(self.busy), timeout=LOOK)
        errors = self.ray.exceptions
        for ref in said:
            actor, unit = self.busy.pop(ref)
            try:
                done = self.ray.get(ref)
            except errors.RayTaskError as error:
                cause = error.cause if isinstance(error.cause, ValueError) and unit is None else None
                said_by = f"{type(error.cause).__name__}: {error.cause}"
                raise (ValueError(str(cause)) if cause else OSError(said_by)) from error
            except errors.RayError as error:  # the actor or its node died
                self._died(unit, queue, f"{type(error).__name__}")
                continue
            if unit is None:
                self.early = 0
                self.progress.alive += 1
            else:
                self._keep(done)
                queue.done(done._replace(files=()))
            self.idle.append(actor)
        self.progress.write()

    def _died(self, unit: Unit | None, queue: Queue, reason: str) -> None:
        self.progress.deaths += 1
        self.progress.alive -= unit is not None
        self.early += unit is None
        if self.early >= TRIES:
            raise RuntimeError(f"expected actors that start, got {TRIES} in a row that died before that: {reason}")
        queue.lost(unit, reason)

    def _keep(self, done: Done) -> None:
        for name, content in done.files:
            if not PIECE.fullmatch(name):
                raise ValueError(f"expected a piece from a worker, got {name!r}")
            with replacing(self.folder / name) as temporary:
                temporary.write_bytes(content)

    def end(self) -> None:
        for actor in [*self.idle, *(actor for actor, _ in self.busy.values())]:
            self.ray.kill(actor)


class _Actor:
    """A worker on some node: in the driver's folder where it sees it, else in one of its own."""

    def __init__(self, payload: bytes, images: Images | None, threads: int) -> None:
        self.payload, self.images, self.threads = payload, images, threads

    def prepare(self) -> None:
        task: Any = pickle.loads(self.payload)
        self.place: Path | None = None
        if not task.seen():
            self.place = Path(mkdtemp(prefix="art_ext_"))
            finalize(self, rmtree, self.place, ignore_errors=True)
            task = replace(task, folder=self.place)
        self.sent: set[Path] = set()
        self.worker = task.worker(self.threads, self.images)

    def do(self, unit: Unit) -> Done:
        done: Done = self.worker.do(unit)
        if self.place is None:
            return done
        root = self.place
        new = sorted(set(root.glob("*/*.safetensors")) - self.sent)
        self.sent.update(new)
        return done._replace(files=tuple((str(f.relative_to(root)), f.read_bytes()) for f in new))
