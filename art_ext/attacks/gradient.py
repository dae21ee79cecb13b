"""Gradients for attacks. A `Gradient` maps images (k * N, C, H, W) to their ascent direction, per sample, detached.

Labels are bound for N images; a batch of k * N is read as k copies of those N in the same order (`x.repeat(k, ...)`),
which is how `eot` runs its samples in one pass. A gradient never touches the `.grad` of a parameter, a train/eval mode,
or (with `frozen_noise`) the ambient random state.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from art_ext.attacks.losses import Loss, Model
from art_ext.attacks.norms import finite
from art_ext.attacks.renamed import renamed
from art_ext.nn.copies import copies_of
from art_ext.nn.modes import seeded

Gradient = Callable[[Tensor], Tensor]


def ascent(loss: Loss) -> Gradient:
    """The gradient of a per-sample loss with respect to the images."""

    def gradient(x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(loss(x).sum(), x)[0]

    return gradient


def bpda(forward: Model, surrogate: Model | None = None) -> Model:
    """`forward` in value, `surrogate` (identity unless given) in gradient [Athalye et al. 2018, arXiv:1802.00420].

    The real `forward` is always run: the approximation concerns the backward pass alone. For the identity the shapes
    of input and output must agree.
    """

    def apply(x: Tensor) -> Tensor:
        with torch.no_grad():
            value = forward(x)
        stand_in = x if surrogate is None else surrogate(x)
        return value + (stand_in - stand_in.detach())

    return apply


def straight_through_clamp(x: Tensor) -> Tensor:
    """x clamped to [0, 1] with the gradient of the identity, so that pixels at the border still tell the way."""
    return bpda(lambda v: v.clamp(0, 1))(x)


@renamed(draws="eot_samples")
def eot(gradient: Gradient, eot_samples: int, *, at_once: int | None = None) -> Gradient:
    """The mean gradient over `eot_samples` samples of the defence's randomness [Athalye et al. 2018, EOT].

    Samples run as copies in one batch, all together unless `at_once` bounds the images of a call; no call holds fewer
    than the images themselves. One sample is the gradient itself. In a mean, an entry that is not
    finite counts as 0.

    Raises:
        ValueError: if eot_samples is not positive.
    """
    if eot_samples < 1:
        raise ValueError(f"expected eot_samples >= 1, got {eot_samples}")
    if eot_samples == 1:
        return gradient

    def averaged(x: Tensor) -> Tensor:
        total = torch.zeros_like(x)
        for k, batch in copies_of(x, eot_samples, at_once):
            total += finite(gradient(batch)).view(k, *x.shape).sum(0)
        return total / eot_samples

    return averaged


def frozen_noise(gradient: Gradient, seed: int) -> Gradient:
    """The gradient under one fixed draw of the randomness; the ambient generator goes on undisturbed.

    The draw belongs to a batch of the same composition: the same images in the same order see the same noise.
    """

    def frozen(x: Tensor) -> Tensor:
        with seeded(seed):
            return gradient(x)

    return frozen
