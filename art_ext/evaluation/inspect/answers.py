"""What a model answers: logits that are some, the same ones again, the same for an image in other company."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from art_ext.attacks import ascent, cross_entropy, pgd
from art_ext.evaluation.inspect.identity import CLOSE, within
from art_ext.evaluation.inspect.info import BatchCheck, Found
from art_ext.evaluation.targets import Defended, dtype_of
from art_ext.evaluation.threat import Threat
from art_ext.nn import predicted
from art_ext.nn.modes import all_seeded

PASSES = 5
MOVED = 1e-4
"""How far normalised logits of two passes may lie apart in a deterministic model."""
ONE_BY_ONE = 16
"""Images that are asked alone."""


def bad_rows(logits: Tensor) -> int:
    """How many rows of logits (N, K) are not finite."""
    return int((~logits.isfinite().all(1)).sum())


def are_probabilities(logits: Tensor) -> bool:
    """Whether logits (N, K) lie in [0, 1] and sum to 1: probabilities flatten the gradients of every attack."""
    sums_to_one = bool((logits.sum(1) - 1).abs().amax() < 1e-5)
    return sums_to_one and bool((logits >= 0).all() and (logits <= 1).all())


def writes_input(model: Defended, x: Tensor) -> bool:
    """Whether the classifier or the purifier changes the images (N, C, H, W) that it is handed."""
    parts: list[tuple[nn.Module, Callable[[Tensor], Tensor]]] = [(model.classifier, model.classifier)]
    if model.purifier is not None:
        parts.append((model.purifier, model.purifier.purify))
    for module, function in parts:
        given = x.to(dtype_of(module), copy=True)
        before = given.clone()
        with torch.no_grad():
            function(given)
        if not torch.equal(given, before):
            return True
    return False


def differ(module: nn.Module, x: Tensor, y: Tensor) -> bool:
    """Whether five passes differ: in the number of correct answers, or in normalised logits by more than 1e-4."""
    with torch.no_grad():
        outs = [module(x).nan_to_num() for _ in range(PASSES)]
    units = [out / out.norm(dim=1, keepdim=True).clamp_min(1e-12) for out in outs]
    moved = max(float((unit - units[0]).abs().max()) for unit in units)
    return moved > MOVED or len({int((out.argmax(1) == y).sum()) for out in outs}) > 1


def randomised(module: nn.Module, x: Tensor, y: Tensor, threat: Threat, has_gradient: bool) -> Found:
    """Where five passes first differ: on clean images, at random points of the ball, or after a short attack."""
    if differ(module, x, y):
        return Found.CLEAN
    points = random_points(x, threat)
    if differ(module, points, y):
        return Found.BALL
    if has_gradient and threat.eps > 0:
        x_adv = pgd(
            ascent(cross_entropy(module, y)), x, norm=threat.ball, eps=threat.eps, steps=2,
            step_size=threat.eps / 2, start=points,
        )  # fmt: skip
        if differ(module, x_adv, y):
            return Found.ATTACKED
    return Found.NOWHERE


def random_points(x: Tensor, threat: Threat) -> Tensor:
    """Random points of the ball around x (N, C, H, W), always the same ones."""
    with all_seeded(0):
        return (x + threat.ball.sample(x, threat.eps)).clamp(0, 1)


def in_company(module: nn.Module, x: Tensor, random: bool) -> BatchCheck | None:
    """Whether the answer to an image changes with what stands beside it; None where that cannot be decided.

    A deterministic model is asked for images alone, and in reverse order. A randomised one is asked twice under one
    seed, with other images in the second half of the batch; it is passed over where a seed does not repeat its answers.
    """
    if len(x) < 2:
        return None
    with torch.no_grad():
        return _neighbours_replaced(module, x) if random else _alone_and_reversed(module, x)


def _alone_and_reversed(module: nn.Module, x: Tensor) -> BatchCheck:
    together = module(x)
    alone = torch.cat([module(image) for image in x[:ONE_BY_ONE].split(1)])
    flags = _changed(together[:ONE_BY_ONE], alone)
    backwards = _changed(together, module(x.flip(0)).flip(0))
    backwards[:ONE_BY_ONE] |= flags
    return BatchCheck(len(x), int(backwards.sum()), "alone, and in reverse order")


def _neighbours_replaced(module: nn.Module, x: Tensor) -> BatchCheck | None:
    half = len(x) // 2
    with all_seeded(1):
        other = torch.cat([x[:half], torch.rand_like(x[half:])])
    answers = []
    for images in (x, x, other):
        with all_seeded(0):
            answers.append(module(images)[:half])
    if not within(answers[0], answers[1]):
        return None
    return BatchCheck(half, int(_changed(answers[0], answers[2]).sum()), "beside other images, under one seed")


def _changed(a: Tensor, b: Tensor) -> Tensor:
    """Rows (N,) whose class, or logits by more than `CLOSE` of their range, differ; rows that are not finite agree."""
    finite = a.isfinite().all(1) & b.isfinite().all(1)
    spread = a.nan_to_num().amax() - a.nan_to_num().amin()
    apart = (a - b).abs().amax(1) > CLOSE * spread + 1e-6
    return (predicted(a) != predicted(b)) | (finite & apart)
