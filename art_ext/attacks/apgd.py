"""Auto-PGD: projected gradient ascent with momentum that chooses its own step size."""

from __future__ import annotations

import torch
from torch import Tensor

from art_ext.attacks.active import Leave, Looks, Seen, split
from art_ext.attacks.best import Best
from art_ext.attacks.gradient import Ascent
from art_ext.attacks.losses import Loss
from art_ext.attacks.norms import Norm, finite, per_sample
from art_ext.attacks.renamed import renamed
from art_ext.images import asking_once

ALPHA = 0.75
"""Share of the gradient step in a move; the rest is the last move again."""


@renamed(draws="eot_samples")
@asking_once()
def apgd(  # noqa: PLR0913  those of the paper, of EOT and of active sets
    loss: Loss,
    x: Tensor,
    *,
    norm: Norm,
    eps: float,
    steps: int = 100,
    restarts: int = 1,
    eot_samples: int = 1,
    rho: float = 0.75,
    score: Loss | None = None,
    at_once: int | None = None,
    leave: Leave | None = None,
) -> Tensor:
    """Images (N, C, H, W) within eps of x and within [0, 1] [Croce & Hein 2020, arXiv:2003.01690, Algorithm 1].

    The step begins at 2 * eps. At the checkpoints it is halved for the samples that ascend too seldom, and they go on
    from the best point that they have seen. One image's result does not depend on the others, given its start.
    Differs from the paper: it returns the best point by `score`, where there is one, not that of highest loss; an
    image whose losses are all NaN stays clean.

    Args:
        loss: per sample, to be ascended, such as `cross_entropy` or `dlr`.
        x: clean images in [0, 1].
        norm: `Linf()` or `L2()`.
        eps: radius of the ball, in the units of x.
        steps: moves of one run. A run takes steps + 1 passes and steps gradients, times eot_samples; a score that is
            not one of the same model's logits takes as many passes of its own.
        restarts: runs, each from a random point of the ball, from the ambient generator. An image that one run leaves
            with a score above 0 is settled, and no run begins when all are.
        eot_samples: losses and gradients are means over so many samples of a randomised model (EOT), run as copies in
            one batch.
        rho: share of the moves between two checkpoints that must raise the loss, in [0, 1].
        score: positive where the attack succeeded, such as `margin`. Each image's point of highest score is returned;
            that of highest loss unless given.
        at_once: the most images of one call under EOT, never fewer than the images; all copies unless given.
        leave: an image leaves the run, as it is, when its score is above 0, and later runs leave it out; see `pgd`.

    Raises:
        TypeError: leave with a loss or score that is not one of logits.
        ValueError: L1, which needs another algorithm; leave without a score; eps or steps negative; restarts,
            eot_samples or at_once below 1; rho outside [0, 1].
    """
    _check(norm, eps, steps, restarts, rho)
    if eot_samples < 1 or (at_once is not None and at_once < 1):
        raise ValueError(
            f"expected eot_samples >= 1 and at_once >= 1, got eot_samples={eot_samples} and at_once={at_once}"
        )
    if leave is not None and score is None:
        raise ValueError("expected a score with leave, got none")
    x = x.detach()
    looks = Looks(Ascent(loss, eot_samples, at_once), score, with_loss=True, leave=leave)
    found, value = x.clone(), x.new_full((len(x),), -torch.inf)
    settled = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for _ in range(restarts):
        start = (x + norm.sample(x, eps)).clamp(0, 1)
        best, rating, gone = found.clone(), value.clone(), settled.clone()
        left, _ = split(settled if leave is not None else torch.zeros_like(settled))
        best[left], rating[left], gone[left] = _run(
            looks if len(left) == len(x) else looks.rows(left), x[left], start[left], norm, eps, steps, rho
        )
        better = (rating > value) & ~settled
        found, value = torch.where(per_sample(better, x), best, found), torch.where(better, rating, value)
        if score is not None:
            # One pass of a randomised model that scores above 0 settles nothing: what has left does.
            settled = gone if leave is not None else value > 0
            if bool(settled.all()):
                break
    return found


def checkpoints(steps: int) -> list[int]:
    """The numbers of moves w_j after which the step size is judged, 0 first [arXiv:2003.01690, section 3.2].

    w_j = ceil(p_j * steps), where p_0 = 0, p_1 = 0.22 and p_j+1 = p_j + max(p_j - p_j-1 - 0.03, 0.06), in hundredths so
    that no float error enters.
    """
    shares, gap = [0], 22
    while shares[-1] + gap <= 100:
        shares.append(shares[-1] + gap)
        gap = max(gap - 3, 6)
    return sorted({-(-share * steps // 100) for share in shares})


class _Climb:
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
        wide = per_sample(self.halved, self.x)
        self.x = torch.where(wide, self.best, self.x)
        self.gradient = torch.where(wide, self.best_gradient, self.gradient)
        self.loss = torch.where(self.halved, self.best_loss, self.loss)
        self.rises = torch.zeros_like(self.rises)
        self.best_at_checkpoint = self.best_loss

    def keep(self, kept: Tensor) -> None:
        """Forgets the images that are not among these indices."""
        for name, value in vars(self).items():
            setattr(self, name, value[kept])


def _run(
    looks: Looks,
    x: Tensor,
    start: Tensor,
    norm: Norm,
    eps: float,
    steps: int,
    rho: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The best point of one run, how it is rated, (N,), which is inf for the images that left, and which did, (N,)."""
    found, rating = start.clone(), x.new_full((len(x),), -torch.inf)
    left = torch.arange(len(x), device=x.device)
    judged, last = set(checkpoints(steps)) - {0}, 0
    climb: _Climb | None = None
    rated = Best(None, start, rating)
    for step in range(steps + 1):
        at = start if climb is None else climb.aim(norm, eps, first=step == 1)
        seen = looks(at, backward=step < steps)
        loss, gradient = _usable(seen, at)
        if climb is None:
            climb = _Climb(x, at, (loss, gradient), 2 * eps)
        else:
            climb.move(at, loss, gradient)
        rated.offer(at, loss if seen.score is None else seen.score)
        parted = looks.parted(at, seen, step)
        if parted is not None:
            kept, gone = parted
            found[left[gone]], rating[left[gone]] = at[gone], torch.inf
            looks, rated, left = looks.rows(kept), rated.rows(kept), left[kept]
            climb.keep(kept)
            if not len(left):
                break
        if step in judged:
            climb.judge(step - last, rho)
            last = step
    assert rated.value is not None
    found[left], rating[left] = rated.x, rated.value
    out = torch.ones_like(rating, dtype=torch.bool)
    out[left] = False
    return found, rating, out


def _usable(seen: Seen, x: Tensor) -> tuple[Tensor, Tensor]:
    """Losses, in which NaN counts as the lowest, and gradients with 0 for what is not finite or was not asked for."""
    assert seen.loss is not None  # a NaN compares as false for ever
    gradient = torch.zeros_like(x) if seen.gradient is None else finite(seen.gradient)
    return seen.loss.nan_to_num(-torch.inf, torch.inf, -torch.inf), gradient


def _check(norm: Norm, eps: float, steps: int, restarts: int, rho: float) -> None:
    if norm.name not in ("Linf", "L2"):
        raise ValueError(f"expected norm Linf or L2, got {norm.name}")
    if not (0 <= eps < float("inf") and steps >= 0 and restarts >= 1):
        raise ValueError(
            f"expected eps >= 0, steps >= 0 and restarts >= 1, got eps={eps}, steps={steps} and restarts={restarts}"
        )
    if not 0 <= rho <= 1:
        raise ValueError(f"expected rho in [0, 1], got {rho}")
