"""Gradients for attacks. A `Gradient` maps images (k * N, C, H, W) to their ascent direction, per sample, detached.

Labels are bound for N images; a batch of k * N is read as k copies of those N in the same order (`x.repeat(k, ...)`),
which is how `eot` runs its samples in one pass. A gradient never touches the `.grad` of a parameter, a train/eval mode,
or (with `frozen_noise`) the ambient random state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from art_ext.attacks.losses import LogitLoss, Loss, Model
from art_ext.attacks.norms import finite
from art_ext.attacks.renamed import renamed
from art_ext.nn.copies import copies_of
from art_ext.nn.modes import seeded

Gradient = Callable[[Tensor], Tensor]
PIECE = 32
"""The most images of a pass on a CPU: the activations of more leave its caches, which costs a fifth of the time."""
SCALE = 256.0
"""Of losses under autocast to float16, whose smallest number is 6e-8: gradients of a sure network's images round to 0
there. Its largest is 65504, which leaves as much room above; on two networks for Fashion-MNIST 4096 begins to overflow.
"""


class Pass(NamedTuple):
    """What one forward pass shows of N images, with the backward pass through it; of S samples under EOT.

    Attributes:
        loss: (N,), the mean over the samples.
        gradient: of the loss, (N, C, H, W), the mean over the samples; None where no backward pass was asked for.
        logits: (S, N, K); None for a loss that is not one of logits.
    """

    loss: Tensor
    gradient: Tensor | None
    logits: Tensor | None


class Ascent:
    """The gradient of a per-sample loss with respect to the images, with the loss and the logits of the same pass.

    Args:
        loss: images (k * N, C, H, W) to (k * N,).
        eot_samples: samples of a randomised model that loss and gradient are means over, see `eot`.
        at_once: the most images of one pass, see `eot`.
    """

    def __init__(self, loss: Loss, eot_samples: int = 1, at_once: int | None = None) -> None:
        self.loss, self.eot_samples, self.at_once = loss, eot_samples, at_once

    def __call__(self, x: Tensor) -> Tensor:
        gradient = self.at(x).gradient
        assert gradient is not None
        return gradient

    def at(self, x: Tensor, *, backward: bool = True) -> Pass:
        """One pass of the images (N, C, H, W), or one a sample; without the gradient unless `backward`."""
        if self.eot_samples == 1:
            loss, gradient, logits = self._in_pieces(x.detach(), backward)
            return Pass(loss, gradient, None if logits is None else logits[None])
        losses, gradients, seen = x.new_zeros(len(x)), torch.zeros_like(x), []
        at_once = PIECE if self.at_once is None and x.device.type == "cpu" else self.at_once
        for k, batch in copies_of(x.detach(), self.eot_samples, at_once):
            loss, gradient, logits = self._once(self.loss, batch, backward)
            losses = losses + loss.view(k, len(x)).sum(0)
            if gradient is not None:
                gradients += finite(gradient).view(k, *x.shape).sum(0)
            if logits is not None:
                seen.append(logits.view(k, len(x), *logits.shape[1:]))
        mean = gradients / self.eot_samples if backward else None
        return Pass(losses / self.eot_samples, mean, torch.cat(seen) if seen else None)

    def rows(self, chosen: Tensor) -> Ascent:
        """The ascent of some of the N images, given as indices or as a mask (N,); only of a `LogitLoss`."""
        assert isinstance(self.loss, LogitLoss)
        return Ascent(self.loss.rows(chosen), self.eot_samples, self.at_once)

    def _in_pieces(self, x: Tensor, backward: bool) -> Pass:
        """One pass of each image, cut on a CPU where the loss can be."""
        loss = self.loss
        if len(x) <= PIECE or x.device.type != "cpu" or not (isinstance(loss, LogitLoss) and loss.belongs_to(x)):
            return self._once(loss, x, backward)
        cuts = [slice(i, i + PIECE) for i in range(0, len(x), PIECE)]
        losses, gradients, logits = zip(*(self._once(loss.rows(cut), x[cut], backward) for cut in cuts), strict=True)
        return Pass(torch.cat(losses), torch.cat(gradients) if backward else None, torch.cat(logits))

    @staticmethod
    def _once(of: Loss, x: Tensor, backward: bool) -> Pass:
        logits = None
        with torch.set_grad_enabled(backward):
            x = x.requires_grad_(backward)
            if isinstance(of, LogitLoss):
                loss, logits = of.with_logits(x)
            else:
                loss = of(x)
            gradient = _slope(loss.sum(), x) if backward else None
        return Pass(loss.detach(), gradient, None if logits is None else logits.detach())


def _slope(total: Tensor, x: Tensor) -> Tensor:
    """The gradient of a number with respect to x; under autocast to float16 from the number times `SCALE`."""
    device = x.device.type
    if torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16:
        return torch.autograd.grad(SCALE * total, x)[0] / SCALE
    return torch.autograd.grad(total, x)[0]


def ascent(loss: Loss) -> Ascent:
    """The gradient of a per-sample loss with respect to the images."""
    return Ascent(loss)


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
    if isinstance(gradient, Ascent) and gradient.eot_samples == 1:
        return Ascent(gradient.loss, eot_samples, at_once)

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
