"""Batches of images: several samples of a randomised network in one, and one made of several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def copies_of(x: Tensor, eot_samples: int, at_once: int | None) -> Iterator[tuple[int, Tensor]]:
    """Batches that hold x (N, ...) `eot_samples` times in all: how often each does, k, and itself (k * N, ...).

    A batch has at most `at_once` images, but never fewer than x has; None puts all copies in one.
    """
    for k in copies(len(x), eot_samples, at_once):
        yield k, repeated(x, k)


def copies(images: int, eot_samples: int, at_once: int | None) -> Iterator[int]:
    """How often each batch of `copies_of` holds its images."""
    most = eot_samples if at_once is None else max(1, at_once // max(1, images))
    for done in range(0, eot_samples, most):
        yield min(most, eot_samples - done)


def repeated(x: Tensor, k: int) -> Tensor:
    """x (N, ...) k times, one after the other, (k * N, ...)."""
    return x.repeat(k, *[1] * (x.ndim - 1))


def joined(parts: Iterable[Tensor], rows: int) -> Tensor:
    """Parts one after the other, (rows, ...), as `torch.cat` gives them.

    Without gradients each part is let go before the next is made, so that memory is that of the whole and one part.
    """
    remaining = iter(parts)
    first = next(remaining)
    if len(first) == rows:
        return first
    if first.requires_grad:
        return torch.cat([first, *remaining])
    last = first.ndim == 4 and not first.is_contiguous() and first.is_contiguous(memory_format=torch.channels_last)
    form = torch.channels_last if last else torch.contiguous_format
    whole = torch.empty((rows, *first.shape[1:]), dtype=first.dtype, device=first.device, memory_format=form)
    whole[: len(first)] = first
    done = len(first)
    del first
    for part in remaining:
        whole[done : done + len(part)] = part
        done += len(part)
    return whole


def in_slices(function: Callable[[NDArray[Any]], NDArray[Any]], x: NDArray[Any], size: int) -> NDArray[Any]:
    """function(x), from `size` rows of x (N, ...) at once, so that what it copies is copied of these alone."""
    if size < 1 or len(x) <= size:
        return function(x)
    return np.concatenate([function(x[at : at + size]) for at in range(0, len(x), size)])
