"""What several pictures draw alike: names, intervals, axes; a figure as PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from art_ext.evaluation.report.tables import one_line
from art_ext.evaluation.statistics import Interval


def png(figure: Figure, dpi: int = 110) -> bytes:
    """A figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def named(text: str) -> str:
    """A name as it is: matplotlib reads what stands between dollar signs, and leaves out what begins with "_"."""
    return one_line(text).replace("$", r"\$").replace("_", " _", 1 if text.startswith("_") else 0)


def with_intervals(axis: Axes, points: Sequence[tuple[float, Interval]], **line: Any) -> None:
    """A line through the means, in per cent, with their intervals."""
    means, lows, highs = (np.array([100 * getattr(i, k) for _, i in points]) for k in ("mean", "low", "high"))
    spread = np.abs(np.stack([means - lows, highs - means]))
    axis.errorbar([v for v, _ in points], means, yerr=spread, marker="o", ms=3.5, lw=1.4, capsize=2, **line)


def powers(axis: Axes, ticks: Sequence[float]) -> None:
    """Numbers that double, each at the same distance from the one before."""
    axis.set_xscale("log", base=2)
    axis.set_xticks(ticks, [f"{v:g}" for v in ticks])


def bare(axis: Axes, title: str) -> None:
    """No ticks, and a title where there is one."""
    axis.set_xticks([])
    axis.set_yticks([])
    if title:
        axis.set_title(title, fontsize=8)
