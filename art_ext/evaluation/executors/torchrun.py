"""The processes that torchrun started as workers: rank 0 drives and works, the others work along."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from art_ext.evaluation.backends import Attack
from art_ext.evaluation.executors.base import Executor
from art_ext.evaluation.executors.progress import Progress
from art_ext.evaluation.executors.task import Sent
from art_ext.evaluation.executors.unit import Done, Unit
from art_ext.evaluation.executors.worker import work
from art_ext.evaluation.run import Runner
from art_ext.evaluation.schedule import Job
from art_ext.evaluation.targets import Defended

NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
PAUSE = 0.05
"""Seconds between two looks at what other ranks said."""
CALLS = count()
"""Numbers the evaluations of this process: every rank makes the same ones, in the same order."""


@cache
def _store() -> Any:
    return next(iter(rendezvous("env://")))[0]


class Torchrun(Executor):
    """Every rank calls `evaluate` alike and gets the same report; the folder must be one that all of them see.

    A rank that dies ends the others, as torchrun has it; started again, by `--max-restarts` or by hand, they go on.

    Raises:
        ValueError: torchrun did not start this process.
    """

    def __init__(self) -> None:
        missing = [name for name in NEEDED if name not in os.environ]
        if missing:
            raise ValueError(
                f"expected a process of torchrun, got one without {', '.join(missing)}: torchrun --nproc-per-node N"
            )
        self.rank, self.ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self.follows = self.rank > 0
        life = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self.store = PrefixStore(f"art_ext {life} {next(CALLS)}", _store())

    def packed(self, models: Sequence[Defended], attacks: Sequence[Attack]) -> bytes:
        """Nothing: every rank has its own."""
        return b""

    @contextmanager
    def folder(self, given: Path | str | None) -> Iterator[Path | str | None]:
        """The folder of rank 0."""
        if self.follows:
            yield self._told("folder")
            return
        with super().folder(given) as place:
            assert place is not None
            self.store.set("folder", str(Path(place).resolve()))
            yield place

    def before_claim(self) -> None:
        if self.follows:
            self._told("claimed")

    def claimed(self) -> None:
        if not self.follows:
            self.store.set("claimed", "yes")

    def run(
        self, task: Sent, waves: Sequence[Sequence[Unit]], progress: Progress, jobs: Sequence[Job],
        runner: Runner | None,
    ) -> None:  # fmt: skip
        if runner is None:
            raise ValueError("expected an evaluation under torchrun; a training takes all of its processes by itself")
        progress.alive = self.ranks
        self.store.set("waves", json.dumps(waves))
        for number, units in enumerate(waves):
            out = set(range(len(units)))

            def collect(number: int = number, units: Sequence[Unit] = units, out: set[int] = out) -> bool:
                for k in [k for k in out if self.store.check([f"{number} {k}"])]:
                    out.remove(k)
                    progress.done(Done(units[k], *json.loads(self.store.get(f"{number} {k}"))))
                return not out

            self._draw(number, units, jobs, runner, collect)

    def follow(self, jobs: Sequence[Job], runner: Runner) -> str:
        waves = [[Unit(tuple(j), b, c) for j, b, c in wave] for wave in json.loads(self._told("waves"))]
        for number, units in enumerate(waves):
            names = [f"{number} {k}" for k in range(len(units))]
            self._draw(number, units, jobs, runner, lambda names=names: self.store.check(names))  # type: ignore[misc]
        report = self._told("report")
        self.store.add("read", 1)
        return report

    def finished(self, report: Callable[[], str]) -> None:
        """Tells the others, and waits until all of them know: the store may end with this process."""
        self.store.set("report", report())
        while self.store.add("read", 0) < self.ranks - 1:
            time.sleep(PAUSE)

    def _draw(
        self, number: int, units: Sequence[Unit], jobs: Sequence[Job], runner: Runner, over: Callable[[], Any]
    ) -> None:  # fmt: skip
        """Draws units of a wave as long as there are any, then waits for those of the other ranks."""
        while (k := self.store.add(f"next {number}", 1) - 1) < len(units):
            done = work(runner, jobs, units[k])
            self.store.set(f"{number} {k}", json.dumps([done.error, done.seconds, done.broken]))
            over()
        while not over():
            time.sleep(PAUSE)

    def _told(self, key: str) -> str:
        """What rank 0 said, as soon as it does."""
        while not self.store.check([key]):
            time.sleep(PAUSE)
        return bytes(self.store.get(key)).decode()
