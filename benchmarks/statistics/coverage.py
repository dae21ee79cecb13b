"""How often the 95 % intervals hold what they estimate, as JSON values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from tqdm import tqdm

from art_ext.evaluation.statistics import Interval, clopper_pearson, wilson
from benchmarks.statistics import exact, simulated
from benchmarks.statistics.simulated import JOINTS, PAIRS, POPULATIONS, Levels

Json = dict[str, Any]
SINGLE: dict[str, exact.Single] = {
    "ours": exact.ours,
    "wilson": lambda right, n: wilson(right / n, n),
    "clopper_pearson": clopper_pearson,
}
REPEATS = (5, 10)
LEAST = 0.94
"""What the coverage of a share shall be at least."""
ALL = 512
"""Images that the cheap attack of double sampling sees."""
RARE = 0.2
"""Largest share of images on which treatments differ that differ rarely."""


@dataclass(frozen=True)
class Effort:
    """How much is computed.

    Attributes:
        sizes: numbers of images.
        points: true shares, evenly spread over (0, 1).
        pairs: random pairs of probabilities of a paired difference.
        draws: simulated evaluations of each population.
        again: fresh ones of the population whose coverage was the smallest.
        detector_draws: simulated evaluations of a detector.
        resamples: of each bootstrap.
    """

    sizes: tuple[int, ...] = (8, 16, 25, 32, 64, 100, 128, 256, 512, 1000)
    points: int = 2000
    pairs: int = 500
    draws: int = 4000
    again: int = 20000
    detector_draws: int = 300
    resamples: int = 300


FULL = Effort()
QUICK = Effort((8, 25, 64, 128), 200, 50, 300, 1000, 20, 100)


def measured(effort: Effort, seed: int) -> Json:
    """The coverage of every interval."""
    sizes = effort.sizes
    single = {f"{name}, R={r}": simulated.shown(p, r) for name, p in POPULATIONS.items() for r in REPEATS}
    paired = {f"{name}, R={r}": simulated.shown_apart(*p, r) for name, p in PAIRS.items() for r in REPEATS}
    return {
        "seed": seed,
        "versions": {name: version(name) for name in ("numpy", "scipy")},
        "effort": asdict(effort) | {"sizes": list(sizes)},
        "share": [share(n, effort.points) for n in _bar(sizes, "shares")],
        "paired": [apart(n, effort.pairs, seed) for n in _bar(sizes, "paired differences")],
        "repeats": [means(n, single, simulated.of_mean, effort, [seed, 0]) for n in _bar(sizes, "means")],
        "paired_repeats": [means(n, paired, simulated.of_apart, effort, [seed, 1]) for n in _bar(sizes, "paired")],
        "double_sampling": [row for m in _bar((32, 64, 128), "double sampling") for row in doubled(m, effort, seed)],
        "detector": [row for n in _bar((100, 256), "AUC and TNR") for row in detected(n, effort, seed)],
    }


def share(n: int, points: int) -> Json:
    """Mean and smallest coverage of the intervals of a share of n images, and the smallest mean that is possible."""
    true, made = exact.shares(points), Json(n=n)
    for name, interval in SINGLE.items():
        ends = exact.single_ends(n, interval)
        everywhere = np.concatenate([true, exact.beside(ends)])
        held = exact.single_coverage(ends, everywhere)
        made[name] = {"mean": _round(held[:points].mean()), **_smallest(held, everywhere)}
    return made | {"least_mean": _round(exact.least_mean(n, LEAST, points)) if n <= 128 else None}


def apart(n: int, pairs: int, seed: int) -> Json:
    """Mean and smallest coverage of a paired difference of booleans over n images."""
    ends = exact.paired_ends(n)
    anywhere, rare = exact.at_random(pairs, 1, seed), exact.at_random(pairs, RARE, seed + 1)
    true = np.concatenate([anywhere, rare, exact.on_grid(), exact.beside_ends(ends)])
    held = exact.paired_coverage(ends, true)
    both = {"mean": _round(held[:pairs].mean()), "rare": _round(held[pairs : 2 * pairs].mean())}
    return {"n": n, **both, **_smallest(held, true)}


def means(
    n: int,
    populations: Mapping[str, Levels],
    interval: Callable[[simulated.Values, int], Interval],
    effort: Effort,
    seed: Sequence[int],
) -> Json:
    """Mean and smallest coverage of a mean over n images of several populations.

    The smallest one is that of fresh draws of the population that had it, so that it is not small by chance.
    """
    found = {
        name: simulated.coverage(levels, n, interval, effort.draws, [*seed, n, i])
        for i, (name, levels) in enumerate(populations.items())
    }
    name = min(found, key=found.__getitem__)
    least = simulated.coverage(populations[name], n, interval, effort.again, [*seed, n, len(found)])
    mean = _round(sum(found.values()) / len(found))
    made = {"n": n, "mean": mean, "minimum": _round(least), "at": name, "error": error(least, effort.again)}
    return {**made, "populations": found}


def doubled(m: int, effort: Effort, seed: int) -> list[Json]:
    """Coverage of double sampling, and what its m images are worth."""
    made = []
    for i, joint in enumerate(JOINTS):
        held, worth = simulated.doubled(joint, m, ALL, effort.draws, [seed, 2, m, i])
        left = {"cheap": _round(joint.both + joint.cheap), "dear": _round(joint.both + joint.dear)}
        made.append({**left, "correlation": _round(joint.correlation), "m": m, "n": ALL, "coverage": held,
                     "error": error(held, effort.draws), "worth": round(worth, 1)})  # fmt: skip
    return made


def detected(n: int, effort: Effort, seed: int) -> list[Json]:
    """Coverage of the bootstrap of a detector's AUC and TNR."""
    made, draws = [], effort.detector_draws
    for area in (0.7, 0.9, 0.98):
        found = simulated.detected(area, n, draws, effort.resamples, [seed, 3, n, int(100 * area)])
        for name, (held, undetermined) in found.items():
            row = {"figure": name, "area": area, "n": n, "coverage": _round(held), "undetermined": undetermined}
            made.append({**row, "error": error(held, draws)})
    return made


def error(held: float, draws: int) -> float:
    """What the coverage of so many draws may be off by, at 95 %."""
    return _round(1.96 * (max(held * (1 - held), 1 / draws) / draws) ** 0.5)


def _smallest(held: simulated.Values, true: simulated.Values) -> Json:
    place = int(np.round(held, 9).argmin())  # the first of mirror images, which differ by rounding
    return {"minimum": _round(held[place]), "at": np.round(true[place], 6).tolist()}


def _round(value: float) -> float:
    return round(float(value), 5)


def _bar(sizes: Iterable[int], name: str) -> Iterable[int]:
    bar: Iterable[int] = tqdm(sizes, name, leave=False)
    return bar
