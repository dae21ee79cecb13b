"""How a count becomes a verdict: exact tests at fixed error rates, and no verdict where nothing could be shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from art_ext.evaluation.report.data import Said
from art_ext.evaluation.statistics import (
    Interval,
    above,
    gain_excluded,
    holm,
    least_shown,
    lower,
    mcnemar,
    paired_difference,
    upper,
)

Found = tuple[Said, str]
"""Verdict and detail."""
FAIL, WARN = 0.005, 0.025
"""Probability of a fail, and of a warning or a fail, where there is nothing to find; at most, for a whole check."""
HIDDEN = 0.05
"""Probability that more is hidden than a pass says."""
MARGIN = 0.05
"""Share of the images that may be hidden behind a pass."""


class Gain(NamedTuple):
    """One treatment of n images beside another.

    Attributes:
        more: images that only the first one breaks.
        less: images that only the second one breaks.
        n: images that both saw.
        who: what is compared, for people.
    """

    more: int
    less: int
    n: int
    who: str = ""

    @property
    def interval(self) -> Interval:
        """Share of the images that the first one breaks more."""
        alike = self.n - self.more - self.less
        return paired_difference(
            [1.0] * self.more + [0.0] * (self.less + alike), [0.0] * self.more + [1.0] * self.less + [0.0] * alike
        )


def gain(first: Sequence[bool], second: Sequence[bool], who: str = "") -> Gain:
    """What one attack breaks and another does not, over the images that both saw.

    Args:
        first: per image, whether it is right under the attack that is asked about.
        second: likewise under the one that it is compared with.
        who: what is compared, for people.
    """
    pairs = list(zip(first, second, strict=False))
    return Gain(sum(b and not a for a, b in pairs), sum(a and not b for a, b in pairs), len(pairs), who)


def surely_stronger(
    gains: Sequence[Gain], worst: Said = "fail", least: float = 0.0, fail: float = FAIL
) -> Found:  # fmt: skip
    """The verdict on attacks that should not be stronger than another.

    By the exact paired test, over all comparisons together: fails below `FAIL`, warns below `WARN`. Else it passes
    where a gain of more than `MARGIN` is excluded, and is undetermined where it is not.

    Args:
        gains: at least one comparison.
        worst: "warn" for a check that never fails.
        least: a gain that is sure but excluded from here on is a pass; 0 for none.
        fail: probability of a fail where there is nothing to find.
    """
    sure = holm([mcnemar(g.more, g.less) for g in gains])
    hidden = [gain_excluded(g.more, g.less, g.n, HIDDEN / len(gains)) for g in gains]
    found = [i for i, p in enumerate(sure) if p <= WARN and not (least and hidden[i] <= least)]
    if found:
        first = min(found, key=lambda i: (sure[i], -hidden[i]))
        return (worst if sure[first] <= fail else "warn"), _said(gains[first])
    most = max(range(len(gains)), key=hidden.__getitem__)
    text = _said(gains[most])
    if hidden[most] <= MARGIN:
        excluded = "any gain is" if hidden[most] <= 0 else f"more than {_points(hidden[most])} are"
        return "pass", f"{text}; {excluded} excluded"
    return (
        "undetermined",
        f"{text}; up to {_points(hidden[most])} may be hidden, {could_show(gains[most].n, len(gains))}",
    )


def could_show(n: int, tests: int = 1) -> str:
    """The smallest difference that so many images could have shown, in words."""
    least = least_shown(n, WARN, tests)
    return f"n={n} could show no difference" if least > 1 else f"n={n} shows differences from {_points(least)}"


def too_many(count: int, n: int, *, fail: float, warn: float | None, text: str, margin: float = MARGIN) -> Found:
    """The verdict on images that should be few.

    Args:
        count: images that were found.
        n: images that were looked at.
        fail: the share above which it fails, where that is sure.
        warn: the share above which it warns, where that is sure; None for no warning.
        text: what was found, for people.
        margin: the share that a pass excludes.
    """
    if above(count, n, fail) <= FAIL:
        return "fail", text
    if warn is not None and above(count, n, warn) <= WARN:
        return "warn", text
    hidden = upper(count, n, HIDDEN)
    if hidden <= margin:
        return "pass", f"{text}; more than {100 * hidden:.1f} % are excluded"
    return "undetermined", f"{text}; up to {100 * hidden:.1f} % are possible, too many to pass and too few to tell"


def too_few(count: int, n: int, least: float, *, enough: float, text: str) -> Found:
    """The verdict on images that should be nearly all.

    Args:
        count: images that were found.
        n: images that were looked at.
        least: the share that should be found; fails, or warns, where it surely is not.
        enough: the share that a pass says is surely found.
        text: what was found, for people.
    """
    missing = above(n - count, n, 1 - least)
    if missing <= WARN:
        return ("fail" if missing <= FAIL else "warn"), text
    sure = lower(count, n, HIDDEN)
    if sure >= enough:
        return "pass", f"{text}; less than {100 * sure:.1f} % is excluded"
    return "undetermined", f"{text}; as little as {100 * sure:.1f} % is possible"


def _said(found: Gain) -> str:
    return f"{found.who + ': ' if found.who else ''}{found.interval.points}"


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"
