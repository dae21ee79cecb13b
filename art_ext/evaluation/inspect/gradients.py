"""What a backward pass through a model gives: whether there is a gradient, whose, and whether it is true."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from art_ext.attacks import Loss, ascent, cross_entropy, margin
from art_ext.attacks.gradient import PIECE
from art_ext.evaluation.backends import art
from art_ext.evaluation.inspect.answers import random_points
from art_ext.evaluation.inspect.info import ArtGradient, Gradient
from art_ext.evaluation.numerics import OUT_OF_MEMORY
from art_ext.evaluation.targets import Defended, dtype_of
from art_ext.evaluation.threat import Threat
from art_ext.nn.modes import all_seeded

SLOPES = 16
"""Images whose slope is measured along the gradient."""
POINTS = 32
"""At which the gradient is asked for on the way to an image of another class."""
JUMPS = 0.5
"""Share of a change from which the gradient does not account for it; below, `POINTS` may be too few."""


class Backward(NamedTuple):
    """What came of a backward pass."""

    kind: Gradient
    zero: int = 0
    bad: int = 0
    error: str = ""


def backward(model: Defended, module: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Backward:
    """The gradient of cross-entropy at random points of the ball.

    It is missing only where autograd has none: the answer does not require one, or does not depend on the images. Any
    other error is a failure of the model's, and kept in its own words. Out of memory is for the caller.

    Args:
        model: for what its purifier promises.
        module: the model, in pieces that fit.
        x: images (N, C, H, W).
        y: labels (N,).
        threat: the ball.
    """
    points = random_points(x, threat).requires_grad_()
    try:
        logits = module(points)
        if not logits.requires_grad:
            return Backward(Gradient.MISSING, error=_why_missing(logits))
        loss = nn.functional.cross_entropy(logits, y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, points, allow_unused=True)
    except OUT_OF_MEMORY:
        raise
    except Exception as error:
        return Backward(Gradient.FAILED, error=f"{type(error).__name__}: {error}")
    if gradient is None:
        return Backward(Gradient.MISSING, error="the logits do not depend on the images through autograd")
    rows = gradient.flatten(1)
    finite = rows.isfinite().all(1)
    stand_in = model.purifier is not None and not model.purifier.differentiable
    zero = int((finite & (rows.abs().amax(1) == 0)).sum())
    return Backward(Gradient.STAND_IN if stand_in else Gradient.EXACT, zero, int((~finite).sum()))


def _why_missing(logits: Tensor) -> str:
    if logits.is_inference():
        return "the logits were computed under torch.inference_mode"
    return "the logits do not require a gradient: computed under torch.no_grad, detached, or not by torch"


def art_gradient(model: Defended, x: Tensor, y: Tensor) -> ArtGradient:
    """ART's `loss_gradient` of the wrapped classifier beside torch's, under the same draws.

    The classifier is the user's own where the model came from ART, but for a purifier that draws: a numpy one draws
    from another generator there.
    """
    draws = model.purifier is not None and model.purifier.stochastic
    x, y = x[:PIECE], y[:PIECE]  # in one piece on both sides: an image's draws depend on what is drawn before
    try:
        classifier = (None if draws else model.estimator) or art.estimator(model.module, x, y)
        labels = nn.functional.one_hot(y, int(classifier.nb_classes)).cpu().numpy()
        with all_seeded(0):
            through_art = art.loss_gradient(classifier, x, labels).cpu()
        with all_seeded(0):
            direct = ascent(cross_entropy(model.module, y))(x).cpu() / len(x)  # ART's loss is a mean over the batch
    except OUT_OF_MEMORY:
        raise
    except Exception as error:
        return ArtGradient(error=f"{type(error).__name__}: {error}")
    gap = float((through_art - direct).nan_to_num().abs().max())
    return ArtGradient(float(through_art.nan_to_num().abs().max()), gap, float(direct.nan_to_num().abs().max()))


def slopes(
    model: Defended, x: Tensor, y: Tensor, threat: Threat, n: int = SLOPES
) -> tuple[tuple[float, ...] | None, str]:  # fmt: skip
    """Per image, how far the margin's change is from the gradient's prediction, relatively: the larger of two errors.

    One is that of the slope along the gradient, at a random point of the ball; its step is small enough that the
    gradient should hold along it. The other is that of the change `on_the_way` to an image of another class, which is
    made of jumps where the gradient is not that of the answers. Draws are the same everywhere. Images of zero gradient
    are left out.

    Args:
        model: in eval mode.
        x: images (N, C, H, W); those that are not measured may be images of other classes.
        y: labels (N,).
        threat: the ball.
        n: images that are measured, the first ones.

    Returns:
        The errors, none where all gradients are zero; or None and why they were not measured.
    """
    if model.purifier is not None and not model.purifier.differentiable:
        return None, "the purifier's gradient is an approximation (BPDA)"
    networks = [m for m in (model.classifier, model.purifier) if m is not None]
    low = [str(dtype_of(m)) for m in networks if dtype_of(m) in (torch.float16, torch.bfloat16)]
    if low:
        return None, f"a network computes in {low[0].removeprefix('torch.')}"
    n = min(n, len(x))
    others = torch.tensor([_of_another_class(y, i) for i in range(n)], device=x.device)
    loss = margin(model.module, y[:n])
    start = 0.05 + 0.9 * random_points(x[:n], threat)  # room to both sides of every pixel
    with all_seeded(0):
        gradient = ascent(loss)(start)
    length = gradient.flatten(1).norm(dim=1)
    usable = (length > 0) & length.isfinite()
    along = (gradient / length.clamp_min(1e-30).view(-1, 1, 1, 1)).nan_to_num()
    errors = []
    for change in (1e-2, 1e-3):  # of the margin; a kink within the larger step may spoil it, float32 the smaller one
        h = (change / length.clamp_min(1e-30)).clamp_max(1e-2).nan_to_num().view(-1, 1, 1, 1)
        sides = []
        for sign in (1, -1):
            with torch.no_grad(), all_seeded(0):
                sides.append(loss(start + sign * h * along))
        slope = (sides[0] - sides[1]) / (2 * h.flatten())
        errors.append((slope / length - 1).abs())
    jumps = on_the_way(loss, x[:n], x[others])
    larger = torch.maximum(torch.stack(errors).amin(0), torch.where(jumps > JUMPS, jumps, 0))
    return tuple(larger[usable].tolist()), ""


def on_the_way(loss: Loss, x: Tensor, other: Tensor) -> Tensor:
    """How far the change of a loss between images is from the integral of its gradient over the straight way, (N,).

    Relative to the change. The two are equal for a function without jumps; labels that are looked up, kept answers and
    rounding change by jumps of which the gradient says nothing. 0 where the loss does not turn from below 0 to above
    it, as a margin does on the way from an image of the class to one of another class.

    Args:
        loss: images (N, C, H, W) to (N,).
        x: where the way begins.
        other: where it ends.
    """
    ends, told = [], torch.zeros(len(x), device=x.device)
    for end in (x, other):
        with torch.no_grad(), all_seeded(0):
            ends.append(loss(end))
    for k in range(POINTS):
        with all_seeded(0):
            gradient = ascent(loss)(x + (k + 0.5) / POINTS * (other - x))
        told += (gradient * (other - x)).flatten(1).sum(1) / POINTS
    change = ends[1] - ends[0]
    turns = (ends[0] < 0) & (ends[1] > 0) & change.isfinite() & told.isfinite()
    return torch.where(turns, (told / change - 1).abs(), torch.zeros_like(told))


def _of_another_class(y: Tensor, i: int) -> int:
    """The next image after the i-th whose label is another one; itself where there is none."""
    n = len(y)
    return next((j % n for j in range(i + 1, i + n) if int(y[j % n]) != int(y[i])), i)


def held_pixels(model: Defended, x: Tensor, threat: Threat, piece: int) -> float | None:
    """Share of pixels that the purifier's final clamp holds at random points of the ball; None without a purifier."""
    purifier: Any = model.purifier
    if purifier is None:
        return None
    points = random_points(x, threat)
    with torch.no_grad():
        values = torch.cat([purifier.unclamped(part) for part in points.split(min(piece, purifier.batch_size))])
    return float(((values < -1e-6) | (values > 1 + 1e-6)).float().mean())
