"""The images of a batch that an attack still works on, and what a pass of them shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from art_ext.attacks.gradient import Ascent, Gradient, Pass
from art_ext.attacks.losses import LogitLoss, Loss

EVERY = 4
"""Steps between two looks for images that leave, where a look has to wait for a device; on the CPU each step looks."""
CONFIRMED_BY = 20
"""The fewest passes of a randomised model that must all misclassify an image before an attack gives it up as broken."""


@dataclass(frozen=True)
class Leave:
    """When an image is taken out of the batch: once its score is above 0, and stays so.

    On a GPU it is looked for leavers every `EVERY` steps; who was broken in between and is no more goes on, and the
    attack still returns the point of highest score.

    Args:
        confirm: further passes of a randomised model that must all give a score above 0; 0 for a deterministic one.
        by: the score of those passes, where it is not that of the attack: of one sample, beside a score of a mean.
    """

    confirm: int = 0
    by: LogitLoss | None = None

    def __post_init__(self) -> None:
        if self.confirm < 0:
            raise ValueError(f"expected confirm >= 0, got {self.confirm}")


class Seen(NamedTuple):
    """What one look at the images shows: gradient (N, C, H, W), loss (N,), score (N,), and broken (N,)."""

    gradient: Tensor | None
    loss: Tensor | None
    score: Tensor | None
    broken: Tensor | None


class Looks:
    """Gradients of images and their scores, of one forward pass where the score is one of the same model's logits.

    Args:
        gradient: ascent direction.
        score: positive where the attack succeeded.
        at_images: gradients are taken at the images that are scored.
        with_loss: the loss is wanted where no gradient is, too.
        leave: when images leave; none does unless given.
    """

    def __init__(
        self, gradient: Gradient, score: Loss | None, *, at_images: bool = True, with_loss: bool = False,
        leave: Leave | None = None,
    ) -> None:  # fmt: skip
        self.gradient, self.score, self.at_images, self.with_loss = gradient, score, at_images, with_loss
        self.leave = leave

    @property
    def shared(self) -> bool:
        """Whether gradient and score come from one pass."""
        a, b = getattr(self.gradient, "loss", None), self.score
        return self.at_images and isinstance(a, LogitLoss) and isinstance(b, LogitLoss) and a.model is b.model

    def rows(self, chosen: Tensor) -> Looks:
        """The records of some of the N images, given as a mask (N,) or as indices."""
        score, leave = self.score, self.leave
        if leave is not None and leave.by is not None:
            leave = Leave(leave.confirm, leave.by.rows(chosen))
        return Looks(
            _rows(self.gradient, chosen), None if score is None else _rows(score, chosen),
            at_images=self.at_images, with_loss=self.with_loss, leave=leave,
        )  # fmt: skip

    def __call__(self, x: Tensor, *, at: Tensor | None = None, backward: bool = True) -> Seen:
        """Scores at x (N, C, H, W), gradients at `at`, which is x unless given."""
        if self.shared:
            assert isinstance(self.gradient, Ascent)
            return self._of_one_pass(self.gradient.at(x, backward=backward))
        score = None
        if self.score is not None:
            with torch.no_grad():
                score = self.score(x)
        broken = None if score is None else score > 0
        at = x if at is None else at
        if isinstance(self.gradient, Ascent) and (backward or self.with_loss):
            found = self.gradient.at(at, backward=backward)
            return Seen(found.gradient, found.loss, score, broken)
        return Seen(self.gradient(at) if backward else None, None, score, broken)

    def _of_one_pass(self, found: Pass) -> Seen:
        assert isinstance(self.score, LogitLoss)
        assert found.logits is not None
        score = self.score.of(found.logits[0] if len(found.logits) == 1 else _mean(found.logits))
        broken = score > 0
        if len(found.logits) > 1:  # of every sample, not of the mean
            broken = torch.stack([self.score.of(logits) > 0 for logits in found.logits]).all(0)
        return Seen(found.gradient, found.loss, score, broken)

    def staying(self, x: Tensor, seen: Seen) -> Tensor | None:
        """Which images x (N, C, H, W) stay in the batch after what was seen of them, (N,); None where all do."""
        parted = self.parted(x, seen)
        return (
            None
            if parted is None
            else torch.ones(len(x), dtype=torch.bool, device=x.device).index_fill(0, parted[1], False)
        )

    def parted(self, x: Tensor, seen: Seen, step: int = 0) -> tuple[Tensor, Tensor] | None:
        """Indices of the images x (N, C, H, W) that stay in the batch after a step, and of those that leave.

        None where all stay. The device is waited for once, and once more for each further pass that confirms.
        """
        if self.leave is None or seen.broken is None or not due(step, x.device):
            return None
        kept, gone = split(seen.broken)
        if len(gone) and self.leave.confirm:
            broken = torch.zeros_like(seen.broken)
            broken[gone] = self.rows(gone)._confirmed(x[gone])
            kept, gone = split(broken)
        return (kept, gone) if len(gone) else None

    def _confirmed(self, x: Tensor) -> Tensor:
        """Whether each of the further passes gives a score above 0, (N,)."""
        assert self.leave is not None
        score = self.leave.by or self.score
        assert score is not None
        still = torch.ones(len(x), dtype=torch.bool, device=x.device)
        with torch.no_grad():
            for _ in range(self.leave.confirm):
                still &= score(x) > 0
                if not bool(still.any()):
                    break
        return still


def due(step: int, device: torch.device) -> bool:
    """Whether this step reads values back from the device, which waits for it: each step on the CPU, some elsewhere."""
    return device.type == "cpu" or step % EVERY == 0


def split(flags: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of the rows whose flag (N,) is not set, and of those whose is, rising; the device is waited for once."""
    order = flags.to(torch.uint8).argsort(dim=0, stable=True)
    unset = len(flags) - int(flags.sum())
    return order[:unset], order[unset:]


def _mean(logits: Tensor) -> Tensor:
    """Mean of the samples (S, N, K) that are finite, (N, K); NaN where none is.

    One sample in many that gives NaN is one wrong answer, and not the best that an iterate can be.
    """
    return logits.masked_fill(~torch.isfinite(logits).all(2, keepdim=True), torch.nan).nanmean(0)


def _rows(of: Any, chosen: Tensor) -> Any:
    if not hasattr(of, "rows"):
        raise TypeError(f"expected a loss of logits, whose images can leave one by one, got {of!r}")
    return of.rows(chosen)
