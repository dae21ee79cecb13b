"""The worst case over several attacks: over all their repeats, or over a number of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from art_ext.evaluation.statistics import Interval, mean_interval, right_in_all


class Answers(Protocol):
    """What is needed of a cell: repeats x images, was the image classified correctly?"""

    @property
    def correct(self) -> tuple[tuple[bool, ...], ...]: ...

    @property
    def images(self) -> int: ...

    @property
    def repeats(self) -> int: ...


def robust(cells: Sequence[Answers]) -> list[bool]:
    """Per image, whether it was classified correctly in every repeat of every cell, over the images that all saw."""
    n = min((c.images for c in cells), default=0)
    return [all(row[i] for c in cells for row in c.correct) for i in range(n)]


def right_together(cells: Sequence[Answers]) -> tuple[list[int], int]:
    """Per image, in how many repeats every cell was right, over the images that all saw; and how many repeats all have.

    Repeats of one number share their randomness in all cells of a model, so they are counted together; answers of
    deterministic models hold for every repeat.
    """
    n = min((c.images for c in cells), default=0)
    repeats = min((c.repeats for c in cells if c.repeats > 1), default=1)

    def right(i: int, r: int) -> bool:
        return all(c.correct[r if c.repeats > 1 else 0][i] for c in cells)

    return [sum(right(i, r) for r in range(repeats)) for i in range(n)], repeats


def worst_of(cells: Sequence[Answers], repeats: int | None = None) -> Interval:
    """Share of images that none of the cells broke in r repeats, see `Findings.worst_case`.

    Raises:
        ValueError: no cells, or fewer repeats than were asked for.
    """
    counts, most = right_together(cells)
    r = most if repeats is None or most == 1 else repeats
    return mean_interval(right_in_all(counts, most, r), r)


def left(cells: Sequence[Answers], repeats: int = 1) -> list[float]:
    """Per image, how probable it is that so many redraws are right under every attack, over the images that all saw.

    Args:
        cells: of one model.
        repeats: r; a model that draws nothing has one answer, whatever r is.

    Raises:
        ValueError: a randomised model was answered less often.
    """
    counts, most = right_together(cells)
    return right_in_all(counts, most, repeats if most > 1 else 1)
