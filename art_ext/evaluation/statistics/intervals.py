"""Intervals of everything that is averaged over images: one rule for accuracies, repeats, and paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

Z95 = 1.959963984540054
LEVEL = 0.975
"""Of each end of an interval."""
MOST_ANSWERS = 10
"""The most answers that an image may be worth, however many repeats there are."""


class Interval(NamedTuple):
    """A mean over n images with its 95 % interval, all in [0, 1]; of a difference in [-1, 1].

    Attributes:
        low: lower end; NaN where it is undetermined.
        high: upper end; likewise.
        repeats: R, how often a randomised model answered each image.
    """

    mean: float
    low: float
    high: float
    n: int
    repeats: int = 1

    def __str__(self) -> str:
        repeats = f" R={self.repeats}" if self.repeats > 1 else ""
        return f"{100 * self.mean:.1f} % {self._ends} n={self.n}{repeats}"

    @property
    def points(self) -> str:
        """A difference in percentage points."""
        return f"{100 * self.mean:.1f} points {self._ends} n={self.n}"

    @property
    def _ends(self) -> str:
        undetermined = self.low != self.low  # NaN: too few images to say
        return "[undetermined]" if undetermined else f"[{100 * self.low:.1f}, {100 * self.high:.1f}]"


def mean_interval(values: ArrayLike, repeats: int = 1) -> Interval:
    """The mean of values in [0, 1], one an image, with Student's t interval over the images and four added ones.

    Two of the added images are wrong and two right, as Agresti & Coull (1998) add them for counts: without them, images
    that all have one value would seem to be known for certain. The mean is that of the images alone. Values between 0
    and 1 are shares of repeats: images are the sample, repeats are not. Where shares vary less than single answers
    would, as much as repeats allow, the added images count for so much less: else they would outweigh what is known.

    Args:
        values: (N,).
        repeats: R, which the values are shares of.

    Raises:
        ValueError: no values, or values outside [0, 1].
    """
    held = np.asarray(values, dtype=np.float64)
    if held.ndim != 1 or not held.size or not ((held >= 0) & (held <= 1)).all():
        raise ValueError(f"expected values in [0, 1] of at least one image, got {_seen(held)}")
    return _with_added(held, (0.0, 0.0, 1.0, 1.0), (0.0, 1.0), repeats, 1 / _answers(held, repeats))


def paired_difference(a: Sequence[float], b: Sequence[float]) -> Interval:
    """The mean of a - b over the same images, in [-1, 1], with Student's t interval and two added images.

    The added images differ by one, once in each direction, as Bonett & Price (2012) add them for counts: a difference
    that was not seen on n images is not known to be zero.

    Args:
        a: one value in [0, 1] an image.
        b: values of the same images in the same order.

    Raises:
        ValueError: different or no images.
    """
    if len(a) != len(b) or not len(a):
        raise ValueError(f"expected the same images twice, got {len(a)} and {len(b)}")
    apart = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    return _with_added(apart, (-1.0, 1.0), (-1.0, 1.0), 1)


def double_sampling(dear: Sequence[float], cheap: Sequence[float]) -> Interval:
    """What a dear attack would leave of all images, of which it saw the first m, by help of one that saw all N.

    The difference estimator of double sampling [Cochran 1977, chapter 12]: the cheap mean over all images, corrected by
    the mean difference on those that both saw. Its variance is that of the differences over m images and of the dear
    values over N, with added images as in `paired_difference` and `mean_interval`.

    Args:
        dear: values in [0, 1] of the first m images, at least two.
        cheap: values of all N images, N >= m.

    Raises:
        ValueError: fewer than two dear values, or fewer cheap ones than dear ones.
    """
    from scipy.stats import t

    m, n = len(dear), len(cheap)
    if not 2 <= m <= n:
        raise ValueError(f"expected at least two values of the dear attack and as many of the cheap one, got {m}, {n}")
    first, every = np.asarray(dear, dtype=np.float64), np.asarray(cheap, dtype=np.float64)
    apart = first - every[:m]
    mean = float(every.mean() + apart.mean())
    spread = float(np.var([*apart, -1.0, 1.0], ddof=1)) * (1 / m - 1 / n)
    spread += float(np.var([*first, 0.0, 0.0, 1.0, 1.0], ddof=1)) / n
    half = float(t.ppf(LEVEL, m + 1)) * sqrt(spread)
    mean = min(1.0, max(0.0, mean))
    return Interval(mean, max(0.0, mean - half), min(1.0, mean + half), n)


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


def wilson(mean: float, n: int) -> Interval:
    """Wilson's score interval of a share [Wilson 1927], for comparison with what others print.

    Reports do not use it: its coverage falls to 83 % for shares near 0 and 1, and means over repeats have no such form.

    Raises:
        ValueError: mean outside [0, 1] or n < 1.
    """
    if n < 1 or not 0 <= mean <= 1:
        raise ValueError(f"expected a mean in [0, 1] of at least one image, got mean={mean} and n={n}")
    centre = (mean + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * sqrt(mean * (1 - mean) / n + Z95**2 / (4 * n**2))
    # At mean 0 and 1 the formula gives exactly 0 and 1; float error must not push it past the mean.
    return Interval(mean, max(0.0, min(mean, centre - half)), min(1.0, max(mean, centre + half)), n)


def _answers(values: np.ndarray, repeats: int) -> float:
    """How many answers an image is worth: from 1 for booleans to the number of repeats, at most `MOST_ANSWERS`."""
    mean, variance = float(values.mean()), float(values.var())
    alone = mean * (1 - mean)  # the variance of single answers
    most = float(min(repeats, MOST_ANSWERS))
    return 1.0 if alone == 0 else most if alone >= most * variance else max(1.0, alone / variance)


def _with_added(
    values: np.ndarray, added: tuple[float, ...], box: tuple[float, float], repeats: int, weight: float = 1.0
) -> Interval:
    """The mean of values, and the t interval of these and the added ones, which count for a weight, inside the box."""
    from scipy.stats import t

    size = len(values) + weight * len(added)
    centre = (float(values.sum()) + weight * sum(added)) / size
    square = (float(np.square(values).sum()) + weight * sum(v * v for v in added)) / size
    half = float(t.ppf(LEVEL, size - 1)) * sqrt(max(0.0, square - centre**2) / (size - 1))
    mean = float(values.mean())
    low, high = max(box[0], min(mean, centre - half)), min(box[1], max(mean, centre + half))
    return Interval(mean, low, high, len(values), repeats)


def _seen(values: np.ndarray) -> str:
    return f"{values.min()} to {values.max()}" if values.size and values.ndim == 1 else f"shape {values.shape}"
