"""How far an evaluation is: one bar for all workers, and a file that `art-ext status` reads from elsewhere."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from art_ext.evaluation.executors.unit import Done, Unit
from art_ext.evaluation.provenance import now
from art_ext.files import replacing

PROGRESS = "progress.json"
EVERY = 1.0
"""Seconds between two writings of the file."""
BAR = "{l_bar}{bar}| {elapsed} elapsed, {remaining} left{postfix}"


class Progress:
    """Counts units; the time left is the cost of what is left by the speed of what was done.

    Args:
        units: to be made.
        folder: that gets `progress.json`.
        bar: show a bar.

    Attributes:
        alive: workers.
        deaths: workers that ended without being told.
        redone: units that were handed out again.
        broken: images that examples broke so far, over all jobs.
        lost: units that were given up, with the reason.
        times: when each unit was done, by this process's clock, how long it took and what was expected, in seconds.
    """

    def __init__(self, units: Sequence[Unit], folder: Path, bar: bool) -> None:
        self.total, self.cost = len(units), sum(u.cost for u in units)
        self.ready, self.paid, self.seconds = 0, 0.0, 0.0
        self.alive = self.deaths = self.redone = self.broken = 0
        self.lost: list[tuple[Unit, str]] = []
        self.times: list[tuple[float, float, float]] = []
        self.folder, self.started, self.written = folder, time.monotonic(), 0.0
        self.bar = tqdm(total=self.cost, desc="units", disable=not bar, bar_format=BAR)

    def done(self, done: Done) -> None:
        """Counts a unit."""
        self.ready += 1
        self.paid += done.unit.cost
        self.broken += done.broken
        self.seconds += done.seconds
        self.times.append((time.monotonic(), done.seconds, done.unit.cost))
        self.bar.set_postfix_str(f"{self.ready}/{self.total} units, {self.alive} workers, {self.broken} broken", False)
        self.bar.update(done.unit.cost)
        self.write()

    def dropped(self, units: Sequence[Unit]) -> None:
        """Units that need not be made any more."""
        self.total -= len(units)
        self.cost -= sum(u.cost for u in units)

    def give_up(self, unit: Unit, reason: str) -> None:
        """Counts a unit that no worker can make."""
        self.lost.append((unit, reason))

    def counts(self) -> dict[str, Any]:
        """As JSON values."""
        elapsed = time.monotonic() - self.started
        left = None if not self.paid else round(elapsed * (self.cost - self.paid) / self.paid, 1)
        return {
            "units": self.total, "done": self.ready, "workers": self.alive, "deaths": self.deaths,
            "redone": self.redone, "given_up": len(self.lost), "broken": self.broken,
            "elapsed_s": round(elapsed, 1), "left_s": left, "unit_s": round(self.seconds, 3), "at": now(),
        }  # fmt: skip

    def write(self, whatever: bool = False) -> None:
        """Writes the file, where the last time is a while ago."""
        if whatever or time.monotonic() - self.written >= EVERY:
            with replacing(self.folder / PROGRESS) as temporary:
                temporary.write_text(json.dumps(self.counts()), "utf-8")
            self.written = time.monotonic()

    def close(self) -> None:
        """Ends the bar, and writes into the file that no worker is alive any more."""
        self.alive = 0
        self.bar.close()
        self.write(True)
