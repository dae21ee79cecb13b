"""The bootstrap, for figures that are no means."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from art_ext.evaluation.statistics.intervals import Interval

ENOUGH = 100
"""Images from which a percentile interval of an AUC or of a TNR holds; with fewer it may be [1, 1]."""


def bootstrap(statistic: Callable[..., float], *samples: ArrayLike, resamples: int = 1000, seed: int = 0) -> Interval:
    """A statistic of images with its 95 % percentile bootstrap interval [Efron 1979].

    Undetermined (NaN) for fewer than `ENOUGH` images, and where no draw gives another value, as for an AUC of 1: such
    an interval would claim to know what it cannot.

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
    if n < ENOUGH or low == high:
        low = high = np.nan
    return Interval(float(statistic(*held)), float(low), float(high), n)
