"""Intervals for accuracies, and for whatever else is computed from images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

Z95 = 1.959963984540054


class Interval(NamedTuple):
    """A share of n images with its 95 % interval, all in [0, 1]; a difference of shares in [-1, 1]."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}] n={self.n}"


def wilson(mean: float, n: int) -> Interval:
    """Wilson's score interval of a share [Wilson 1927].

    A mean over several repeats of the same n images still has n, not n times repeats, independent trials.

    Raises:
        ValueError: mean outside [0, 1] or n < 1.
    """
    if n < 1 or not 0 <= mean <= 1:
        raise ValueError(f"expected a mean in [0, 1] of at least one image, got mean={mean} and n={n}")
    centre = (mean + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * sqrt(mean * (1 - mean) / n + Z95**2 / (4 * n**2))
    # At mean 0 and 1 the formula gives exactly 0 and 1; float error must not push it past the mean.
    return Interval(mean, max(0.0, min(mean, centre - half)), min(1.0, max(mean, centre + half)), n)


def paired_difference(a: Sequence[float], b: Sequence[float]) -> Interval:
    """Mean of a - b over the same images with its normal 95 % interval; in [-1, 1].

    Raises:
        ValueError: different or no images.
    """
    if len(a) != len(b) or not a:
        raise ValueError(f"expected the same images twice, got {len(a)} and {len(b)}")
    n = len(a)
    differences = [p - q for p, q in zip(a, b, strict=True)]
    mean = sum(differences) / n
    half = Z95 * sqrt(sum((d - mean) ** 2 for d in differences) / max(1, n - 1) / n)
    return Interval(mean, max(-1.0, mean - half), min(1.0, mean + half), n)


def surely_more(more: int, less: int, level: float = 0.025) -> bool:
    """Whether the first of two treatments of the same images surely does more than the second.

    The exact one-sided McNemar test [McNemar 1947]: of the images on which they differ, each side would win half.

    Args:
        more: images on which only the first succeeds.
        less: images on which only the second does.
        level: probability of a wrong yes, at most.
    """
    from scipy.stats import binomtest

    return more + less > 0 and bool(binomtest(more, more + less, 0.5, alternative="greater").pvalue <= level)


def clopper_pearson(right: int, n: int) -> Interval:
    """The exact 95 % interval of a share [Clopper & Pearson 1934].

    Raises:
        ValueError: n < 1, or right outside [0, n].
    """
    if n < 1 or not 0 <= right <= n:
        raise ValueError(f"expected 0 <= right <= n and n >= 1, got right={right} and n={n}")
    from scipy.stats import binomtest

    found = binomtest(right, n).proportion_ci(0.95, method="exact")
    return Interval(right / n, float(found.low), float(found.high), n)


def bootstrap(statistic: Callable[..., float], *samples: ArrayLike, resamples: int = 1000, seed: int = 0) -> Interval:
    """A statistic of images with its 95 % percentile bootstrap interval [Efron 1979].

    Images are drawn with replacement, and all that belongs to an image goes with it: row i of every sample is about
    image i. So what is made from the same images is compared on the same images, as for `tnr_at_tpr` on their clean and
    attacked versions, or for the difference of two detectors.

    Args:
        statistic: the samples to a number in [-1, 1].
        samples: (N, ...) each.
        resamples: draws of N images.
        seed: of the draws.

    Raises:
        ValueError: no samples, different or no images, or resamples < 1.
    """
    held = [np.asarray(sample) for sample in samples]
    lengths = {len(sample) for sample in held}
    if len(lengths) != 1 or not min(lengths) or resamples < 1:
        found = [len(sample) for sample in held]
        raise ValueError(f"expected samples of the same images and resamples >= 1, got {found} and {resamples}")
    (n,) = lengths
    random = np.random.default_rng(seed)
    drawn = [statistic(*(sample[rows] for sample in held)) for rows in random.integers(n, size=(resamples, n))]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Interval(float(statistic(*held)), float(low), float(high), n)
