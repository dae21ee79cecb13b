"""AutoAttack: four attacks in order, each on the images that the earlier ones left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from art_ext.attacks.active import CONFIRMED_BY, Leave, split
from art_ext.attacks.apgd import apgd
from art_ext.attacks.fab import fab
from art_ext.attacks.losses import LogitLoss, Model, cross_entropy, dlr_targeted, logit_margin, margin
from art_ext.attacks.norms import Norm, per_sample
from art_ext.attacks.randomness import AVERAGES, Averaged
from art_ext.attacks.square import square
from art_ext.images import asking_once
from art_ext.nn.copies import copies_of

FOR_DLR = 4
"""Classes that the targeted DLR loss wants; with fewer, the targeted APGD ascends the difference of two logits."""


@asking_once()
def autoattack(  # noqa: PLR0913  those of its parts, and of EOT
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    norm: Norm,
    eps: float,
    steps: int = 100,
    targets: int = 9,
    queries: int = 5000,
    eot_samples: int = 1,
    average: str = "gradients",
    confirm: int = 0,
    at_once: int | None = None,
) -> Tensor:
    """Images (N, C, H, W) within eps of x and within [0, 1] [Croce & Hein 2020, arXiv:2003.01690].

    APGD on the cross-entropy, APGD towards each of the classes of the largest logits on the targeted DLR loss, FAB-T,
    and Square. An image that is broken is done; one that is misclassified from the beginning stays as it is. Of an
    image that none breaks, the candidate of largest margin is returned.

    Of a randomised model (`eot_samples` above 1, or `confirm`) no single pass decides. An image is done when every one
    of `confirm` fresh passes misclassifies it; else a candidate replaces the one that is kept if its mean margin over
    as many fresh passes is larger than that of the one that is kept over others. FAB-T, which walks along a boundary
    that such a model does not have, is left out; Square and the two APGD average over `eot_samples`.

    Differs from the paper: with fewer than 4 classes the targeted loss is the difference of the two logits.

    Args:
        model: images (N, C, H, W) to logits (N, K); one sample a pass.
        x: clean images in [0, 1].
        y: labels (N,).
        norm: `Linf()` or `L2()`.
        eps: radius of the ball, in the units of x.
        steps: of APGD and of FAB-T, for each target.
        targets: classes that APGD and FAB-T try, at most the K - 1 that are not the label.
        queries: of Square.
        eot_samples: passes of a randomised model that losses, gradients and margins are means over.
        average: what is averaged, see `Averaged`: "gradients" of the samples' losses, or "logits".
        confirm: passes that an image of a randomised model must all be misclassified in; at least 20 with EOT.
        at_once: the most images of one pass under EOT, see `eot`.

    Raises:
        ValueError: another norm or average, or a number that a part refuses.
    """
    if norm.name not in ("Linf", "L2"):
        raise ValueError(f"expected norm Linf or L2, got {norm.name}")
    if average not in AVERAGES or confirm < 0:
        raise ValueError(f"expected average out of {', '.join(AVERAGES)} and confirm >= 0, got {average!r}, {confirm}")
    if eot_samples < 1 or targets < 1:
        raise ValueError(f"expected eot_samples >= 1 and targets >= 1, got {eot_samples} and {targets}")
    confirm = max(confirm, CONFIRMED_BY, eot_samples) if eot_samples > 1 else confirm
    search = _Parts(model, norm, eps, steps, targets, queries, eot_samples, average, confirm, at_once)
    x = x.detach()
    found = x.clone()
    if not len(x):
        return found
    left, _ = split(rated(model, x, y, confirm, at_once)[1])
    for part in search.of(x, y):
        if not len(left):
            break
        x_adv = part(x[left], y[left], left)
        value, broken = rated(model, x_adv, y[left], confirm, at_once)
        kept, _ = rated(model, found[left], y[left], confirm, at_once)
        better = broken | (value > kept)
        found[left] = torch.where(per_sample(better, x), x_adv, found[left])
        left = left[split(broken)[0]]
    return found


@torch.no_grad()
def rated(model: Model, x: Tensor, y: Tensor, passes: int, at_once: int | None) -> tuple[Tensor, Tensor]:
    """Mean margin of images (N, C, H, W) over so many passes, (N,), and whether all misclassify them, (N,).

    A margin is that of `logit_margin`; a pass whose logits are not finite is a wrong answer. One pass at least.
    """
    found = [
        logit_margin(model(batch), y.repeat(k)).view(k, len(x))
        for k, batch in copies_of(x, max(1, passes), at_once or max(1, len(x)))
    ]
    margins = torch.cat(found)
    mean = margins.masked_fill(margins.isinf(), torch.nan).nanmean(0)  # of the finite ones
    return mean.nan_to_num(torch.inf), (margins > 0).all(0)


class _Parts:
    """The attacks in their order, each a function of images, labels, and their places among all (N,)."""

    def __init__(
        self, model: Model, norm: Norm, eps: float, steps: int, targets: int, queries: int, eot_samples: int,
        average: str, confirm: int, at_once: int | None,
    ) -> None:  # fmt: skip
        self.model, self.steps, self.targets, self.queries = model, steps, targets, queries
        self.norm, self.eps = norm, eps
        self.samples, self.at_once, self.confirm = eot_samples, at_once, confirm
        mean = average == "logits" and eot_samples > 1
        self.seen: Model = Averaged(_Module(model), eot_samples, "logits", at_once) if mean else model
        self.per_step = 1 if mean else eot_samples

    def of(self, x: Tensor, y: Tensor) -> Iterator[partial[Tensor]]:
        """All parts for images (N, C, H, W) and labels (N,)."""
        yield partial(self._apgd, lambda y, _: cross_entropy(self.seen, y))
        with torch.no_grad():
            logits = torch.cat([self.seen(part) for part in x.split(32)])
        others = logits.nan_to_num().scatter(1, y[:, None], -torch.inf).argsort(1, descending=True)
        count = min(self.targets, logits.shape[1] - 1)
        for target in others[:, :count].unbind(1):
            yield partial(self._apgd, partial(self._towards, target, logits.shape[1]))
        if not self.confirm:
            yield partial(self._fab, count)
        yield partial(self._square)

    def _towards(self, target: Tensor, classes: int, y: Tensor, rows: Tensor) -> LogitLoss:
        if classes >= FOR_DLR:
            return dlr_targeted(self.seen, y, target[rows])

        def rule(logits: Tensor, y: Tensor, wanted: Tensor) -> Tensor:
            return (logits.gather(1, wanted[:, None]) - logits.gather(1, y[:, None])).squeeze(1).float()

        return LogitLoss(self.seen, rule, y, target[rows])

    def _apgd(self, loss: Callable[[Tensor, Tensor], LogitLoss], x: Tensor, y: Tensor, rows: Tensor) -> Tensor:
        leave = Leave(max(1, self.confirm), margin(self.model, y))
        return apgd(
            loss(y, rows), x, norm=self.norm, eps=self.eps, steps=self.steps, score=margin(self.seen, y), leave=leave,
            eot_samples=self.per_step, at_once=self.at_once,
        )  # fmt: skip

    def _fab(self, targets: int, x: Tensor, y: Tensor, _: Tensor) -> Tensor:
        return fab(self.model, x, y, norm=self.norm, eps=self.eps, steps=self.steps, targets=targets)

    def _square(self, x: Tensor, y: Tensor, _: Tensor) -> Tensor:
        return square(
            self.model, x, y, norm=self.norm, eps=self.eps, queries=self.queries, eot_samples=self.samples,
            at_once=self.at_once,
        )  # fmt: skip


class _Module(torch.nn.Module):
    """A function of images as a module."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)
