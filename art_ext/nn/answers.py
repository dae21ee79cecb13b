"""The class that a network answers with."""

from __future__ import annotations

import torch
from torch import Tensor


def predicted(logits: Tensor) -> Tensor:
    """The class of the largest logit, (N,) int64, from logits (N, K); -1 where a row holds NaN or infinity.

    No label is -1, so a row that is not finite is a wrong answer, whatever the label: `argmax` of NaN would be 0.
    """
    return logits.argmax(1).masked_fill(~torch.isfinite(logits).all(1), -1)
