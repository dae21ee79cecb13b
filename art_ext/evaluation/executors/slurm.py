"""Jobs of a Slurm array as workers, by submitit: they draw units from the shared folder, and are queued again."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch

from art_ext.evaluation.executors.base import Executor
from art_ext.evaluation.executors.progress import Progress
from art_ext.evaluation.executors.task import Sent
from art_ext.evaluation.executors.unit import TRIES, Done, Load, Unit
from art_ext.evaluation.run import Runner
from art_ext.evaluation.schedule import Job
from art_ext.files import replacing
from art_ext.plain import number

PAUSE = 0.2
"""Seconds between two looks into the folder."""
ENDING = 10.0
"""Seconds for jobs to see that all is done."""
REFUSED = "refused.json"
GENERAL = ("timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node", "name")
"""Parameters that submitit has for every cluster; the others are Slurm's own."""


class Slurm(Executor):
    """So many jobs of an array; the folder must lie on storage that the driver and all jobs see.

    A job that is preempted or runs out of time goes on where it was when Slurm starts it again; one that fails is
    submitted again, at most `TRIES` times in all. Models travel in submitit's own files, inside the folder, readable
    for their owner alone; give `load` where nothing may be unpickled from a disk.

    Args:
        workers: jobs at a time.
        cluster: "slurm", or submitit's "local" and "debug"; Slurm where it is there, else local, unless given.
        load: makes models and attacks in each job; pickled from here unless given.
        parameters: of the jobs, in submitit's or sbatch's words: partition, timeout_min, gpus_per_node, ...

    Raises:
        ImportError: submitit is not installed.
    """

    def __init__(
        self, workers: int = 8, cluster: str | None = None, load: Load | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        try:
            import cloudpickle
            import submitit
        except ImportError as error:
            raise ImportError("pip install art-ext[slurm]") from error
        self.submitit, self.cluster, self.load, self.pickler = submitit, cluster, load, cloudpickle
        self.workers = int(number(workers, "workers", at_least=1, whole=True))
        self.parameters = {k if k in GENERAL else f"slurm_{k}": v for k, v in (parameters or {}).items()}

    def run(
        self, task: Sent, waves: Sequence[Sequence[Unit]], progress: Progress, jobs: Sequence[Job],
        runner: Runner | None,
    ) -> None:  # fmt: skip
        if not waves:
            return
        room = task.folder / f"slurm-{uuid4().hex[:8]}"
        room.mkdir(mode=0o700)
        with ExitStack() as stack:
            sent = stack.enter_context(task.on_disk(runner))
            threads = int(self.parameters.get("cpus_per_task", max(1, torch.get_num_threads() // self.workers)))
            payload, lists = pickle.dumps(sent), [list(wave) for wave in waves]
            count = min(self.workers, max(map(len, waves)))
            pullers = [Puller(payload, lists, room, index, threads) for index in range(count)]
            _Array(self._submitter(room), pullers, lists, room, progress).wait()
        shutil.rmtree(room)  # where something failed, the jobs' logs stay in it

    def _submitter(self, room: Path) -> Any:
        made = self.submitit.AutoExecutor(folder=room / "logs", cluster=self.cluster)
        made.update_parameters(**{"slurm_array_parallelism": self.workers, "name": "art-ext", **self.parameters})
        return made


class _Array:
    """The jobs of a run, as the driver sees them."""

    def __init__(
        self, submitter: Any, pullers: Sequence[Puller], waves: Sequence[Sequence[Unit]], room: Path, progress: Progress
    ) -> None:
        self.submitter, self.pullers, self.room, self.progress = submitter, pullers, room, progress
        self.out = {f"{w}-{k}": unit for w, wave in enumerate(waves) for k, unit in enumerate(wave)}
        self.tries: dict[str, int] = {}
        self.idle = 0  # jobs that ended without having begun a unit

    def wait(self) -> None:
        """Submits all jobs, and the failed ones again, until every unit is made or given up."""
        with self.submitter.batch():  # one array; the callables themselves, which submitit asks for a checkpoint
            running = {index: self.submitter.submit(puller) for index, puller in enumerate(self.pullers)}
        try:
            while self.out:
                self._collect()
                for index, job in list(running.items()):
                    if job.done() and self._owed(index):
                        running[index] = self.submitter.submit(self.pullers[index])
                self.progress.alive = sum(job.state == "RUNNING" for job in running.values())
                self.progress.write()
                time.sleep(PAUSE)
            until = time.monotonic() + ENDING
            while time.monotonic() < until and not all(job.done() for job in running.values()):
                time.sleep(PAUSE)
        finally:
            for job in running.values():
                if not job.done():
                    job.cancel(check=False)

    def _collect(self) -> None:
        if (self.room / REFUSED).exists():
            kind, said = json.loads((self.room / REFUSED).read_text("utf-8"))
            raise (ValueError if kind == "ValueError" else OSError)(said)
        for name in [n for n in self.out if (self.room / f"{n}.done").exists()]:
            self.progress.done(Done(self.out.pop(name), *json.loads((self.room / f"{name}.done").read_text("utf-8"))))

    def _owed(self, index: int) -> bool:
        """Whether units are left for a job that has ended; what it began is given up after some tries."""
        self._collect()
        if not self.out:
            return False
        self.progress.deaths += 1
        begun = [n for n in self.out if _claimant(self.room / n) == index]
        for name in begun:
            self.tries[name] = self.tries.get(name, 0) + 1
            if self.tries[name] < TRIES:
                self.progress.redone += 1
                continue
            unit = self.out.pop(name)
            _write(self.room / f"{name}.done", ["given up", 0.0, 0])
            self.progress.give_up(unit, f"{TRIES} jobs ended while they made block {unit.block}")
        self.idle += not begun
        if self.idle >= TRIES * len(self.pullers):
            raise RuntimeError(
                f"expected jobs that start, got {self.idle} that ended before a unit: see {self.room}/logs"
            )
        return True


@dataclass
class Puller:
    """A job: draws units as long as there are any; started again, it first ends what it had begun.

    Attributes:
        payload: the task, pickled.
        waves: all units.
        room: folder of what jobs claim and have done.
        index: which job of the array.
        threads: of torch.
    """

    payload: bytes
    waves: list[list[Unit]]
    room: Path
    index: int
    threads: int

    def __call__(self) -> None:
        try:
            worker = pickle.loads(self.payload).worker(self.threads)
            for number, units in enumerate(self.waves):
                for name, unit in self._drawn(number, units):
                    done = worker.do(unit)
                    _write(self.room / f"{name}.done", [done.error, done.seconds, done.broken])
                while not all((self.room / f"{number}-{k}.done").exists() for k in range(len(units))):
                    time.sleep(PAUSE)
        except Exception as error:
            _write(self.room / REFUSED, [type(error).__name__, f"{error}"])
            raise

    def _drawn(self, number: int, units: Sequence[Unit]) -> Iterator[tuple[str, Unit]]:
        names = [f"{number}-{k}" for k in range(len(units))]
        for name, unit in zip(names, units, strict=True):
            if _claimant(self.room / name) == self.index and not (self.room / f"{name}.done").exists():
                yield name, unit
        for name, unit in zip(names, units, strict=True):
            with suppress(FileExistsError):
                with os.fdopen(os.open(self.room / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY), "w") as file:
                    file.write(str(self.index))
                yield name, unit

    def checkpoint(self) -> Any:
        """What Slurm starts when it has preempted this job, or its time has run out: submitit asks for it."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _claimant(file: Path) -> int | None:
    try:
        return int(file.read_text("utf-8"))
    except (FileNotFoundError, ValueError):  # nobody's, or claimed this very moment
        return None


def _write(file: Path, values: Sequence[Any]) -> None:
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(values), "utf-8")
