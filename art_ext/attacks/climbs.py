"""How Auto-PGD moves: with momentum in Linf and L2, along sparse steps of adaptive size in L1."""

from __future__ import annotations

import torch
from torch import Tensor

from art_ext.attacks.norms import L1, Norm, per_sample

ALPHA = 0.75
"""Share of the gradient step in a move; the rest is the last move again."""
SHARE, THINNED, SLOWER, SMALLEST, AS_SPARSE = 0.2, 1.5, 1.5, 0.1, 0.95
"""Of L1 [Croce & Hein 2021]: pixels of the first step; divisors of that share and of the step size at a checkpoint; the
smallest step size, of eps; the ratio below which a point counts as sparser than the last."""


class Climb:
    """Where each sample stands, the best it has seen, and what it did since the last checkpoint.

    Args:
        x: clean images (N, C, H, W).
        start: where the run begins.
        seen: loss and gradient there.
        step_size: of the first moves.
    """

    def __init__(self, x: Tensor, start: Tensor, seen: tuple[Tensor, Tensor], step_size: float) -> None:
        self.clean, self.x, self.before = x, start, start
        self.loss, self.gradient = seen
        self.best, self.best_loss, self.best_gradient = start, self.loss, self.gradient
        self.step_size = start.new_full((len(start),), step_size)
        self.rises = torch.zeros_like(self.loss)
        self.best_at_checkpoint = self.best_loss
        self.halved = torch.zeros_like(self.loss, dtype=torch.bool)

    def aim(self, norm: Norm, eps: float, first: bool) -> Tensor:
        """The next points: a step along the gradient, and a share of the last move again."""

        def inside(moved: Tensor) -> Tensor:
            return (self.clean + norm.project(moved - self.clean, eps)).clamp(0, 1)

        aim = inside(self.x + per_sample(self.step_size, self.x) * norm.direction(self.gradient, self.x))
        if first:
            return aim
        return inside(self.x + ALPHA * (aim - self.x) + (1 - ALPHA) * (self.x - self.before))

    def move(self, x: Tensor, loss: Tensor, gradient: Tensor) -> None:
        """Goes to x, whose loss and gradient are known."""
        self.rises = self.rises + (loss > self.loss)
        self.before, self.x, self.loss, self.gradient = self.x, x, loss, gradient
        better = loss > self.best_loss
        wide = per_sample(better, x)
        self.best = torch.where(wide, x, self.best)
        self.best_gradient = torch.where(wide, gradient, self.best_gradient)
        self.best_loss = torch.where(better, loss, self.best_loss)

    def judge(self, moves: int, rho: float) -> None:
        """Halves the step and goes back to the best point where condition 1 or condition 2 holds."""
        seldom = self.rises < rho * moves
        stuck = ~self.halved & (self.best_loss == self.best_at_checkpoint)
        self.halved = seldom | stuck
        self.step_size = torch.where(self.halved, self.step_size / 2, self.step_size)
        self.back(self.halved)
        self.rises = torch.zeros_like(self.rises)
        self.best_at_checkpoint = self.best_loss

    def back(self, chosen: Tensor) -> None:
        """Goes back to the best point where `chosen`, (N,), is true."""
        wide = per_sample(chosen, self.x)
        self.x = torch.where(wide, self.best, self.x)
        self.gradient = torch.where(wide, self.best_gradient, self.gradient)
        self.loss = torch.where(chosen, self.best_loss, self.loss)

    def keep(self, kept: Tensor) -> None:
        """Forgets the images that are not among these indices."""
        for name, value in vars(self).items():
            setattr(self, name, value[kept])


class SparseClimb(Climb):
    """In L1 there is no momentum, and a step changes the pixels of the largest gradients alone.

    At a checkpoint the share of these pixels becomes that which the best point differs in, divided by 1.5. Where the
    best point has become sparser, the step is eps again and goes on from there; elsewhere it shrinks by 1.5
    [Croce & Hein 2021, arXiv:2103.01208, Algorithm 1].
    """

    def __init__(self, x: Tensor, start: Tensor, seen: tuple[Tensor, Tensor], step_size: float) -> None:
        super().__init__(x, start, seen, step_size)
        self.largest = self.step_size
        changed, pixels = self._changed(start), x[0].numel()
        self.changed = torch.where(changed > 0, changed, pixels)
        self.share = torch.where(changed > 0, changed / pixels / THINNED, SHARE)

    def aim(self, norm: Norm, eps: float, first: bool) -> Tensor:
        """The next points: a sparse step along the gradient, projected onto the part of the ball in [0, 1]."""
        size = self.gradient.abs().flatten(1)
        pixels = size.shape[1]
        count = (self.share * pixels).long().clamp(1, pixels)
        least = size.sort(dim=1, descending=True).values.gather(1, count[:, None] - 1).squeeze(1)
        step = self.gradient.sign() * (self.gradient.abs() >= per_sample(least, self.gradient))
        step = step / per_sample(step.abs().flatten(1).sum(1).clamp_min(1), step)
        moved = self.x + per_sample(self.step_size, step) * step
        return self.clean + L1().project_in_box(moved - self.clean, eps, self.clean)

    def judge(self, moves: int, rho: float) -> None:
        """Adapts share and step size, and goes back to the best point where that has become sparser."""
        changed = self._changed(self.best)
        sparser = changed / self.changed < AS_SPARSE
        self.share, self.changed = changed / self.x[0].numel() / THINNED, changed.clamp_min(1)
        slower = torch.maximum(self.step_size / SLOWER, SMALLEST * self.largest)
        self.step_size = torch.where(sparser, self.largest, slower)
        self.back(sparser)

    def _changed(self, x: Tensor) -> Tensor:
        """How many values of each image are not the clean ones, (N,)."""
        return (x != self.clean).flatten(1).sum(1).to(self.clean.dtype)
