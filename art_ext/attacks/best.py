"""Keeping the best of what an attack has found so far."""

from __future__ import annotations

import torch
from torch import Tensor

from art_ext.attacks.losses import Loss
from art_ext.attacks.norms import per_sample


class Best:
    """Each sample's image of highest score so far, or simply the last one offered when there is no score.

    A score of NaN counts as the lowest, inf as the highest.

    Args:
        score: images (N, C, H, W) to one value each, (N,).
        x: the first images offered.
        value: their scores, where they are known.
    """

    def __init__(self, score: Loss | None, x: Tensor, value: Tensor | None = None) -> None:
        self.score, self.x = score, x
        self.value = self._rate(x, value)

    def _rate(self, x: Tensor, value: Tensor | None) -> Tensor | None:
        if value is None:
            if self.score is None:
                return None
            with torch.no_grad():
                value = self.score(x)
        return value.nan_to_num(-torch.inf, torch.inf, -torch.inf)

    def offer(self, x: Tensor, value: Tensor | None = None) -> None:
        """Takes the images (N, C, H, W) whose score is higher; `value` is their scores (N,), where they are known."""
        value = self._rate(x, value)
        if value is None or self.value is None:
            self.x = x
            return
        better = value > self.value
        self.x = torch.where(per_sample(better, x), x, self.x)
        self.value = torch.where(better, value, self.value)

    def rows(self, chosen: Tensor) -> Best:
        """The best of some of the images, given as indices or as a mask (N,), as it is now."""
        assert self.value is not None
        return Best(None, self.x[chosen], self.value[chosen])
