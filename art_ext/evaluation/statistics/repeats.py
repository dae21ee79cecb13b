"""Estimates for fewer repeats than were made, from all answers of a randomised model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import comb


def right_in_all(right: Sequence[int], repeats: int, r: int) -> list[float]:
    """For each image, the probability that r of its repeats, drawn without replacement, are all right.

    Its mean is an unbiased estimate of the share that is right in r of r repeats, whatever the number of repeats that
    were made [Hoeffding 1948]; it falls with r.

    Args:
        right: of each image, how many of its repeats are right.
        repeats: R, made of each.
        r: 1 <= r <= R.

    Raises:
        ValueError: r out of range.
    """
    if not 1 <= r <= repeats:
        raise ValueError(f"expected 1 <= r <= {repeats} repeats, got {r}")
    return [comb(c, r) / comb(repeats, r) for c in right]


def plurality(classes: Sequence[int], label: int, abstained: int = -1) -> float:
    """Whether the label has the most votes: 1 if it has, 0 if another has, 1/k where k classes have as many.

    Args:
        classes: one vote a repeat.
        label: the right class.
        abstained: a vote for no class.
    """
    votes = Counter(c for c in classes if c != abstained)
    most = max(votes.values(), default=0)
    first = [c for c, count in votes.items() if count == most]
    return 1 / len(first) if label in first else 0.0
