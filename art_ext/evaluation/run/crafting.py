"""Which precision the examples of a job are made in: bfloat16, where its first images show that nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from torch import Tensor

from art_ext.attacks import Leave
from art_ext.evaluation.blocks import blocks
from art_ext.evaluation.judge.crafting import FELL_BACK, IMAGES, LEFT_EXACT, LEFT_ROUGH, ROUGH_ALONE, said, weaker
from art_ext.evaluation.numerics import OUT_OF_MEMORY
from art_ext.evaluation.run.store import Facts
from art_ext.evaluation.schedule import COMPARED, Job
from art_ext.nn.precision import FLOAT32

WATCHED = ("watched", "silent")
"""What only passes in float32 can show: in bfloat16 an iterate may be wrong by rounding alone."""


class Left(NamedTuple):
    """Which images of a block an attack left right (N,), and what was observed."""

    right: Tensor
    facts: Facts


@dataclass
class Crafted:
    """A job as it is run, why it is not run as planned (empty where it is), and what is known of its first blocks."""

    job: Job
    reason: str = ""
    facts: dict[int, Facts] = field(default_factory=dict)

    def stated(self) -> dict[str, Any]:
        """Every parameter, as JSON values."""
        return {**self.job.stated(), **({"crafting": FLOAT32, FELL_BACK: self.reason} if self.reason else {})}


class Crafting:
    """Compares the precisions of each job once, on the first `COMPARED` images: of all shards the same ones.

    Args:
        left: makes the examples of a job's block, by its number and rows, and asks the model for its first answer.
        fatal: of what was raised, whether it ends the evaluation instead of the comparison.
    """

    def __init__(self, left: Callable[[Job, int, slice], Left], fatal: Callable[[Exception], bool]) -> None:
        self.left, self.fatal = left, fatal
        self.known: dict[int, Crafted] = {}  # by the id of a job

    def of(self, job: Job) -> Crafted:
        """The job in the precision that its examples are made in.

        Raises:
            Exception: whatever the attack raises in float32, or of memory or a disk.
        """
        if job.crafting == FLOAT32:
            return Crafted(job)
        if id(job) not in self.known:
            self.known[id(job)] = self._compared(job)
        return self.known[id(job)]

    def known_of(self, job: Job) -> Crafted:
        """The same without a comparison: the job as planned where there was none."""
        return self.known.get(id(job), Crafted(job))

    def _compared(self, job: Job) -> Crafted:
        exact = replace(job, crafting=FLOAT32)
        first = {number: (rows, self.left(exact, number, rows)) for number, rows in blocks(COMPARED)}
        facts: dict[int, Facts] = {}
        try:
            found = {number: self.left(job, number, rows) for number, (rows, _) in first.items()}
        except Exception as error:
            if self.fatal(error) or isinstance(error, OUT_OF_MEMORY):
                raise
            return Crafted(exact, f"bfloat16 raises {type(error).__name__}: {error}")
        for number, (_, sure) in first.items():
            facts[number] = _counted(sure, found[number])
        total = {name: sum(f[name] for f in facts.values()) for name in (IMAGES, LEFT_EXACT, LEFT_ROUGH, ROUGH_ALONE)}
        is_weaker = weaker(total)
        for number, (_, sure) in first.items():
            other = found[number] if is_weaker else sure
            facts[number]["seconds"] = other.facts["seconds"]
            facts[number] |= {} if is_weaker else {k: sure.facts[k] for k in WATCHED if k in sure.facts}
        return Crafted(exact if is_weaker else job, said(total) if is_weaker else "", facts)


def confirmed(job: Job) -> Leave | None:
    """When images leave: with rough gradients, once a pass in float32 breaks them, too.

    AutoAttack takes what `confirm` says for randomness, and decides in float32 itself what is done.
    """
    leave = job.leave
    if leave is None or job.crafting == FLOAT32 or job.attack.only_leaves:
        return leave
    return Leave(max(1, leave.confirm), leave.by)


def _counted(sure: Left, rough: Left) -> Facts:
    return {
        IMAGES: len(sure.right),
        LEFT_EXACT: int(sure.right.sum()),
        LEFT_ROUGH: int(rough.right.sum()),
        ROUGH_ALONE: int((rough.right & ~sure.right).sum()),
    }
