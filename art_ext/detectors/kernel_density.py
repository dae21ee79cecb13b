"""Kernel density of deep features [Feinman et al. 2017, arXiv:1703.00410]."""

from __future__ import annotations

from collections.abc import Sequence
from math import log, pi

import torch
from torch import Tensor, nn

from art_ext.detectors.layered import LayerDetector

GRID = tuple(2 ** (power / 2) for power in range(-4, 9))
"""Bandwidths that are tried, in units of the median distance to the nearest neighbour of the class."""


class KernelDensity(LayerDetector):
    """Minus the log density of an image's features among those of the class that the network predicts.

    The density is a mean of Gaussians of one bandwidth around the clean features of that class [Feinman et al. 2017,
    section 3.1]; the paper looks at the last hidden layer. An image near a class boundary has the class that its logits
    say, and its score jumps there; on each side it is differentiable.

    Differs from the paper: kernels are normalised (exp(-d^2 / 2 h^2), not exp(-d^2 / h^2)), and the bandwidth is the
    one of greatest leave-one-out likelihood of the clean features unless given.

    Args:
        network: images (N, C, H, W) in [0, 1] to logits (N, K).
        layers: names out of `network.named_modules()`; one with several is their sum, see `LayerDetector`.
        pooled: see `LayerFeatures`.
        bandwidth: h, the standard deviation of the Gaussians in the units of the features.
        references: the most images a class that are kept, the first ones; all unless given.

    Raises:
        ValueError: no such layers, or a bandwidth or references that are not positive.
    """

    name = "kernel density"
    paper = "1703.00410"

    def __init__(
        self,
        network: nn.Module,
        layers: Sequence[str],
        *,
        pooled: bool = True,
        bandwidth: float | None = None,
        references: int | None = None,
    ) -> None:
        super().__init__(network, layers, pooled=pooled)
        if (bandwidth is not None and not bandwidth > 0) or (references is not None and references < 1):
            raise ValueError(f"expected bandwidth > 0 and references >= 1, got {bandwidth} and {references}")
        self.bandwidth, self.references = bandwidth, references

    def expected(self) -> set[str]:
        return {"labels", "bandwidths", *(f"references_{i}" for i in range(len(self.features.layers)))}

    def learn_layers(self, features: list[Tensor], y: Tensor, classes: int) -> dict[str, Tensor]:
        counts = torch.bincount(y, minlength=classes)
        least = 1 if self.bandwidth is not None else 2  # leaving one out must leave one
        if len(counts) != classes or int(counts.min()) < least:
            raise ValueError(f"expected {least} or more images of each of {classes} classes, got {counts.tolist()}")
        kept = torch.cat([(y == c).nonzero()[:, 0][: self.references] for c in range(classes)])
        labels, held = y[kept], [f[kept] for f in features]
        widths = [self.bandwidth or likeliest_bandwidth(f, labels) for f in held]
        found = {f"references_{i}": f for i, f in enumerate(held)}
        return {**found, "labels": labels, "bandwidths": held[0].new_tensor(widths)}

    def measure_layers(self, features: list[Tensor], logits: Tensor) -> Tensor:
        other = logits.argmax(1)[:, None] != self.get_buffer("labels")
        found = []
        for i, (f, width) in enumerate(zip(features, self.get_buffer("bandwidths"), strict=True)):
            squares = squared_distances(f, self.get_buffer(f"references_{i}"))
            found.append(-log_density(squares.masked_fill(other, torch.inf), width, f.shape[1]))
        return torch.stack(found, 1)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distances (N, M) of rows (N, D) and (M, D), by one matrix product."""
    centre = b.mean(0)  # differences are those of large numbers otherwise
    a, b = a - centre, b - centre
    return (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp_min(0)


def log_density(squares: Tensor, width: Tensor | float, dimensions: int) -> Tensor:
    """Log of the mean of Gaussians of standard deviation `width`, (N,), over the finite squared distances (N, M)."""
    count = squares.isfinite().sum(1)
    volume = dimensions * (log(2 * pi) / 2 + torch.as_tensor(width, dtype=squares.dtype, device=squares.device).log())
    return (-squares / (2 * width**2)).logsumexp(1) - count.to(squares.dtype).log() - volume


def likeliest_bandwidth(features: Tensor, y: Tensor) -> float:
    """The bandwidth of `GRID` under which features (N, D) are likeliest, each among the others of its class.

    Raises:
        ValueError: half of the images or more have a twin, so that no bandwidth is small enough.
    """
    per_class = []
    for c in y.unique():
        own = features[y == c].double()
        per_class.append(squared_distances(own, own).fill_diagonal_(torch.inf))
    nearest = torch.cat([squares.min(1).values for squares in per_class]).sqrt().median()
    if not nearest > 0:
        raise ValueError("expected features that differ within a class, got a median nearest distance of 0")
    widths = [float(nearest) * factor for factor in GRID]

    def likelihood(width: float) -> float:
        return sum(float(log_density(squares, width, features.shape[1]).sum()) for squares in per_class)

    return max(widths, key=likelihood)
