"""A unit of work, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

TRIES = 3
"""How often a unit is handed out: the first time, and again after its worker died."""

Load = Callable[[torch.device], tuple[Sequence[Any], Sequence[Any]]]
"""Makes models and attacks in a worker, on its device: where they cannot be pickled."""


class Unit(NamedTuple):
    """What one worker does at a time: a block of one job, or of several jobs that need each other, in order.

    Attributes:
        jobs: their numbers in the schedule, probes after the attacks.
        block: its number.
        cost: expected, in seconds of one worker.
    """

    jobs: tuple[int, ...]
    block: int
    cost: float


class Done(NamedTuple):
    """What came of a unit.

    Attributes:
        unit: that was handed out.
        error: what an attack or a model raised, empty where nothing did; the driver meets it again and refuses the row.
        seconds: that it took.
        broken: images that its examples break, over its jobs.
        files: contents by path in the folder, from a worker that does not see the folder.
    """

    unit: Unit
    error: str = ""
    seconds: float = 0.0
    broken: int = 0
    files: tuple[tuple[str, bytes], ...] = ()
