"""Worst cases in the tables: at one redraw and at a stated number of them, on which images, and estimated for more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from art_ext.evaluation import Cell, Interval, Report, double_sampling, mean_interval
from art_ext.evaluation.report.worst import right_together, worst_of
from art_ext.evaluation.statistics import right_in_all

STATED = 5
"""Redraws, R, at which randomised models are compared beside R = 1; a worst case falls with R without a limit."""
ALONE, ONCE, OFTEN = "worst case", "worst case, R = 1", f"worst case, R = {STATED}"
OWN, ESTIMATED = "clean on these images", "worst case at R = 1, estimated for more images"
COLUMNS = (ALONE, ONCE, OFTEN, OWN, ESTIMATED)
CLEAN = f"clean, R = {STATED}"


def counted(reports: Sequence[Report], model: str) -> list[Cell]:
    """The attacks on a model that its worst case counts: inside the ball, of any of the reports."""
    return [c for r in reports if model in r.models() for c in r.attacked(model)]


def first(cells: Sequence[Cell], n: int) -> list[Cell]:
    """The cells of the first n images."""
    return [replace(c, correct=tuple(answers[:n] for answers in c.correct)) for c in cells]


def left(cells: Sequence[Cell], repeats: int = 1) -> list[float]:
    """Per image, how probable it is that so many redraws are right under every attack, over the images that all saw.

    Args:
        cells: of one model.
        repeats: r; a model that draws nothing has one answer, whatever r is.

    Raises:
        ValueError: a randomised model was answered less often.
    """
    counts, most = right_together(cells)
    return right_in_all(counts, most, repeats if most > 1 else 1)


def estimated(cells: Sequence[Cell], most: int | None = None) -> Interval | None:
    """The worst case at R = 1 on as many images as one of its attacks saw, by double sampling; None where all saw few.

    That attack knows as much as the one that leaves least of the images that all saw. Of several the one that leaves
    least of these itself is taken, and of those that leave as much the one that saw most.

    Args:
        cells: of one model.
        most: images; as many as there are unless given.
    """
    dear = left(cells)
    n = len(dear)
    knowledge = min(cells, key=lambda c: sum(c.survived[:n])).knowledge
    others = [c.survived[:most] for c in cells if c.knowledge == knowledge]
    helping = min((v for v in others if len(v) > n > 1), key=lambda v: (sum(v[:n]), -len(v)), default=None)
    return None if helping is None else double_sampling(dear, helping)


def entries(cells: Sequence[Cell], clean: Cell, drawn: bool) -> dict[str, str]:
    """The worst case of a model by column; where a column beside it has more images, its own clean accuracy as well.

    Args:
        cells: the attacks that count.
        clean: answers to clean images.
        drawn: whether any model of the table is randomised, so that R has to be said.
    """
    once = worst_of(cells, 1)
    found = {ONCE if drawn else ALONE: str(once)}
    if drawn:
        found[OFTEN] = str(worst_of(cells, STATED))
    if once.n < max(c.images for c in (clean, *cells)):
        found[OWN] = str(mean_interval(clean.survived[: once.n], clean.repeats))
        for_more = estimated(cells)
        if for_more is not None:
            found[ESTIMATED] = str(for_more)
    return found


def shown(cell: Cell) -> str:
    """Accuracy under an attack; of one that spared images broken before it, what it and those before it left."""
    return f"{cell.worst}, left after the sequence" if cell.skipped else str(cell.accuracy)
