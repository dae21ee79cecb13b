"""Has an evaluation's units made by an executor, and gives remarks on failures."""

from __future__ import annotations

from collections.abc import Sequence

from art_ext.evaluation.executors.base import Executor, Here
from art_ext.evaluation.executors.progress import Progress
from art_ext.evaluation.executors.task import Task
from art_ext.evaluation.executors.units import waves
from art_ext.evaluation.run import Runner
from art_ext.evaluation.schedule import Job


def dispatch(executor: Executor, task: Task, jobs: Sequence[Job], runner: Runner, bar: bool) -> list[str]:
    """Notes for the report; afterwards the folder holds what workers could make.

    Args:
        executor: of the driver.
        task: what workers are given.
        jobs: of the schedule, probes after the attacks.
        runner: of the driver, which is told of jobs that no worker survives.
        bar: show a bar.

    Raises:
        ValueError: a worker is not what the driver is: names what differs.
        OSError: a worker cannot write into the folder.
    """
    if isinstance(executor, Here):
        return []
    todo = waves(jobs, runner)
    progress = Progress([unit for wave in todo for unit in wave], task.folder, bar)
    try:
        executor.run(task, todo, progress, jobs, runner)
    finally:
        progress.close()
    for unit, reason in progress.lost:
        for number in unit.jobs:
            runner.lost.setdefault(id(jobs[number]), reason)
    counts = progress.counts()
    if not todo:
        return []
    made = f"{counts['done']} of {counts['units']} units were made by {type(executor).__name__.lower()}"
    died = f"{counts['deaths']} workers ended early, {counts['redone']} units were handed out again"
    return [made, died] if counts["deaths"] or counts["redone"] else [made]
