"""The units of an evaluation, in the order in which they are handed out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from art_ext.evaluation.blocks import blocks
from art_ext.evaluation.executors.progress import Progress
from art_ext.evaluation.executors.unit import TRIES, Done, Unit
from art_ext.evaluation.inspect import ModelInfo
from art_ext.evaluation.run import Runner
from art_ext.evaluation.schedule import Job
from art_ext.nn.precision import FLOAT32


def waves(jobs: Sequence[Job], runner: Runner) -> list[list[Unit]]:
    """All units that are not in the folder yet; those of a wave need only what earlier waves made.

    Jobs that share examples, and those of a sequence that attacks only survivors, are one unit a block, in the order of
    the schedule. The first block of a job in bfloat16, which decides the precision of the others, comes first.

    Args:
        jobs: of the schedule, probes after the attacks.
        runner: of the driver.
    """
    first: list[Unit] = []
    others: list[Unit] = []
    for numbers in _groups(jobs, runner):
        rough = any(jobs[i].crafting != FLOAT32 for i in numbers)
        for block, rows in blocks(max(jobs[i].images for i in numbers), runner.shard):
            there = tuple(i for i in numbers if rows.start < jobs[i].images)
            if all(runner.is_there(jobs[i], block) for i in there):
                continue
            cost = sum(_cost(jobs[i], rows, runner.found) for i in there)
            (first if rough and block == 0 else others).append(Unit(there, block, cost))
    return [in_order(wave) for wave in (first, others) if wave]


def in_order(units: Iterable[Unit]) -> list[Unit]:
    """Longest first: what is left at the end is short, and no worker waits long for another."""
    return sorted(units, key=lambda u: (-u.cost, u.jobs, u.block))


def _groups(jobs: Sequence[Job], runner: Runner) -> list[list[int]]:
    """Numbers of the jobs that one worker has to do in order."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for number, job in enumerate(jobs):
        if runner.lacks_gradient(job):
            continue
        turn = ("in turn", job.model.name, job.knowledge.value)
        who = turn if runner.in_turn(job) else ("examples", job.key(runner.source(job)))
        groups.setdefault(who, []).append(number)
    return list(groups.values())


def _cost(job: Job, rows: slice, found: Mapping[str, ModelInfo]) -> float:
    images = min(rows.stop, job.images) - rows.start
    return images * job.passes() / job.images * found[job.model.name].seconds_a_pass


class Queue:
    """Units in order; a unit whose worker died comes back, at most `TRIES` times in all.

    After a unit that an attack or a model refused, later blocks of the same jobs are not handed out: the driver refuses
    the row at that block.

    Args:
        units: in the order in which they are handed out.
        progress: told of what is done and lost.
    """

    def __init__(self, units: Sequence[Unit], progress: Progress) -> None:
        self.waiting = list(reversed(units))
        self.progress = progress
        self.out: dict[tuple[tuple[int, ...], int], Unit] = {}
        self.tries: dict[Unit, int] = {}

    def __bool__(self) -> bool:
        """Whether anything is not done."""
        return bool(self.waiting or self.out)

    def take(self) -> Unit | None:
        """The next unit, None where none waits."""
        if not self.waiting:
            return None
        unit = self.waiting.pop()
        self.out[unit[:2]] = unit
        self.tries[unit] = self.tries.get(unit, 0) + 1
        return unit

    def done(self, done: Done) -> None:
        """Takes a unit for done."""
        self.out.pop(done.unit[:2], None)
        self.progress.done(done)
        if done.error:
            dropped = [u for u in self.waiting if u.jobs == done.unit.jobs and u.block > done.unit.block]
            self.waiting = [u for u in self.waiting if u not in dropped]
            self.progress.dropped(dropped)

    def lost(self, unit: Unit | None, reason: str) -> None:
        """Takes back what a worker had when it died; None where it had nothing."""
        if unit is None or self.out.pop(unit[:2], None) is None:
            return
        if self.tries[unit] < TRIES:
            self.waiting.append(unit)
            self.progress.redone += 1
        else:
            self.progress.give_up(unit, f"{TRIES} workers ended while they made block {unit.block}: {reason}")
