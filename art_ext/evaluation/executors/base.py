"""What an executor is: it has units made by workers, so that the driver finds their pieces in the folder."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from art_ext.evaluation.backends import Attack
from art_ext.evaluation.executors.progress import Progress
from art_ext.evaluation.executors.task import Sent, packed
from art_ext.evaluation.executors.unit import Load, Unit
from art_ext.evaluation.run import Runner
from art_ext.evaluation.schedule import Job
from art_ext.evaluation.targets import Defended


class Executor:
    """Has the units of an evaluation made.

    The driver inspects, schedules and claims the folder; workers make pieces and answers there by the code that the
    driver itself would run; the driver then goes through all of it as ever, and reads back what is there. So whatever a
    worker leaves out is made by the driver, and no executor can change a result.

    Attributes:
        follows: this process is no driver: it calls `follow` in place of `run`.
        load: makes models and attacks in a worker, where they are not to be sent.
        pickler: module that packs them.
    """

    follows = False
    load: Load | None = None
    pickler: Any = pickle

    @contextmanager
    def folder(self, given: Path | str | None) -> Iterator[Path | str | None]:
        """The folder that workers share: the one that was given, or a temporary one."""
        if given is not None:
            yield given
            return
        with TemporaryDirectory(prefix="art_ext_") as made:
            yield made

    def packed(self, models: Sequence[Defended], attacks: Sequence[Attack]) -> bytes:
        """What travels to workers, before anything has passed through a model.

        Raises:
            TypeError: what cannot be pickled, by name.
        """
        return packed(models, attacks, self.load, self.pickler)

    def before_claim(self) -> None:
        """Called before the folder is claimed."""

    def claimed(self) -> None:
        """Called once the folder has been claimed."""

    def run(
        self, task: Sent, waves: Sequence[Sequence[Unit]], progress: Progress, jobs: Sequence[Job],
        runner: Runner | None,
    ) -> None:  # fmt: skip
        """Has every unit made, those of a wave after those of the wave before.

        Args:
            task: what workers are given.
            waves: the units, in the order in which they are handed out.
            progress: told of what happens.
            jobs: that the units are of, for a driver that works, too.
            runner: of the driver; None where the task is no evaluation.

        Raises:
            ValueError: a worker is not what the driver is: names what differs.
            OSError: a worker cannot write into the folder.
        """
        raise NotImplementedError

    def finished(self, report: Callable[[], str]) -> None:
        """Called at the very end with what gives the text of the report."""

    def follow(self, jobs: Sequence[Job], runner: Runner) -> str:
        """Works until the driver has its report, and gives the report's text; where this process follows."""
        raise NotImplementedError


class Here(Executor):
    """No workers: the driver makes everything itself."""

    @contextmanager
    def folder(self, given: Path | str | None) -> Iterator[Path | str | None]:
        yield given

    def packed(self, models: Sequence[Defended], attacks: Sequence[Attack]) -> bytes:
        """Nothing."""
        return b""

    def run(
        self, task: Sent, waves: Sequence[Sequence[Unit]], progress: Progress, jobs: Sequence[Job],
        runner: Runner | None,
    ) -> None:  # fmt: skip
        """Leaves every unit to the driver."""
