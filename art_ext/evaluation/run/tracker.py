"""What happens inside a model while an attack runs on it: passes, moves, and successes that were not returned."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.evaluation.targets import StandIn
from art_ext.evaluation.threat import SLACK, Threat
from art_ext.nn import predicted
from art_ext.nn.checkpointing import recomputing

POWERS = {"Linf": torch.inf, "L2": 2.0, "L1": 1.0}
STILL = 1e-6
"""A point nearer to the clean image than this share of the radius is the clean image."""


class ModelTracker:
    """Follows what passes through a model; its hooks go when the block ends.

    Rows that enter the purifier leave the classifier in the same order, whatever library drives them, so each answer is
    known to belong to an input; an input belongs to the clean image that is nearest to it in the norm of the threat.
    What checkpointing computes again is no pass: it is neither counted nor looked at.

    Args:
        target: what is attacked.
        network: the network whose logits are the answer, as the target holds it.
        purifier: what stands before it, None for nothing.
        x: clean images (N, C, H, W).
        y: their labels (N,).
        threat: the ball.
        watch: whether to look for adversarial iterates; else only for moves, until every image has moved.

    Attributes:
        counts: images passed "forward" and "backward" through the network, "purifier_forward" and
            "purifier_backward".
        moved: per image, whether another point of the ball passed.
        broken: per image, whether a point of the ball was misclassified; only where iterates are watched.
    """

    def __init__(
        self, target: nn.Module, network: nn.Module, purifier: nn.Module | None, x: Tensor, y: Tensor, threat: Threat,
        watch: bool,
    ) -> None:  # fmt: skip
        self.network, self.x, self.y, self.threat, self.watch = network, x, y, threat, watch
        self.fronts = [m for m in target.modules() if isinstance(m, StandIn)]
        if purifier is not None and not self.fronts:
            self.fronts = [purifier]  # type: ignore[list-item]
        self.counts = dict.fromkeys(("forward", "backward", "purifier_forward", "purifier_backward"), 0)
        self.broken = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.moved = self.broken.clone()
        self.waiting: list[Tensor] = []

    def __enter__(self) -> ModelTracker:
        self.handles = [self.network.register_forward_hook(self._answered)]
        self.handles += [front.register_forward_hook(self._purified) for front in self.fronts]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self.handles:
            handle.remove()

    @property
    def _looking(self) -> bool:
        return len(self.x) > 0 and (self.watch or not bool(self.moved.all()))

    def _purified(self, module: nn.Module, inputs: tuple[Any, ...], out: Tensor) -> None:
        if recomputing():
            return
        self._count("purifier_", out)
        if self._looking:
            self.waiting.append(inputs[0].detach())

    def _answered(self, module: nn.Module, inputs: tuple[Any, ...], out: Tensor) -> None:
        if recomputing():
            return
        self._count("", out)
        if not self._looking:
            self.waiting = []
            return
        rows = inputs[0].detach()
        if self.counts["purifier_forward"]:
            rows = self._popped(len(out))
        if rows.shape[1:] == self.x.shape[1:] and len(rows) == len(out):
            self._look(rows.to(self.x.dtype), out.detach())

    def _popped(self, count: int) -> Tensor:
        """The rows that entered the purifier first and have no answer yet."""
        waiting = torch.cat(self.waiting) if self.waiting else self.x[:0]
        self.waiting = [waiting[count:]] if len(waiting) > count else []
        return waiting[:count]

    def _look(self, rows: Tensor, logits: Tensor) -> None:
        nearest = torch.cdist(rows.flatten(1), self.x.flatten(1), p=POWERS[self.threat.norm]).argmin(1)
        allowed = ((rows >= -SLACK) & (rows <= 1 + SLACK)).flatten(1).all(1)
        allowed &= self.threat.holds(self.x[nearest], rows)
        self.moved[nearest[allowed & self.away(self.x[nearest], rows)]] = True
        if self.watch:
            wrong = predicted(logits) != self.y[nearest]
            self.broken[nearest[allowed & wrong]] = True

    def away(self, x: Tensor, rows: Tensor) -> Tensor:
        """Which rows are other points than their x, (N,)."""
        return self.threat.ball.size(rows - x) > STILL * self.threat.eps

    def _count(self, which: str, out: Tensor) -> None:
        self.counts[f"{which}forward"] += len(out)
        if out.requires_grad:
            out.register_hook(lambda gradient: self._back(which, gradient))

    def _back(self, which: str, gradient: Tensor) -> None:
        self.counts[f"{which}backward"] += len(gradient)
