"""PGD that skips images while they are broken: the same attack for a fraction of its cost."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from art_ext.attacks.gradient import ascent, eot
from art_ext.attacks.losses import Loss, Model, cross_entropy
from art_ext.attacks.norms import Norm
from art_ext.attacks.pgd import pgd
from art_ext.attacks.renamed import renamed
from art_ext.images import asking_once
from art_ext.nn.answers import predicted
from art_ext.nn.copies import copies_of

FEWEST_SAMPLES = 10
"""Of a check of a randomised model."""


@renamed(draws="eot_samples")
@asking_once()
def pgd_until_broken(  # noqa: PLR0913  those of pgd and of eot
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    norm: Norm,
    eps: float,
    steps: int,
    check_every: int,
    step_size: float | None = None,
    random_start: bool = True,
    eot_samples: int = 1,
    at_once: int | None = None,
    loss: Callable[[Model, Tensor], Loss] = cross_entropy,
) -> Tensor:
    """Last iterates of `pgd` under EOT (N, C, H, W); an image that every sample misclassifies is skipped for a while.

    Every `check_every` steps each image is classified by as many fresh samples of the model as EOT has. Images that all
    of them misclassify are skipped until the next check, the others move on; the attack ends when all are skipped. The
    step size is that of the whole attack, and an image that is never skipped gets all its steps.

    A check of a randomised model can be wrong by chance: where one sample is right with probability p, all of k samples
    misclassify the image with probability (1 - p)^k. The next check corrects that at the cost of the steps in between,
    but nothing corrects the last one, which leaves the model's accuracy on the image too high by up to p (1 - p)^k on
    average. At the worst p that is 25 points for k = 1, 6.7 for 5, 3.5 for 10 and 1.8 for 20. With 2 to 9 samples there
    is a warning, and an evaluation refuses them. One is meant for a model without randomness, whose checks are never
    wrong.

    Args:
        model: images (N, C, H, W) to logits (N, K); one sample a pass.
        x: clean images in [0, 1].
        y: labels (N,).
        norm: see `pgd`, as eps, step_size and random_start.
        eps: radius.
        steps: of an image that is never broken.
        check_every: steps between two checks.
        step_size: 2.5 * eps / steps unless given.
        random_start: begin at a random point of the ball.
        eot_samples: of EOT, and of each check: 1 for a model without randomness, 10 or more for a randomised one.
        at_once: the most images of one pass, see `eot`.
        loss: model and labels to a loss.

    Raises:
        ValueError: check_every below 1, eot_samples below 1, or what `pgd` refuses.
    """
    if check_every < 1:
        raise ValueError(f"expected check_every >= 1, got {check_every}")
    if 1 < eot_samples < FEWEST_SAMPLES:
        text = (
            f"expected eot_samples >= {FEWEST_SAMPLES} with check_every on a randomised model, got {eot_samples}: "
            f"accuracy under this attack may come out up to {100 * _left_by_chance(eot_samples):.1f} points too high"
        )
        warnings.warn(text, stacklevel=2)
    step_size = 2.5 * eps / max(1, steps) if step_size is None else step_size
    # No steps: the random start alone, and the errors of pgd and eot before anything is spent.
    x_adv = pgd(
        eot(ascent(loss(model, y)), eot_samples), x, norm=norm, eps=eps, steps=min(0, steps), random_start=random_start
    )
    left = torch.arange(len(x), device=x.device)
    for done in range(0, steps, check_every):
        gradient = eot(ascent(loss(model, y[left])), eot_samples, at_once=at_once)
        now = min(check_every, steps - done)
        x_adv[left] = pgd(
            gradient, x[left], norm=norm, eps=eps, steps=now, step_size=step_size, start=x_adv[left]
        )  # fmt: skip
        if done + now < steps:  # nothing would come of a check after the last steps
            left = (~always_wrong(model, x_adv, y, eot_samples, at_once=at_once)).nonzero()[:, 0]
        if not len(left):
            break
    return x_adv


def _left_by_chance(k: int) -> float:
    """The most that p (1 - p)^k can be, at p = 1 / (k + 1)."""
    p = 1 / (k + 1)
    return p * (1 - p) ** k


@renamed(draws="eot_samples")
def always_wrong(model: Model, x: Tensor, y: Tensor, eot_samples: int, *, at_once: int | None = None) -> Tensor:
    """Whether each of `eot_samples` passes misclassifies an image, (N,), as `predicted` says; `at_once` as in `eot`."""
    wrong = torch.ones(len(x), dtype=torch.bool, device=x.device)
    with torch.no_grad():
        for k, batch in copies_of(x, eot_samples, at_once):
            wrong &= (predicted(model(batch)).view(k, len(x)) != y).all(0)
    return wrong
