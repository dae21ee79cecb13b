"""The unit of work, of seeding and of storage: 32 images of one attack on one model."""

from __future__ import annotations

from collections.abc import Iterator

BLOCK = 32


def blocks(images: int, shard: tuple[int, int] = (0, 1)) -> Iterator[tuple[int, slice]]:
    """Number and rows of the blocks of the first so many images.

    Args:
        images: in all; the last block may have fewer than `BLOCK`.
        shard: (i, n) gives the blocks i, i + n, i + 2n, ...
    """
    for number, start in enumerate(range(0, images, BLOCK)):
        if number % shard[1] == shard[0]:
            yield number, slice(start, min(start + BLOCK, images))


def rows_of(number: int, images: int) -> slice:
    """The rows of one block of the first so many images."""
    return slice(number * BLOCK, min((number + 1) * BLOCK, images))
