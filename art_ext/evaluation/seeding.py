"""Randomness that belongs to a block of images: the same whatever runs beside it, before it, or on which machine."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from art_ext.nn.modes import seeded

SCHEME = "sha256 of (seed, purpose, block, repeat), first 8 bytes; torch's, numpy's and Python's generators"
"""How the seed of a block is made, for the report."""


def block_seed(seed: int, purpose: str, block: int, repeat: int = 0) -> int:
    """The seed of one block of images.

    Args:
        seed: of the evaluation, or of a job.
        purpose: what is drawn, such as "attack" or "answers".
        block: its number.
        repeat: the number of the repeat.
    """
    text = f"{seed}|{purpose}|{block}|{repeat}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@contextmanager
def all_seeded(seed: int) -> Iterator[None]:
    """Ambient randomness of torch, numpy (ART draws from it) and Python from a seed; all go on undisturbed after."""
    state, pythons = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        with seeded(seed):
            yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
        random.setstate(pythons)
