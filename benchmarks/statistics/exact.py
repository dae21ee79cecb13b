"""Coverage of the intervals of booleans, summed over every outcome that n images can have."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from art_ext.evaluation.statistics import Interval, mean_interval, paired_difference

Values = NDArray[np.float64]
Single = Callable[[int, int], Interval]
"""The interval of a share: how many images are right, of how many."""
Paired = Callable[[Sequence[float], Sequence[float]], Interval]
NEAR = 1e-9
"""How far inside and outside the end of an interval a true value is placed."""
GRID = (0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95,
        0.98, 0.99, 1)  # fmt: skip


def ours(right: int, n: int) -> Interval:
    """`mean_interval` of n booleans."""
    return mean_interval(np.arange(n) < right)


def shares(points: int) -> Values:
    """True shares, evenly spread over (0, 1)."""
    return (np.arange(points) + 0.5) / points


def single_ends(n: int, interval: Single = ours) -> Values:
    """Ends of the intervals of 0, 1, ... n right images, (2, n + 1)."""
    found = [interval(right, n) for right in range(n + 1)]
    return np.array([[i.low for i in found], [i.high for i in found]])


def beside(ends: Values, low: float = 0.0) -> Values:
    """True values just inside and just outside each end, between `low` and 1."""
    values = np.unique(np.concatenate([ends.ravel() - NEAR, ends.ravel() + NEAR]))
    return values[(values > low) & (values < 1)]


def single_coverage(ends: Values, true: Values) -> Values:
    """Probability that the interval of a share holds it.

    Args:
        ends: of `single_ends`.
        true: shares in (0, 1), (P,).

    Returns:
        (P,).
    """
    from scipy.stats import binom

    low, high = ends
    counts = np.arange(len(low))
    held = [
        (binom.pmf(counts, counts[-1], part[:, None]) * ((low <= part[:, None]) & (part[:, None] <= high))).sum(1)
        for part in np.array_split(true, max(1, len(true) * len(low) // 1_000_000))
    ]
    return np.concatenate(held)


def least_mean(n: int, least: float, points: int) -> float:
    """The smallest mean coverage over shares that intervals can have that cover each with a probability of `least`.

    Intervals whose ends rise with the number of right images cover a share by a run of counts, and neither end of that
    run falls as the share rises. The best such runs are found by dynamic programming from one share to the next.

    Args:
        n: images.
        least: probability in (0, 1).
        points: shares, evenly spread over (0, 1).
    """
    from scipy.stats import binom

    true = shares(points)
    up_to = np.concatenate([np.zeros((1, points)), binom.cdf(np.arange(n + 1)[:, None], n, true)])
    total = np.zeros((n + 1, n + 1))  # of the best runs so far, by first and last count of the run at this share
    for i in range(points):
        held = up_to[1:, i] - up_to[:-1, i, None]
        total = np.minimum.accumulate(np.minimum.accumulate(total, 0), 1) + np.where(held >= least, held, np.inf)
    return float(total.min()) / points


def paired_ends(n: int, interval: Paired = paired_difference) -> Values:
    """Ends of the intervals of all outcomes of a paired comparison, (2, n + 1, n + 1); NaN where there is no such one.

    Entry [:, i, j] is of i images that only the first treatment gets right and j that only the second does. Where j > i
    it is taken from its mirror image.
    """
    ends = np.full((2, n + 1, n + 1), np.nan)
    first, second = np.zeros(n), np.zeros(n)
    for i in range(n + 1):
        first[:] = np.arange(n) < i
        for j in range(min(i, n - i) + 1):
            second[:] = 0
            second[i : i + j] = 1
            found = interval(cast("Sequence[float]", first), cast("Sequence[float]", second))
            ends[:, i, j] = found.low, found.high
            if i != j:
                ends[:, j, i] = -found.high, -found.low
    return ends


def paired_coverage(ends: Values, true: Values) -> Values:
    """Probability that the interval of a paired difference holds it.

    The sum leaves out what is more than 8 standard deviations and 12 images away: less than 1e-9.

    Args:
        ends: of `paired_ends`.
        true: probabilities that only the first treatment, and only the second, gets an image right, (P, 2).

    Returns:
        (P,).
    """
    from scipy.special import gammaln

    n = ends.shape[1] - 1
    logs = gammaln(np.arange(n + 1) + 1.0)
    return np.array([_held(ends, logs, float(a), float(b)) for a, b in true])


def _held(ends: Values, logs: Values, a: float, b: float) -> float:
    n = len(logs) - 1
    i, j = _near(n, a)[:, None], _near(n, b)
    rest = n - i - j
    chance = logs[n] - logs[i] - logs[j] - logs[np.maximum(rest, 0)]
    chance = chance + i * _log(a) + j * _log(b) + rest * _log(1 - a - b)
    box = (slice(i[0, 0], i[-1, 0] + 1), slice(j[0], j[-1] + 1))
    inside = (rest >= 0) & (ends[0][box] <= a - b) & (a - b <= ends[1][box])
    return float(np.exp(chance[inside]).sum())


def _near(n: int, share: float) -> NDArray[np.int64]:
    reach = 8 * (n * share * (1 - share)) ** 0.5 + 12
    return np.arange(max(0, int(n * share - reach)), min(n, int(n * share + reach)) + 1)


def _log(share: float) -> float:
    return float(np.log(max(share, 1e-300)))


def on_grid() -> Values:
    """All pairs of probabilities of `GRID` that are possible, (P, 2); the first is not the smaller one."""
    return np.array([(a, b) for a in GRID for b in GRID if a >= b and a + b <= 1 + NEAR])


def at_random(points: int, most: float, seed: int) -> Values:
    """Pairs of probabilities, uniform where together they are at most `most`, (points, 2)."""
    return most * np.random.default_rng(seed).dirichlet([1, 1, 1], points)[:, :2]


def beside_ends(ends: Values) -> Values:
    """Pairs of probabilities whose difference lies beside the end of an interval, (P, 2).

    The second treatment wins 0, 1 or 2 of the n images in the mean, or each image is won by one of the two: there the
    coverage is smallest.
    """
    n = ends.shape[1] - 1
    return np.array([*_few_lost(ends, n), *_none_tied(ends, n)])


def _few_lost(ends: Values, n: int) -> Iterator[tuple[float, float]]:
    for lost in range(min(3, n)):
        for apart in beside(ends[:, : n + 1 - lost, lost], -lost / n):
            if apart + 2 * lost / n <= 1:
                yield float(apart) + lost / n, lost / n


def _none_tied(ends: Values, n: int) -> Iterator[tuple[float, float]]:
    won = np.arange(n + 1)
    for apart in beside(ends[:, won, n - won]):
        yield (1 + float(apart)) / 2, (1 - float(apart)) / 2
