"""Contenders measured in turn (A B C A B C ...), so that what the machine does besides falls on all of them alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from art_ext.evaluation.numerics import clock
from art_ext.nn.modes import all_seeded

Run = Callable[[], Any]
TIMES = ("cpu", "wall")
LONGEST_REASON = 300


@dataclass(frozen=True)
class Contender:
    """One way of doing the work of a comparison.

    Args:
        name: in the table.
        make: gives what is timed; whatever it or the work raises makes the contender "not available".
    """

    name: str
    make: Callable[[], Run]


@dataclass(frozen=True)
class Comparison:
    """Contenders that do the same work.

    Args:
        topic: what `--only` names.
        name: of the row, unique.
        contenders: in the order in which they run.
        reference: the contender that the ratios are against.
        settings: what was done, as JSON values; `n` among them.
        rate: what the last result is worth, for each image how many of `repeats` answers are still right, "0" to "9".
        repeats: answers that `rate` looks at, 1 to 9.
        differences: further contenders, each the time of one minus that of another.
        measures: "cpu" and "wall", in seconds; or one name, and then what a run returns is the value.
        rounds: how many; as the caller says unless given.
        warm_up: whether a round comes first that is not counted.
        once: whether threads change nothing, so that it runs under the first number alone.
    """

    topic: str
    name: str
    contenders: Sequence[Contender]
    reference: str
    settings: Mapping[str, Any]
    rate: Callable[[Any], str] | None = None
    repeats: int = 1
    differences: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    measures: tuple[str, ...] = TIMES
    rounds: int | None = None
    warm_up: bool = True
    once: bool = False

    def runs(self, rounds: int) -> int:
        """How many runs it takes in all."""
        return len(self.contenders) * ((self.rounds or rounds) + self.warm_up)


@dataclass
class Measured:
    """What was found of a contender.

    Attributes:
        values: by measure, one a round.
        robust: what `rate` gave; empty without it.
        unavailable: why there is nothing; empty where there is.
    """

    values: dict[str, list[float]]
    robust: str = ""
    unavailable: str = ""


def measured(
    comparison: Comparison, *, rounds: int, seed: int, device: torch.device, tick: Callable[[str], object]
) -> dict[str, Measured]:  # fmt: skip
    """Every contender's values, by name.

    Every run begins from the same seed. A contender that raises is out, and the others go on.

    Args:
        comparison: what is compared.
        rounds: counted ones.
        seed: of torch, numpy and Python before each run.
        device: what is waited for before a clock is read.
        tick: called with a contender's name after each of its runs, and for those that it will not make.
    """
    found = {c.name: Measured({m: [] for m in comparison.measures}) for c in comparison.contenders}
    runs: dict[str, Run] = {}
    results: dict[str, Any] = {}
    for c in comparison.contenders:
        with _noting(found[c.name]):
            runs[c.name] = c.make()
    with _without_old_garbage():
        for number in range(-int(comparison.warm_up), comparison.rounds or rounds):
            for c in comparison.contenders:
                if not found[c.name].unavailable:
                    with _noting(found[c.name]), all_seeded(seed):
                        values, results[c.name] = _run(runs[c.name], comparison.measures, device)
                        for measure, value in values.items() if number >= 0 else ():
                            found[c.name].values[measure].append(value)
                tick(c.name)
    if comparison.rate is not None:
        for name, result in results.items():
            with _noting(found[name]), all_seeded(seed + 1):
                found[name].robust = comparison.rate(result)
    return found | {name: _difference(found[a], found[b]) for name, (a, b) in comparison.differences.items()}


def _run(run: Run, measures: Sequence[str], device: torch.device) -> tuple[dict[str, float], Any]:
    gc.collect()
    wall, cpu = clock(device), cpu_seconds()
    result = run()
    after = clock(device)
    if tuple(measures) != TIMES:
        return {measures[0]: float(result)}, result
    return {"cpu": cpu_seconds() - cpu, "wall": after - wall}, result


def cpu_seconds() -> float:
    """CPU time of this process and of the processes that it has waited for."""
    try:
        import resource
    except ImportError:  # not on Windows
        return time.process_time()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _difference(whole: Measured, part: Measured) -> Measured:
    reason = whole.unavailable or part.unavailable
    if reason:
        return Measured({}, unavailable=reason)
    pairs = {m: zip(whole.values[m], part.values[m], strict=True) for m in whole.values}
    return Measured({m: [max(0.0, a - b) for a, b in both] for m, both in pairs.items()})


@contextmanager
def _without_old_garbage() -> Iterator[None]:
    """Collections inside look at what is made inside alone, so that nobody pays for what was there before."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _noting(found: Measured) -> Iterator[None]:
    """Whatever is raised inside makes the contender unavailable: other people's code raises what it likes."""
    try:
        yield
    except Exception as error:
        kind = "not installed" if isinstance(error, ImportError) else type(error).__name__
        found.unavailable = f"{kind}: {' '.join(str(error).split())}"[:LONGEST_REASON]


@contextmanager
def threads(count: int) -> Iterator[None]:
    """torch on so many threads inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
