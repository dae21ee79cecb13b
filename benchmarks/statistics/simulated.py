"""Coverage of the other intervals by simulation: means over repeats, double sampling, AUC and TNR."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
from numpy.typing import NDArray

from art_ext.detectors import auc, tnr_at_tpr
from art_ext.evaluation.statistics import Interval, bootstrap, double_sampling, mean_interval, paired_difference

Values = NDArray[np.float64]


def spread(images: int, a: float, b: float) -> Values:
    """Probabilities of so many images to be answered right: quantiles of a Beta distribution."""
    from scipy.stats import beta

    return np.asarray(beta.ppf((np.arange(images) + 0.5) / images, a, b))


def alike(images: int, share: float) -> Values:
    """Probabilities of so many images, all the same."""
    return np.full(images, float(share))


ATTACKED = np.concatenate([spread(550, 0.3, 3), spread(350, 3, 0.3), spread(100, 1, 1)])
FIRM = np.concatenate([spread(500, 0.03, 1), spread(500, 1, 0.03)])
POPULATIONS: dict[str, Values] = {
    "attacked: most images near 0 or 1": ATTACKED,
    "clean: nearly all near 1": np.concatenate([spread(850, 6, 0.2), spread(150, 0.5, 0.5)]),
    "broken: nearly all near 0": np.concatenate([spread(950, 0.2, 6), spread(50, 1, 1)]),
    "3 % of the images always right": np.concatenate([alike(970, 0), alike(30, 1)]),
    "3 % of the images often right": np.concatenate([alike(970, 0), spread(30, 2, 2)]),
    "all alike, 50 %": alike(1, 0.5),
    "all alike, 3 %": alike(1, 0.03),
    "all alike, 1 %": alike(1, 0.01),
}
"""Probabilities of images to be answered right."""


def _gains(of: Values, images: int, share: float) -> Values:
    return np.concatenate([alike(images, share), of[images:]])


PAIRS: dict[str, tuple[Values, Values]] = {
    "a model twice": (ATTACKED, ATTACKED),
    "a firm model twice": (FIRM, FIRM),
    "a little better everywhere": (ATTACKED**0.8, ATTACKED),
    "much better on 5 % of the images": (_gains(ATTACKED, 50, 0.9), ATTACKED),
    "always right on 2 %, else firm": (_gains(FIRM, 20, 1), FIRM),
    "deterministic against randomised": (np.round(ATTACKED), ATTACKED),
    "unrelated": (np.random.default_rng(0).permutation(ATTACKED), ATTACKED),
    "always right against 1 %": (alike(1, 1), alike(1, 0.01)),
}
"""Probabilities of the same images under two treatments."""


@dataclass(frozen=True)
class Levels:
    """What an image can show, and how often.

    Attributes:
        values: (L,).
        chances: (L,).
        true: mean that the interval shall hold.
        repeats: R, that the values are shares of.
    """

    values: Values
    chances: Values
    true: float
    repeats: int


def shown(right: Values, repeats: int) -> Levels:
    """The share of repeats that is right, of images drawn from a population with probabilities (K,)."""
    return Levels(np.arange(repeats + 1) / repeats, _counts(right, repeats).mean(0), float(right.mean()), repeats)


def shown_apart(first: Values, second: Values, repeats: int) -> Levels:
    """The difference of the shares of repeats that are right, of images from a population with probabilities (K,)."""
    both = _counts(first, repeats).T @ _counts(second, repeats) / len(first)
    apart = np.arange(-repeats, repeats + 1)
    chances = np.array([np.trace(both, offset=-int(d)) for d in apart])
    return Levels(apart / repeats, chances, float(first.mean() - second.mean()), repeats)


def _counts(right: Values, repeats: int) -> Values:
    from scipy.stats import binom

    return np.asarray(binom.pmf(np.arange(repeats + 1), repeats, right[:, None]))


def of_mean(values: Values, repeats: int) -> Interval:
    """The interval of shares of repeats, one an image."""
    return mean_interval(values, repeats)


def of_apart(values: Values, _: int) -> Interval:
    """The interval of differences of images, in [-1, 1]; it does not depend on the repeats."""
    first, second = np.maximum(values, 0), np.maximum(-values, 0)
    return paired_difference(cast("Sequence[float]", first), cast("Sequence[float]", second))


def coverage(
    levels: Levels, n: int, interval: Callable[[Values, int], Interval], draws: int, seed: Sequence[int]
) -> float:  # fmt: skip
    """Share of the draws of n images whose interval holds the mean.

    Draws with the same sum and the same sum of squares have the same interval, which is made once.
    """
    random = np.random.default_rng(seed)
    drawn = random.multinomial(n, levels.chances / levels.chances.sum(), size=draws)
    moments = np.round([drawn @ levels.values, drawn @ levels.values**2], 9)
    _, places, times = np.unique(moments, axis=1, return_index=True, return_counts=True)
    found = (interval(np.repeat(levels.values, drawn[place]), levels.repeats) for place in places)
    return float(sum(k for i, k in zip(found, times, strict=True) if i.low <= levels.true <= i.high) / draws)


@dataclass(frozen=True)
class Joint:
    """How often a cheap and a dear attack leave an image, as probabilities.

    Attributes:
        both: left by both.
        cheap: left by the cheap one alone.
        dear: left by the dear one alone; 0 where the dear one contains the cheap one.
    """

    both: float
    cheap: float
    dear: float = 0.0

    @property
    def correlation(self) -> float:
        """Of the two booleans of an image."""
        p, q = self.both + self.dear, self.both + self.cheap
        return float((self.both - p * q) / (p * (1 - p) * q * (1 - q)) ** 0.5)


JOINTS = (
    Joint(0.48, 0.02),
    Joint(0.45, 0.05),
    Joint(0.35, 0.15),
    Joint(0.2, 0.3),
    Joint(0.03, 0.07),
    Joint(0.01, 0.02),
    Joint(0.85, 0.05),
    Joint(0.3, 0.2, 0.2),
)


def doubled(joint: Joint, m: int, n: int, draws: int, seed: Sequence[int]) -> tuple[float, float]:
    """Coverage of `double_sampling`, and how many images of the dear attack alone would be as exact.

    Args:
        joint: of the two attacks.
        m: images that the dear attack sees.
        n: images that the cheap one sees.
        draws: simulated evaluations.
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    chances = [joint.both, joint.cheap, joint.dear, 1 - joint.both - joint.cheap - joint.dear]
    first = random.multinomial(m, chances, size=draws)
    others = random.binomial(n - m, joint.both + joint.cheap, size=draws)
    true, held, means = joint.both + joint.dear, 0, []
    for counts, left in zip(first, others, strict=True):
        dear = np.repeat((1.0, 0.0, 1.0, 0.0), counts).tolist()
        cheap = np.repeat((1.0, 1.0, 0.0, 0.0, 1.0, 0.0), [*counts, left, n - m - left]).tolist()
        found = double_sampling(dear, cheap)
        held += found.low <= true <= found.high
        means.append(found.mean)
    return held / draws, true * (1 - true) / float(np.var(means))


def detected(area: float, n: int, draws: int, resamples: int, seed: Sequence[int]) -> dict[str, tuple[float, float]]:
    """Coverage of the bootstrap of a detector's figures, and the share of its intervals that are undetermined.

    Scores are normal, those of adversarial images shifted, with a correlation of 0.5 between the two of an image.

    Args:
        area: true AUC.
        n: images, each clean and adversarial.
        draws: simulated evaluations.
        resamples: of the bootstrap.
        seed: of the draws.

    Returns:
        Of "AUC" and "TNR" (at a TPR of 95 %) the coverage of the determined intervals, and the share of the others.
    """
    from scipy.stats import norm

    random = np.random.default_rng(seed)
    shift = float(norm.ppf(area)) * 2**0.5
    true = {"AUC": area, "TNR": float(norm.sf(norm.ppf(0.95) - shift))}
    figures: dict[str, Callable[..., float]] = {"AUC": auc, "TNR": partial(tnr_at_tpr, tpr=0.95)}
    held, open_ = dict.fromkeys(true, 0), dict.fromkeys(true, 0)
    for i in range(draws):
        clean, own = random.standard_normal((2, n))
        adversarial = shift + 0.5 * clean + 0.75**0.5 * own
        for name, figure in figures.items():
            found = bootstrap(figure, clean, adversarial, resamples=resamples, seed=i)
            held[name] += found.low <= true[name] <= found.high
            open_[name] += bool(np.isnan(found.low))
    return {name: (held[name] / max(1, draws - open_[name]), open_[name] / draws) for name in true}
