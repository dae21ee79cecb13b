"""Several samples of a randomised network in one batch of copies."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor


def copies_of(x: Tensor, eot_samples: int, at_once: int | None) -> Iterator[tuple[int, Tensor]]:
    """Batches that hold x (N, ...) `eot_samples` times in all: how often each does, k, and itself (k * N, ...).

    A batch has at most `at_once` images, but never fewer than x has; None puts all copies in one.
    """
    most = eot_samples if at_once is None else max(1, at_once // max(1, len(x)))
    for done in range(0, eot_samples, most):
        k = min(most, eot_samples - done)
        yield k, x.repeat(k, *[1] * (x.ndim - 1))
