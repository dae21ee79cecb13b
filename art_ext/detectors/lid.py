"""Local intrinsic dimensionality of deep features [Ma et al. 2018, arXiv:1801.02613]."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from art_ext.detectors.layered import LayerDetector

LARGEST = 1e3
"""Where all neighbours are equally far the estimate is infinite; it stops here."""


class LID(LayerDetector):
    """How fast clean neighbours grow in number around an image's features, layer by layer.

    -1 / mean_i log(r_i / r_k), with r_1 <= ... <= r_k the distances to the k nearest neighbours in a minibatch of clean
    images [the estimator of Ma et al. 2018]. `calibrate` makes the paper's detector of it, a logistic regression over
    layers.

    Differs from the paper: one minibatch of the training images, drawn by `fit`, stands for all, so that scores do not
    depend on what else is in the batch. An image that is itself in it is not its own neighbour.

    Args:
        network: images (N, C, H, W) in [0, 1] to logits (N, K).
        layers: names out of `network.named_modules()`.
        pooled: see `LayerFeatures`; the paper takes all values.
        neighbours: k.
        size: images of the minibatch.
        seed: of the draw of the minibatch.

    Raises:
        ValueError: no such layers, or not 2 <= neighbours < size.
    """

    name = "LID"
    paper = "1801.02613"

    def __init__(
        self,
        network: nn.Module,
        layers: Sequence[str],
        *,
        pooled: bool = True,
        neighbours: int = 20,
        size: int = 100,
        seed: int = 0,
    ) -> None:
        super().__init__(network, layers, pooled=pooled)
        if not 2 <= neighbours < size:
            raise ValueError(f"expected 2 <= neighbours < size, got neighbours={neighbours} and size={size}")
        self.neighbours, self.size, self.seed = neighbours, size, seed

    def expected(self) -> set[str]:
        return {f"references_{i}" for i in range(len(self.features.layers))}

    def learn_layers(self, features: list[Tensor], y: Tensor, classes: int) -> dict[str, Tensor]:
        if len(y) < self.size:
            raise ValueError(f"expected {self.size} or more images, as many as a minibatch has, got {len(y)}")
        chosen = torch.randperm(len(y), generator=torch.Generator().manual_seed(self.seed))[: self.size].to(y.device)
        return {f"references_{i}": f[chosen] for i, f in enumerate(features)}

    def measure_layers(self, features: list[Tensor], logits: Tensor) -> Tensor:
        found = []
        for i, f in enumerate(features):
            # Not by a matrix product: the logarithm is of the smallest distances.
            distances = torch.cdist(f, self.get_buffer(f"references_{i}"), compute_mode="donot_use_mm_for_euclid_dist")
            found.append(local_dimensionality(distances, self.neighbours))
        return torch.stack(found, 1)


def local_dimensionality(distances: Tensor, neighbours: int) -> Tensor:
    """The maximum likelihood estimate (N,) from distances (N, M) to other images, at most `LARGEST`.

    A distance of 0 is that of an image to itself and is left out.
    """
    distances = distances.masked_fill(distances == 0, torch.inf)
    nearest = distances.topk(neighbours, dim=1, largest=False).values
    counted = nearest.isfinite()  # fewer where the minibatch holds the image several times
    farthest = nearest.masked_fill(~counted, 0).amax(1, keepdim=True)
    logs = (nearest.masked_fill(~counted, 1) / farthest.masked_fill(farthest == 0, 1)).log().masked_fill(~counted, 0)
    mean = logs.sum(1) / counted.sum(1).clamp_min(1)
    return -1 / mean.clamp_max(-1 / LARGEST)
