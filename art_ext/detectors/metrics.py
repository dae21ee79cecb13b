"""How well scores tell adversarial images from clean ones: thresholds, ROC curves and what is read off them.

An image is flagged where its score is above the threshold, not at it.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]


class Roc(NamedTuple):
    """A curve from (0, 0) to (1, 1), one point a threshold, from the largest score down to minus infinity.

    Attributes:
        false_positives: share of the clean images above each threshold, (P,).
        true_positives: share of the adversarial ones, (P,).
        thresholds: (P,).
    """

    false_positives: Values
    true_positives: Values
    thresholds: Values


def roc(clean: ArrayLike, adversarial: ArrayLike) -> Roc:
    """The curve of scores (N,) of clean and (M,) of adversarial images.

    Raises:
        ValueError: a kind is missing, or a score is NaN.
    """
    low, high = _sorted(clean), _sorted(adversarial)
    thresholds = np.append(np.unique(np.concatenate([low, high]))[::-1], -np.inf)
    above = [1 - np.searchsorted(v, thresholds, side="right") / len(v) for v in (low, high)]
    return Roc(above[0], above[1], thresholds)


def auc(clean: ArrayLike, adversarial: ArrayLike) -> float:
    """The area under the curve: the chance that an adversarial image scores higher than a clean one, ties half.

    Raises:
        ValueError: a kind is missing, or a score is NaN.
    """
    low, high = _sorted(clean), _sorted(adversarial)
    below = np.searchsorted(low, high, side="left") + np.searchsorted(low, high, side="right")
    return float(below.mean() / (2 * len(low)))


def threshold_at(clean: ArrayLike, false_positives: float = 0.05) -> float:
    """The smallest of the clean scores (N,) that has at most this share of them above it.

    Raises:
        ValueError: no scores, one that is NaN, or a share outside [0, 1).
    """
    if not 0 <= false_positives < 1:
        raise ValueError(f"expected a share of false positives in [0, 1), got {false_positives}")
    low = _sorted(clean)
    kept = ceil((1 - false_positives) * len(low) - 1e-9)  # (1 - 0.7) * 10 is 3.0000000000000004
    return float(low[max(1, kept) - 1])


def tnr_at_tpr(clean: ArrayLike, adversarial: ArrayLike, tpr: float = 0.95, *, positive: str = "clean") -> float:
    """The true negative rate where at least `tpr` of the positives are recognised.

    The tables of Lee et al. 2018 and of those who took over their code, CD-VAE among them, call *clean* images
    positive: with 95 % of the clean images passed, the share of adversarial ones that are flagged. Where flagged images
    are the positives, it is the share of clean images that pass while 95 % of the adversarial ones are flagged.

    Args:
        clean: scores (N,).
        adversarial: scores (M,).
        tpr: in (0, 1].
        positive: "clean" or "adversarial".

    Raises:
        ValueError: a kind is missing, a score is NaN, or an argument out of its range.
    """
    if not 0 < tpr <= 1 or positive not in ("clean", "adversarial"):
        raise ValueError(f"expected tpr in (0, 1] and positive clean or adversarial, got {tpr} and {positive!r}")
    if positive == "clean":
        return float((_sorted(adversarial) > threshold_at(clean, 1 - tpr)).mean())
    # The same with signs turned, but that an adversarial image at the threshold must be above it to be flagged.
    return float((_sorted(clean) < -threshold_at(-_sorted(adversarial), 1 - tpr)).mean())


def _sorted(scores: ArrayLike) -> Values:
    values = np.sort(np.asarray(scores, dtype=np.float64).reshape(-1))
    if not len(values) or np.isnan(values[-1]):
        raise ValueError(f"expected at least one score and none of them NaN, got {values}")
    return values
