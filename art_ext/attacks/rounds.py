"""PGD that leaves images alone while they are broken: the same attack for a fraction of its cost."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from art_ext.attacks.gradient import Loss, Model, ascent, cross_entropy, eot
from art_ext.attacks.norms import Norm
from art_ext.attacks.pgd import pgd
from art_ext.nn.copies import copies_of


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
    draws: int = 1,
    at_once: int | None = None,
    loss: Callable[[Model, Tensor], Loss] = cross_entropy,
) -> Tensor:
    """Last iterates of `pgd` under EOT (N, C, H, W); an image that every draw misclassifies is not moved for a while.

    Every `check_every` steps each image is looked at, in as many fresh draws as EOT has: who is misclassified in all of
    them rests until the next look, who is not moves on. The attack ends where all rest. Under a randomised model a look
    may be lucky, so that an image that is right in one draw of a few rests once in a while; it is found out at the
    next look, but not after the last one. More draws make that rarer; with one it means little. The step size is that
    of the whole attack, and an image that never rests gets all of its steps.

    Args:
        model: images (N, C, H, W) to logits (N, K); one draw a pass.
        x: clean images in [0, 1].
        y: labels (N,).
        norm: see `pgd`, as eps, step_size and random_start.
        eps: radius.
        steps: of an image that stays unbroken.
        check_every: steps between two looks.
        step_size: 2.5 * eps / steps unless given.
        random_start: begin at a random point of the ball.
        draws: of EOT, and of each look.
        at_once: the most images of one pass, see `eot`.
        loss: model and labels to a loss.

    Raises:
        ValueError: check_every or draws below 1, or what `pgd` refuses.
    """
    if check_every < 1:
        raise ValueError(f"expected check_every >= 1, got {check_every}")
    step_size = 2.5 * eps / max(1, steps) if step_size is None else step_size
    # No steps: the random start alone, and the errors of pgd and eot before anything is spent.
    x_adv = pgd(
        eot(ascent(loss(model, y)), draws), x, norm=norm, eps=eps, steps=min(0, steps), random_start=random_start
    )
    left = torch.arange(len(x), device=x.device)
    for done in range(0, steps, check_every):
        gradient = eot(ascent(loss(model, y[left])), draws, at_once=at_once)
        now = min(check_every, steps - done)
        x_adv[left] = pgd(
            gradient, x[left], norm=norm, eps=eps, steps=now, step_size=step_size, start=x_adv[left]
        )  # fmt: skip
        if done + now < steps:  # after the last steps nobody asks
            left = (~always_wrong(model, x_adv, y, draws, at_once=at_once)).nonzero()[:, 0]
        if not len(left):
            break
    return x_adv


def always_wrong(model: Model, x: Tensor, y: Tensor, draws: int, *, at_once: int | None = None) -> Tensor:
    """Whether each of `draws` passes misclassifies an image, (N,); `at_once` as in `eot`."""
    wrong = torch.ones(len(x), dtype=torch.bool, device=x.device)
    with torch.no_grad():
        for k, batch in copies_of(x, draws, at_once):
            wrong &= (model(batch).argmax(1).view(k, len(x)) != y).all(0)
    return wrong
