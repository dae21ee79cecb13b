"""Intervals that hold, exact tests, and what could have been shown."""

from art_ext.evaluation.statistics.exact import (
    above,
    below,
    gain_excluded,
    holm,
    least_shown,
    lower,
    mcnemar,
    upper,
)
from art_ext.evaluation.statistics.intervals import (
    Z95,
    Interval,
    clopper_pearson,
    double_sampling,
    mean_interval,
    paired_difference,
    wilson,
)
from art_ext.evaluation.statistics.repeats import plurality, right_in_all
from art_ext.evaluation.statistics.resampling import ENOUGH, bootstrap

__all__ = [
    "ENOUGH",
    "Z95",
    "Interval",
    "above",
    "below",
    "bootstrap",
    "clopper_pearson",
    "double_sampling",
    "gain_excluded",
    "holm",
    "least_shown",
    "lower",
    "mcnemar",
    "mean_interval",
    "paired_difference",
    "plurality",
    "right_in_all",
    "upper",
    "wilson",
]
