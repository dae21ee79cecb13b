"""The check on examples that were made in bfloat16: are they as strong as those of float32?"""

from __future__ import annotations

from collections.abc import Mapping

from art_ext.evaluation.judge.rules import WARN, Found, Gain
from art_ext.evaluation.report import Cell, Report
from art_ext.evaluation.statistics import mcnemar

IMAGES, LEFT_EXACT, LEFT_ROUGH, ROUGH_ALONE = (
    "compared", "left_by_float32", "left_by_bfloat16", "left_by_bfloat16_alone",
)  # fmt: skip
"""What is observed of a row: images that were attacked in both, and those that each left right in its first answer."""
FELL_BACK = "fell_back"
"""The parameter that says why a row that was to be made in bfloat16 is not."""


def lost(observed: Mapping[str, int]) -> Gain:
    """What float32 breaks of the compared images and bfloat16 does not, and the reverse."""
    alone = observed[ROUGH_ALONE]
    other = observed[LEFT_EXACT] - (observed[LEFT_ROUGH] - alone)
    return Gain(alone, other, observed[IMAGES])


def weaker(observed: Mapping[str, int]) -> bool:
    """Whether accuracy on the compared images is surely higher under bfloat16."""
    found = lost(observed)
    return mcnemar(found.more, found.less) <= WARN


def crafting_not_weaker(report: Report, model: str) -> Found | None:
    """Warns where gradients in bfloat16 surely leave more images than those of float32, or raise.

    Such a row is made in float32. Undetermined where float32 itself breaks so few of the compared images that no
    difference would be sure.
    """
    cells = [c for c in (*report.cells, *report.probes) if c.model == model and not c.source]
    fallen = [c for c in cells if c.parameters.get(FELL_BACK)]
    if fallen:
        return "warn", "; ".join(f"{_row(c)} is made in float32: {c.parameters[FELL_BACK]}" for c in fallen)
    seen = [c for c in cells if c.observed.get(IMAGES)]
    if not seen:
        return None
    worst = max(seen, key=lambda c: lost(c.observed).interval.mean)
    detail = f"largest loss: {said(worst.observed)} by {_row(worst)}"
    untold = [c for c in seen if not _could_tell(report, c)]
    if untold:
        detail += f"; {len(untold)} of {len(seen)} rows break too few images to tell"
    return ("undetermined" if len(untold) == len(seen) else "pass"), detail


def said(observed: Mapping[str, int]) -> str:
    """Both counts in words."""
    counts = (observed[name] for name in (IMAGES, LEFT_ROUGH, LEFT_EXACT))
    return "of {} images bfloat16 leaves {}, float32 {}".format(*counts)


def _row(cell: Cell) -> str:
    return f"{cell.attack} ({cell.knowledge})"


def _could_tell(report: Report, cell: Cell) -> bool:
    """Whether the difference would be sure if bfloat16 left every image that float32 breaks."""
    n = cell.observed[IMAGES]
    broken = sum(report.clean(cell.model).once[:n]) - cell.observed[LEFT_EXACT]
    return mcnemar(max(0, broken), 0) <= WARN
