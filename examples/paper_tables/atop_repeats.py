"""What the number of redraws makes of AToP's worst cases, and of the order of its transforms."""

from __future__ import annotations

from collections.abc import Sequence

import parts
from worst_cases import STATED, counted, first, left

from art_ext.evaluation import Cell, Report, paired_difference
from art_ext.evaluation.report.worst import worst_of

SHOWN = (1, 2, 3, 5, 10)
"""R of the columns."""
ABOUT = (
    "By the number of redraws, R, that all have to be right; the ten that were made give each value without bias. It "
    "falls with R without a limit, so models are compared at one R; what draws nothing keeps the same at each."
)


def answers(reports: Sequence[Report], model: str) -> dict[str, list[Cell]]:
    """The cells that a model's two rows count: clean images alone, and every attack in the ball."""
    clean = next(r for r in reports if model in r.models()).clean(model)
    return {"no attack": [clean], "worst case": counted(reports, model)}


def curves(reports: Sequence[Report], models: Sequence[str]) -> str:
    """Two rows a model, clean and worst case, by R, as Markdown.

    Args:
        reports: of the same images.
        models: randomised ones; those of which the reports have none are left out.
    """
    rows = []
    for model in _there(reports, models):
        for what, cells in answers(reports, model).items():
            row = {r: worst_of(cells, r) for r in SHOWN if r <= _most(cells)}
            rows.append({"model": f"{model}, {what}", **{f"R = {r}": str(found) for r, found in row.items()}})
    return parts.grid(["model", *(f"R = {r}" for r in SHOWN)], rows)


def differences(reports: Sequence[Report], pairs: Sequence[tuple[str, str]]) -> str:
    """Two rows a pair of models: by how many points the first keeps more, by R, on the same images, as Markdown.

    Args:
        reports: of the same images.
        pairs: of randomised models; those of which the reports lack one are left out.
    """
    rows = []
    for pair in pairs:
        if len(_there(reports, pair)) == len(pair):
            ours, theirs = (answers(reports, model) for model in pair)
            for what, cells in ours.items():
                most = min(_most(cells), _most(theirs[what]))
                row = {f"R = {r}": _gap(cells, theirs[what], r) for r in SHOWN if r <= most}
                rows.append({parts.POINTS: f"{' minus '.join(pair)}, {what}", **row})
    return parts.grid([parts.POINTS, *(f"R = {r}" for r in SHOWN)], rows)


def best(reports: Sequence[Report], models: Sequence[str], beside: str) -> str:
    """A sentence on which of the models keeps most in the worst case, at R = 1 and at the stated R, and the one beside.

    Args:
        reports: of the same images.
        models: those that are compared, over the images that all of them saw.
        beside: a model that draws nothing.
    """
    every = {m: counted(reports, m) for m in (*models, beside)}
    n = min(c.images for of_model in every.values() for c in of_model)
    cells = {m: first(of_model, n) for m, of_model in every.items()}
    told = []
    for r in (1, STATED):
        kept = {m: left(cells[m], r) for m in models}
        leading, *others = sorted(models, key=lambda m: -sum(kept[m]))
        text = f"at R = {r} {leading} is the best of them with {worst_of(cells[leading], r)}"
        if others:
            text += f", {paired_difference(kept[leading], kept[others[0]]).points} above {others[0]}"
        told.append(text)
    return (
        f"In the worst case {'; '.join(told)}. The adversarially trained network, which purifies nothing, keeps "
        f"{worst_of(cells[beside])} at every R."
    )


def _gap(ours: Sequence[Cell], theirs: Sequence[Cell], repeats: int) -> str:
    a, b = left(ours, repeats), left(theirs, repeats)
    n = min(len(a), len(b))
    return parts.gap(a[:n], b[:n])


def _there(reports: Sequence[Report], models: Sequence[str]) -> list[str]:
    return [m for m in models if any(m in r.models() for r in reports)]


def _most(cells: Sequence[Cell]) -> int:
    return min(c.repeats for c in cells)
