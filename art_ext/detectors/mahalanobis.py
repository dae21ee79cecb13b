"""Mahalanobis distance of deep features to the nearest class [Lee et al. 2018, arXiv:1807.03888]."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from art_ext.attacks import ascent, straight_through_clamp
from art_ext.detectors.kernel_density import squared_distances
from art_ext.detectors.layered import LayerDetector

RELATIVE = 1e-9
"""Directions with less variance than this share of the largest count as having none."""


class Mahalanobis(LayerDetector):
    """Squared Mahalanobis distance to the nearest class mean, under one covariance for all classes, layer by layer.

    [Lee et al. 2018, section 2]. Directions in which clean features do not vary have no say, as in the released
    code, which takes a pseudo-inverse. With `noise` the image is first moved towards its class, by a step against the
    sign of each layer's own gradient (their input pre-processing); gradients of the score take the step as given.
    `calibrate` makes the paper's ensemble of it.

    Differs from the paper: the moved image stays within [0, 1].

    Args:
        network: images (N, C, H, W) in [0, 1] to logits (N, K).
        layers: names out of `network.named_modules()`.
        pooled: see `LayerFeatures`; the paper takes means over positions.
        noise: length of that step in Linf, in the units of x; it costs a backward pass a layer.

    Raises:
        ValueError: no such layers, or a negative noise.
    """

    name = "Mahalanobis"
    paper = "1807.03888"

    def __init__(self, network: nn.Module, layers: Sequence[str], *, pooled: bool = True, noise: float = 0.0) -> None:
        super().__init__(network, layers, pooled=pooled)
        self.set_noise(noise)

    def set_noise(self, noise: float) -> Mahalanobis:
        """Another length of the step; gives itself. What was fitted stays right, what was calibrated does not.

        Raises:
            ValueError: it is negative.
        """
        if not noise >= 0:
            raise ValueError(f"expected noise >= 0, got {noise}")
        self.noise = noise
        return self

    def expected(self) -> set[str]:
        return {f"{part}_{i}" for part in ("centre", "whitening", "means") for i in range(len(self.features.layers))}

    def learn_layers(self, features: list[Tensor], y: Tensor, classes: int) -> dict[str, Tensor]:
        present = y.unique()
        found: dict[str, Tensor] = {}
        for i, f in enumerate(features):
            values = f.double()
            centre = values.mean(0)
            values = values - centre
            means = torch.stack([values[y == c].mean(0) for c in present])
            around = values - means[torch.searchsorted(present, y)]
            whitening = whitened(around.T @ around / len(y))
            parts = {"centre": centre, "whitening": whitening, "means": means @ whitening}
            found |= {f"{part}_{i}": value.to(f.dtype) for part, value in parts.items()}
        return found

    def measure_layers(self, features: list[Tensor], logits: Tensor) -> Tensor:
        found = []
        for i, f in enumerate(features):
            inside = (f - self.get_buffer(f"centre_{i}")) @ self.get_buffer(f"whitening_{i}")
            found.append(squared_distances(inside, self.get_buffer(f"means_{i}")).amin(1))
        return torch.stack(found, 1)

    def layers_of(self, x: Tensor) -> Tensor:
        if not self.noise:
            return self._distances(x)
        layers = range(len(self.features.layers))
        return torch.stack([self._distances(self._moved(x, layer))[:, layer] for layer in layers], 1)

    def _moved(self, x: Tensor, layer: int) -> Tensor:
        away = ascent(lambda v: self._distances(v)[:, layer])(x)
        return straight_through_clamp(x - self.noise * away.sign())

    def _distances(self, x: Tensor) -> Tensor:
        return self.measure_layers(*self._seen(x))


def whitened(covariance: Tensor) -> Tensor:
    """W (D, R) with W W^T the pseudo-inverse of a covariance (D, D) of rank R.

    Raises:
        ValueError: it is zero.
    """
    variances, directions = torch.linalg.eigh(covariance)
    if not variances[-1] > 0:
        raise ValueError("expected features that vary within a class, got a covariance of zero")
    kept = variances > RELATIVE * variances[-1]
    return directions[:, kept] * variances[kept].rsqrt()
