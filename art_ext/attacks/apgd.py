"""Auto-PGD: projected gradient ascent with momentum that chooses its own step size."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from art_ext.attacks.best import Best
from art_ext.attacks.losses import Loss
from art_ext.attacks.norms import Norm, finite, per_sample
from art_ext.attacks.renamed import renamed
from art_ext.nn.copies import copies_of

ALPHA = 0.75
"""Share of the gradient step in a move; the rest is the last move again."""
Evaluate = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Images (N, C, H, W) to their losses (N,) and the gradients (N, C, H, W)."""


@renamed(draws="eot_samples")
def apgd(
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
        steps: moves of one run. A run takes steps + 1 gradients (times eot_samples) and as many evaluations of
            the score.
        restarts: runs, each from a random point of the ball, from the ambient generator. An image that one run leaves
            with a score above 0 is settled, and no run begins when all are.
        eot_samples: losses and gradients are means over so many samples of a randomised model (EOT), run as copies in
            one batch.
        rho: share of the moves between two checkpoints that must raise the loss, in [0, 1].
        score: positive where the attack succeeded, such as `margin`. Each image's point of highest score is returned;
            that of highest loss unless given.
        at_once: the most images of one call under EOT, never fewer than the images; all copies unless given.

    Raises:
        ValueError: L1, which needs another algorithm; eps or steps negative; restarts, eot_samples or at_once below 1;
            rho outside [0, 1].
    """
    _check(norm, eps, steps, restarts, rho)
    if eot_samples < 1 or (at_once is not None and at_once < 1):
        raise ValueError(
            f"expected eot_samples >= 1 and at_once >= 1, got eot_samples={eot_samples} and at_once={at_once}"
        )
    x = x.detach()
    found, value = x.clone(), x.new_full((len(x),), -torch.inf)
    settled = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for _ in range(restarts):
        start = (x + norm.sample(x, eps)).clamp(0, 1)
        best, rating = _run(lambda v: _mean(loss, v, eot_samples, at_once), x, start, norm, eps, steps, rho, score)
        better = (rating > value) & ~settled
        found, value = torch.where(per_sample(better, x), best, found), torch.where(better, rating, value)
        if score is not None:
            settled = value > 0
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
        evaluate: losses and gradients.
        start: images (N, C, H, W).
        step_size: of the first moves.
    """

    def __init__(self, evaluate: Evaluate, start: Tensor, step_size: float) -> None:
        self.evaluate = evaluate
        self.x = self.before = start
        self.loss, self.gradient = evaluate(start)
        # A NaN compares as false for ever; it counts as the lowest loss.
        self.loss = self.loss.nan_to_num(-torch.inf, torch.inf, -torch.inf)
        self.best, self.best_loss, self.best_gradient = start, self.loss, self.gradient
        self.step_size = start.new_full((len(start),), step_size)
        self.rises = torch.zeros_like(self.loss)
        self.best_at_checkpoint = self.best_loss
        self.halved = torch.zeros_like(self.loss, dtype=torch.bool)

    def move(self, x: Tensor) -> None:
        loss, gradient = self.evaluate(x)
        loss = loss.nan_to_num(-torch.inf, torch.inf, -torch.inf)
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


def _run(
    evaluate: Evaluate,
    x: Tensor,
    start: Tensor,
    norm: Norm,
    eps: float,
    steps: int,
    rho: float,
    score: Loss | None,
) -> tuple[Tensor, Tensor]:
    """The best point of one run and how it is rated, (N,)."""

    def inside(moved: Tensor) -> Tensor:
        return (x + norm.project(moved - x, eps)).clamp(0, 1)

    climb, rated = _Climb(evaluate, start, 2 * eps), Best(score, start)
    judged, last = set(checkpoints(steps)) - {0}, 0
    for step in range(1, steps + 1):
        here = climb.x
        aim = inside(here + per_sample(climb.step_size, x) * norm.direction(climb.gradient, here))
        if step > 1:
            aim = inside(here + ALPHA * (aim - here) + (1 - ALPHA) * (here - climb.before))
        climb.move(aim)
        if score is not None:
            rated.offer(aim)
        if step in judged:
            climb.judge(step - last, rho)
            last = step
    return (climb.best, climb.best_loss) if rated.value is None else (rated.x, rated.value)


def _mean(loss: Loss, x: Tensor, eot_samples: int, at_once: int | None) -> tuple[Tensor, Tensor]:
    """Losses (N,) and gradients (N, C, H, W), each the mean over copies in a batch, as in `eot`.

    An entry of the gradient that is not finite counts as 0.
    """
    losses, gradients = x.new_zeros(len(x)), torch.zeros_like(x)
    for k, batch in copies_of(x.detach(), eot_samples, at_once):
        batch.requires_grad_()
        with torch.enable_grad():
            value = loss(batch)
            gradient = torch.autograd.grad(value.sum(), batch)[0]
        losses = losses + value.detach().view(k, len(x)).sum(0)
        gradients += gradient.view(k, *x.shape).sum(0)
    return losses / eot_samples, finite(gradients / eot_samples)


def _check(norm: Norm, eps: float, steps: int, restarts: int, rho: float) -> None:
    if norm.name not in ("Linf", "L2"):
        raise ValueError(f"expected norm Linf or L2, got {norm.name}")
    if not (0 <= eps < float("inf") and steps >= 0 and restarts >= 1):
        raise ValueError(
            f"expected eps >= 0, steps >= 0 and restarts >= 1, got eps={eps}, steps={steps} and restarts={restarts}"
        )
    if not 0 <= rho <= 1:
        raise ValueError(f"expected rho in [0, 1], got {rho}")
