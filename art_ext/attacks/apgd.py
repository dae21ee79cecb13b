"""Auto-PGD: projected gradient ascent with momentum that chooses its own step size."""

from __future__ import annotations

import torch
from torch import Tensor

from art_ext.attacks.active import Leave, Looks, Seen, split
from art_ext.attacks.best import Best
from art_ext.attacks.climbs import Climb, SparseClimb
from art_ext.attacks.gradient import Ascent
from art_ext.attacks.losses import Loss
from art_ext.attacks.norms import L1, NORMS, Norm, finite, per_sample
from art_ext.attacks.renamed import renamed
from art_ext.images import asking_once

WIDER = ((3, 0.3), (2, 0.3))
"""In L1: the radii, in eps, of the balls that are climbed before the ball itself, and their shares of the steps."""
EVERY = 0.04
"""In L1: share of the steps between two checkpoints."""


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
    In L1 it is APGD of Croce & Hein 2021 [arXiv:2103.01208]: sparse steps without momentum, an exact projection onto
    the part of the ball in [0, 1], and three balls, of 3, 2 and 1 times eps, which 30, 30 and 40 % of the steps climb
    one after the other.
    Differs from the papers: it returns the best point by `score`, where there is one, not that of highest loss; an
    image whose losses are all NaN stays clean.

    Args:
        loss: per sample, to be ascended, such as `cross_entropy` or `dlr`.
        x: clean images in [0, 1].
        norm: `Linf()`, `L2()` or `L1()`, whose `share` is not used.
        eps: radius of the ball, in the units of x.
        steps: moves of one run. A run takes steps + 1 passes and steps gradients, times eot_samples; a score that is
            not one of the same model's logits takes as many passes of its own.
        restarts: runs, each from a random point of the ball, from the ambient generator. An image that one run leaves
            with a score above 0 is settled, and no run begins when all are.
        eot_samples: losses and gradients are means over so many samples of a randomised model (EOT), run as copies in
            one batch.
        rho: share of the moves between two checkpoints that must raise the loss, in [0, 1]; not used in L1.
        score: positive where the attack succeeded, such as `margin`. Each image's point of highest score is returned;
            that of highest loss unless given.
        at_once: the most images of one call under EOT, never fewer than the images; all copies unless given.
        leave: an image leaves the run, as it is, when its score is above 0, and later runs leave it out; see `pgd`.

    Raises:
        TypeError: leave with a loss or score that is not one of logits.
        ValueError: another norm; leave without a score; eps or steps negative; restarts, eot_samples or at_once below
            1; rho outside [0, 1].
    """
    _check(norm, eps, steps, restarts, rho)
    if eot_samples < 1 or (at_once is not None and at_once < 1):
        raise ValueError(
            f"expected eot_samples >= 1 and at_once >= 1, got eot_samples={eot_samples} and at_once={at_once}"
        )
    if leave is not None and score is None:
        raise ValueError("expected a score with leave, got none")
    x = x.detach()
    ascent = Ascent(loss, eot_samples, at_once)
    looks = Looks(ascent, score, with_loss=True, leave=leave)
    beyond = Looks(ascent, None, with_loss=True)  # in the larger balls of L1 no score counts
    found, value = x.clone(), x.new_full((len(x),), -torch.inf)
    settled = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for _ in range(restarts):
        drawn = x + (torch.randn_like(x) if norm.name == "L1" else norm.sample(x, eps))
        best, rating, gone = found.clone(), value.clone(), settled.clone()
        left, _ = split(settled if leave is not None else torch.zeros_like(settled))
        here, there = (looks, beyond) if len(left) == len(x) else (looks.rows(left), beyond.rows(left))
        start, rest = drawn[left].clamp(0, 1), steps
        if norm.name == "L1":
            start, rest = _descended(there, x[left], drawn[left], eps, steps)
        best[left], rating[left], gone[left] = _run(here, x[left], start, norm, eps, rest, rho)
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
    every = range(0, steps + 1, max(1, int(EVERY * steps))) if norm.name == "L1" else checkpoints(steps)
    judged, last = set(every) - {0}, 0
    kind = SparseClimb if norm.name == "L1" else Climb
    climb: Climb | None = None
    rated = Best(None, start, rating)
    for step in range(steps + 1):
        at = start if climb is None else climb.aim(norm, eps, first=step == 1)
        seen = looks(at, backward=step < steps)
        loss, gradient = _usable(seen, at)
        if climb is None:
            climb = kind(x, at, (loss, gradient), eps if kind is SparseClimb else 2 * eps)
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


def _descended(looks: Looks, x: Tensor, at: Tensor, eps: float, steps: int) -> tuple[Tensor, int]:
    """Where the climb of the ball of L1 begins, from a point by way of larger balls; and the steps left for it.

    The best point of a ball by its loss, projected onto the next, is where that begins.
    """
    norm, left = L1(), steps
    for radius, share in WIDER:
        at = x + norm.project_in_box(at - x, radius * eps, x)
        taken = int(share * steps)
        if taken:
            at, _, _ = _run(looks, x, at, norm, radius * eps, taken, 0.0)
        left -= taken
    return x + norm.project_in_box(at - x, eps, x), left


def _usable(seen: Seen, x: Tensor) -> tuple[Tensor, Tensor]:
    """Losses, in which NaN counts as the lowest, and gradients with 0 for what is not finite or was not asked for."""
    assert seen.loss is not None  # a NaN compares as false for ever
    gradient = torch.zeros_like(x) if seen.gradient is None else finite(seen.gradient)
    return seen.loss.nan_to_num(-torch.inf, torch.inf, -torch.inf), gradient


def _check(norm: Norm, eps: float, steps: int, restarts: int, rho: float) -> None:
    if norm.name not in NORMS:
        raise ValueError(f"expected norm {', '.join(NORMS)}, got {norm.name}")
    if not (0 <= eps < float("inf") and steps >= 0 and restarts >= 1):
        raise ValueError(
            f"expected eps >= 0, steps >= 0 and restarts >= 1, got eps={eps}, steps={steps} and restarts={restarts}"
        )
    if not 0 <= rho <= 1:
        raise ValueError(f"expected rho in [0, 1], got {rho}")
