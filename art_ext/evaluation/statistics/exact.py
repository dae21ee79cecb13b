"""Exact tests behind the verdicts, and what a test could have shown."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import ceil, log


@lru_cache(4096)
def mcnemar(more: int, less: int) -> float:
    """How probable it is that the first of two treatments of the same images does so much more, were they alike.

    The exact one-sided test [McNemar 1947]: of the images on which they differ, each side would win half.

    Args:
        more: images on which only the first succeeds.
        less: images on which only the second does.
    """
    from scipy.stats import binomtest

    return float(binomtest(more, more + less, 0.5, alternative="greater").pvalue) if more + less else 1.0


@lru_cache(4096)
def above(count: int, n: int, share: float) -> float:
    """How probable it is that at least so many of n images are found, were their share as given."""
    from scipy.stats import binomtest

    return float(binomtest(count, n, share, alternative="greater").pvalue) if n else 1.0


@lru_cache(4096)
def below(count: int, n: int, share: float) -> float:
    """How probable it is that at most so many of n images are found, were their share as given."""
    from scipy.stats import binomtest

    return float(binomtest(count, n, share, alternative="less").pvalue) if n else 1.0


def holm(values: Sequence[float]) -> list[float]:
    """Probabilities of several tests, made larger so that all hold together [Holm 1979]."""
    adjusted, largest = [1.0] * len(values), 0.0
    for rank, i in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        largest = max(largest, min(1.0, (len(values) - rank) * values[i]))
        adjusted[i] = largest
    return adjusted


@lru_cache(4096)
def upper(count: int, n: int, level: float = 0.05) -> float:
    """The largest share that so many of n images do not exclude; exact, one-sided."""
    from scipy.stats import beta

    return 1.0 if count >= n else float(beta.ppf(1 - level, count + 1, n - count))


def lower(count: int, n: int, level: float = 0.05) -> float:
    """The smallest share that so many of n images do not exclude; exact, one-sided."""
    return 1.0 - upper(n - count, n, level)


def gain_excluded(more: int, less: int, n: int, level: float = 0.05) -> float:
    """The largest difference, as a share of the images, that is not excluded; one-sided.

    Where the second treatment never wins it is exact; else the upper end of the t interval of `paired_difference`, or
    the exact limit of the images that the first one wins, whichever is smaller.

    Args:
        more: images on which only the first treatment succeeds.
        less: images on which only the second does.
        n: images in all.
        level: probability that more is hidden.
    """
    from scipy.stats import t

    exact = upper(more, n, level)
    if not less:
        return exact
    every = n + 2
    centre = (more - less) / every
    spread = (more + less + 2) / every - centre**2
    return min(exact, centre + float(t.ppf(1 - level, every - 1)) * (spread / (every - 1)) ** 0.5)


def least_shown(n: int, level: float = 0.025, tests: int = 1) -> float:
    """The smallest difference, as a share of n images, that `mcnemar` could have called sure; above 1 where none.

    Args:
        n: images.
        level: of the test.
        tests: made together, by `holm`.
    """
    return ceil(log(tests / level, 2)) / max(1, n)
