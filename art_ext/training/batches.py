"""Mini-batches in an order that a seed and the epoch fix alone, so that a killed run can resume anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from art_ext.nn.hashing import sha256
from art_ext.nn.identity import identity
from art_ext.plain import number, seed_of


class Batches:
    """Deterministic mini-batches of images and labels; the last, smaller one of an epoch is kept.

    Args:
        x: images (N, C, H, W).
        y: labels (N,), or None.
        batch_size: images a batch.
        seed: with the index of the epoch it fixes the order, whatever the ambient generator does.
        augment: applied to the images of each batch; draws from the ambient generator.
        shuffle: whether the order is random; otherwise it is that of x.

    Raises:
        TypeError: batch_size or seed is no whole number.
        ValueError: if batch_size is not positive, seed is negative, or x and y differ in length.
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor | None = None,
        *,
        batch_size: int,
        seed: int = 0,
        augment: Callable[[Tensor], Tensor] | None = None,
        shuffle: bool = True,
    ) -> None:
        batch_size, seed = number(batch_size, "batch_size", whole=True, at_least=1), seed_of(seed)
        if y is not None and len(x) != len(y):
            raise ValueError(f"expected one label an image, got {len(x)} images and {len(y)} labels")
        self.x = x
        self.y = y
        self.batch_size = batch_size
        self.seed = seed
        self.augment = augment
        self.shuffle = shuffle

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.x) // self.batch_size)

    def identity(self) -> dict[str, Any]:
        """What the batches are made of, for the checkpoint of a training; images and labels as hashes."""
        return {
            "images": sha256([self.x]),
            "labels": None if self.y is None else sha256([self.y]),
            "batch size": self.batch_size,
            "seed": self.seed,
            "shuffle": self.shuffle,
            "augmentation": None if self.augment is None else identity(self.augment).sha256,
        }

    def epoch(self, index: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The batches (images, labels or None) of epoch `index` from batch `start` on, as copies.

        Batches before `start` are neither copied nor augmented, so they leave the ambient generator alone.

        Raises:
            ValueError: if index is negative, or start is not between 0 and the number of batches.
        """
        if index < 0:
            raise ValueError(f"expected an epoch index of at least 0, got {index}")
        if not 0 <= start <= len(self):
            raise ValueError(f"expected start from 0 to {len(self)}, got {start}")
        return self._batches(self._order(index), start)

    def _order(self, index: int) -> Tensor:
        """The positions in x (N,) as epoch `index` visits them."""
        if not self.shuffle:
            return torch.arange(len(self.x))
        # SeedSequence mixes the two: with seed + index, epoch 1 of seed 0 would be epoch 0 of seed 1.
        mixed = np.random.SeedSequence([self.seed, index]).generate_state(1, np.uint64)[0]
        return torch.randperm(len(self.x), generator=torch.Generator().manual_seed(int(mixed)))

    def _batches(self, order: Tensor, start: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        for first in range(start * self.batch_size, len(order), self.batch_size):
            chosen = order[first : first + self.batch_size]
            x = self.x[chosen.to(self.x.device)]
            y = None if self.y is None else self.y[chosen.to(self.y.device)]
            yield (x if self.augment is None else self.augment(x)), y
