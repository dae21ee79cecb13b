"""What happens inside a model while an attack runs on it: passes, and successes that the attack did not return."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.evaluation.models import StandIn
from art_ext.evaluation.threat import SLACK, Threat

POWERS = {"Linf": torch.inf, "L2": 2.0, "L1": 1.0}


class Watch:
    """Counts images passed through a target's networks, and finds adversarial iterates; hooks go when the block ends.

    Rows that enter the purifier leave the classifier in the same order, whatever library drives them, so each answer is
    known to belong to an input; an input belongs to the clean image that is nearest to it in the norm of the threat.

    Args:
        target: what is attacked.
        classifier: the network whose logits are the answer.
        purifier: what stands before it, None for nothing.
        x: clean images that iterates are looked for around, (N, C, H, W); none to look for nothing.
        y: their labels (N,).
        threat: the ball.

    Attributes:
        counts: images passed "forward" and "backward" through the classifier, "purifier_forward" and
            "purifier_backward".
        broken: per image of x, whether an iterate inside the ball was misclassified.
    """

    def __init__(
        self, target: nn.Module, classifier: nn.Module, purifier: nn.Module | None, x: Tensor, y: Tensor, threat: Threat
    ) -> None:
        self.classifier, self.x, self.y, self.threat = classifier, x, y, threat
        self.fronts = [m for m in target.modules() if isinstance(m, StandIn)]
        if purifier is not None and not self.fronts:
            self.fronts = [purifier]  # type: ignore[list-item]
        self.counts = dict.fromkeys(("forward", "backward", "purifier_forward", "purifier_backward"), 0)
        self.broken = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.waiting: list[Tensor] = []

    def __enter__(self) -> Watch:
        self.handles = [self.classifier.register_forward_hook(self._answered)]
        self.handles += [front.register_forward_hook(self._purified) for front in self.fronts]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self.handles:
            handle.remove()

    def _purified(self, module: nn.Module, inputs: tuple[Any, ...], out: Tensor) -> None:
        self._count("purifier_", out)
        if len(self.x):
            self.waiting.append(inputs[0].detach())

    def _answered(self, module: nn.Module, inputs: tuple[Any, ...], out: Tensor) -> None:
        self._count("", out)
        if not len(self.x):
            return
        rows = inputs[0].detach()
        if self.counts["purifier_forward"]:
            rows = self._popped(len(out))
        if rows.shape[1:] == self.x.shape[1:] and len(rows) == len(out):
            self._look(rows, out.detach())

    def _popped(self, count: int) -> Tensor:
        """The rows that entered the purifier first and have no answer yet."""
        waiting = torch.cat(self.waiting) if self.waiting else self.x[:0]
        self.waiting = [waiting[count:]] if len(waiting) > count else []
        return waiting[:count]

    def _look(self, rows: Tensor, logits: Tensor) -> None:
        nearest = torch.cdist(rows.flatten(1), self.x.flatten(1), p=POWERS[self.threat.norm]).argmin(1)
        allowed = ((rows >= -SLACK) & (rows <= 1 + SLACK)).flatten(1).all(1)
        allowed &= self.threat.holds(self.x[nearest], rows)
        wrong = logits.argmax(1) != self.y[nearest]
        self.broken[nearest[allowed & wrong]] = True

    def _count(self, which: str, out: Tensor) -> None:
        self.counts[f"{which}forward"] += len(out)
        if out.requires_grad:
            out.register_hook(lambda gradient: self._back(which, gradient))

    def _back(self, which: str, gradient: Tensor) -> None:
        self.counts[f"{which}backward"] += len(gradient)
