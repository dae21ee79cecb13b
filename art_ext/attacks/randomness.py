"""Randomised models as an attacker sees them: averaged over samples of their randomness, or under a fixed one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from art_ext.attacks.renamed import renamed
from art_ext.nn.checkpointing import Pieces, checkpointed
from art_ext.nn.copies import copies, repeated
from art_ext.nn.modes import seeded

AVERAGES = ("logits", "gradients")


class Averaged(nn.Module):
    """Logits averaged over samples of a randomised model: EOT for any library [Athalye et al. 2018, arXiv:1707.07397].

    A library that differentiates it gets the gradient of its loss at the mean logits. What averages the gradients of
    the samples' own losses instead needs to know the samples: it reads `average` and attacks `module`.

    Where the samples take several passes, each is checkpointed: its activations are computed again, from the same
    draws, in the backward pass, so that memory is that of one pass.

    Args:
        module: images (N, C, H, W) to logits (N, K).
        eot_samples: passes to average.
        average: "logits" or "gradients", for those who can choose.
        at_once: the most images of one pass; all of them in one batch unless given, and never less than the images.

    Raises:
        ValueError: fewer than one sample, or another average.
    """

    @renamed(draws="eot_samples")
    def __init__(
        self, module: nn.Module, eot_samples: int, average: str = "logits", at_once: int | None = None
    ) -> None:
        super().__init__()
        if eot_samples < 1 or (at_once is not None and at_once < 1):
            raise ValueError(
                f"expected eot_samples >= 1 and at_once >= 1, got eot_samples={eot_samples} and at_once={at_once}"
            )
        if average not in AVERAGES:
            raise ValueError(f"expected average to be one of {', '.join(AVERAGES)}; got {average!r}")
        self.module, self.eot_samples, self.average, self.at_once = module, eot_samples, average, at_once

    @property
    def draws(self) -> int:
        """The old name of `eot_samples`."""
        return self.eot_samples

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor | None = None
        for summed in self._sums(x):
            total = summed if total is None else total + summed
        assert total is not None
        return total / self.eot_samples

    def _sums(self, x: Tensor) -> Iterator[Tensor]:
        """Logits (N, K) added up over the samples of each pass."""
        if isinstance(self.module, Pieces) and self.module.cuts(x):  # which checkpoints them itself
            yield from (self.module(x) for _ in range(self.eot_samples))
            return
        passes = list(copies(len(x), self.eot_samples, self.at_once))
        if len(passes) == 1:
            yield self._sum(x, passes[0])
            return
        for k in passes:
            yield checkpointed(partial(self._sum, k=k), x, self.module)

    def _sum(self, x: Tensor, k: int) -> Tensor:
        logits: Tensor = self.module(repeated(x, k))
        return logits.view(k, len(x), *logits.shape[1:]).sum(0)


class Frozen(nn.Module):
    """A randomised model under one fixed sample, the same for every image and every call, in whatever batch it comes.

    Images pass one by one, each from the same seed; the ambient generator goes on undisturbed. What a frozen model
    survives is not owed to randomness.

    Args:
        module: images (N, C, H, W) to logits (N, K).
        seed: of that sample.
    """

    def __init__(self, module: nn.Module, seed: int) -> None:
        super().__init__()
        self.module, self.seed = module, seed

    def forward(self, x: Tensor) -> Tensor:
        rows = []
        for image in x.split(1):
            with seeded(self.seed):
                rows.append(self.module(image))
        return torch.cat(rows)
