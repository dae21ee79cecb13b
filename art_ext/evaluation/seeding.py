"""Randomness that belongs to a block of images: the same whatever runs beside it, before it, or on which machine."""

from __future__ import annotations

import hashlib

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
