"""The answers of a job's blocks, as one cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from art_ext.evaluation.numerics import OUT_OF_MEMORY
from art_ext.evaluation.report.data import NO_ANSWER, Cell, Refusal
from art_ext.evaluation.threat import Cheated

PER_IMAGE = ("goal", "moved")
"""Facts with one entry an image; the others add up."""


class Collected:
    """Answers as they come, block by block."""

    def __init__(self) -> None:
        self.answers: list[Tensor] = []
        self.goals: list[int] = []
        self.indices: list[int] = []
        self.skipped: list[int] = []
        self.totals: dict[str, Any] = {"seconds": 0.0}

    def add(
        self, rows: slice, answers: Tensor, facts: Mapping[str, Any] | None = None, skipped: Tensor | None = None
    ) -> None:
        """A block's classes (repeats, N), what was observed, and which of its images had been broken before (N,)."""
        facts = facts or {}
        if skipped is not None:
            self.skipped += [len(self.indices) + i for i in torch.nonzero(skipped).flatten().tolist()]
        self.answers.append(answers.cpu())
        self.indices += list(range(rows.start, rows.stop))
        self.goals += facts.get("goal", [])
        for name in facts.keys() - set(PER_IMAGE):
            self.totals[name] = self.totals.get(name, 0) + facts[name]

    def into(self, cell: Cell, y: Tensor, repeats: int, sharded: bool) -> Cell:
        """The cell with all of it.

        Args:
            cell: without answers.
            y: labels of all images (N,).
            repeats: rows, also where the shard holds none of the images.
            sharded: whether to say which images they are.
        """
        predicted = torch.cat(self.answers, 1) if self.answers else torch.empty(repeats, 0, dtype=torch.int64)
        right = predicted == y.cpu()[torch.tensor(self.indices, dtype=torch.int64)]
        right[:, self.skipped] = False
        hits = predicted == torch.tensor(self.goals) if self.goals else torch.empty(0, 0)
        predicted[:, self.skipped] = NO_ANSWER
        totals = dict(self.totals)
        return replace(
            cell, correct=_rows(right), predicted=_rows(predicted), hits=_rows(hits) if self.goals else (),
            skipped=tuple(self.skipped), indices=tuple(self.indices) if sharded else (),
            seconds=round(float(totals.pop("seconds")), 3), observed=totals,
        )  # fmt: skip


def _rows(values: Tensor) -> tuple[tuple[Any, ...], ...]:
    return tuple(map(tuple, values.tolist()))


def refused(cell: Cell, error: Exception) -> Cell:
    """The cell that does not count, with what was raised in its own words."""
    if isinstance(error, Cheated):
        return replace(cell, refused=str(error), refusal=Refusal.LEFT_THREAT)
    kind = Refusal.OUT_OF_MEMORY if isinstance(error, OUT_OF_MEMORY) else Refusal.ERROR
    return replace(cell, refused=f"{type(error).__name__}: {error}", refusal=kind)
