"""A fingerprint of what a model answers, beside the hash of everything that it is made of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from art_ext.nn import predicted

VALUES = 4096
"""The most logits of a fingerprint."""
CLOSE = 1e-3
"""How far two passes of one model may lie apart, as a share of the range of the logits."""


@dataclass(frozen=True)
class Fingerprint:
    """What a model answers to the first images, under one seed; compared with a tolerance, never hashed.

    Attributes:
        predicted: classes of the first block, -1 for logits that are not finite.
        logits: of as many of its images as make `VALUES` numbers, to six digits.
    """

    predicted: tuple[int, ...]
    logits: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, logits: Tensor) -> Fingerprint:
        """The fingerprint that logits (N, K) make."""
        shown = logits[: max(1, VALUES // max(1, logits.shape[1]))]
        rows = tuple(tuple(float(f"{v:.6g}") for v in row) for row in shown.tolist())
        return cls(tuple(predicted(logits).tolist()), rows)

    def agrees(self, other: Fingerprint) -> bool:
        """Whether both may be of one model: on the images of both, equal classes and logits within `CLOSE`."""
        n, m = (min(map(len, pair)) for pair in ((self.predicted, other.predicted), (self.logits, other.logits)))
        if self.predicted[:n] != other.predicted[:n] or bool(self.logits) != bool(other.logits):
            return False
        a, b = (torch.tensor(f.logits[:m]) for f in (self, other))
        return a.shape == b.shape and within(a, b)

    def changed(self, other: Fingerprint) -> int:
        """Images of both whose logits lie further apart than `CLOSE` allows."""
        n = min(len(self.logits), len(other.logits))
        if not n:
            return 0
        a, b = (torch.tensor(f.logits[:n]) for f in (self, other))
        finite = a.isfinite() & b.isfinite()
        spread = float(a[finite].amax() - a[finite].amin()) if bool(finite.any()) else 0.0
        apart = finite & ((a - b).abs() > CLOSE * spread + 1e-6)
        return int((apart | (a.isfinite() != b.isfinite())).any(1).sum())


def within(a: Tensor, b: Tensor) -> bool:
    """Whether logits (N, K) are equal within `CLOSE` of their range; what is not finite in both is equal."""
    both = a.isfinite() & b.isfinite()
    if not bool((both | (a.isfinite() == b.isfinite())).all()):
        return False
    if not bool(both.any()):
        return True
    low, high = a[both].aminmax()
    return bool((a - b)[both].abs().amax() <= CLOSE * float(high - low) + 1e-6)
