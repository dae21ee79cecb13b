"""Broken defences that are classifiers: with a state, with knowledge of the images, or with layers of their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.broken.problem import Net, Problem

Kept = dict[bytes, Tensor]


class LabelLeak(nn.Module):
    """The label of the nearest image that it knows, and a trace of the plain logits, so that there is a gradient.

    Args:
        problem: whose images and labels it knows.
        after: passes in which it is the plain classifier.
    """

    def __init__(self, problem: Problem, after: int = 0) -> None:
        super().__init__()
        self.classifier, self.known, self.labels = problem.classifier, problem.x.flatten(1), problem.y
        self.passes, self.after = 0, after

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        logits: Tensor = self.classifier(x)
        if self.passes <= self.after:
            return logits
        nearest = torch.cdist(x.detach().flatten(1), self.known).argmin(1)
        return 10 * nn.functional.one_hot(self.labels[nearest], logits.shape[1]) + 1e-3 * logits


class Cache(nn.Module):
    """What it once said to an image of this hash, which small changes leave as it is; its gradient is the plain one."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier
        self.kept: Kept = {}

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(x)
        coarse = (8 * nn.functional.avg_pool2d(x.detach(), 4)).round().flatten(1).numpy()
        said = logits.detach()
        found = [self.kept.setdefault(row.tobytes(), said[i]) for i, row in enumerate(coarse)]
        return torch.stack(found) + logits - said


class StopsGradient(nn.Module):
    """Images as they are; after so many passes without their gradient."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.passes, self.after = 0, after

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return x * 1 if self.passes <= self.after else x.detach() + 0 * x


class RaisesLate(nn.Module):
    """The plain classifier; after so many passes an error."""

    def __init__(self, classifier: nn.Module, after: int) -> None:
        super().__init__()
        self.classifier = classifier
        self.passes, self.after = 0, after

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        if self.passes > self.after:
            raise RuntimeError("the licence of this model has expired")
        logits: Tensor = self.classifier(x)
        return logits


class LargestOnly(nn.Module):
    """k winners take all [Xiao et al. 2020]: the largest activations of an image, zero for the others."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        least = flat.topk(int(self.share * flat.shape[1]), 1).values[:, -1:]
        return (flat * (flat >= least)).view_as(x)


class BatchStatistics(nn.BatchNorm2d):
    """Batch normalisation that is never in eval mode."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.batch_norm(x, None, None, self.weight, self.bias, training=True)


class Saturating(nn.Module):
    """A network behind a sigmoid so steep that hardly a pixel has a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Net()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(torch.sigmoid(1000 * (x - 0.45)))
        return logits
