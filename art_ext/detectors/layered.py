"""Detectors that score every layer of a classifier, and the ways to make one score of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from typing_extensions import Self

from art_ext.detectors.base import Detector
from art_ext.detectors.features import LayerFeatures
from art_ext.nn.modes import evaluating

COMBINATION = {"weights", "bias"}


class LayerDetector(Detector):
    """A score for each layer's features; their plain sum, or a logistic regression after `calibrate`.

    The network is used in eval mode and finds its own mode again.

    Args:
        network: images (N, C, H, W) in [0, 1] to logits (N, K); for residuals, see `on_residuals`.
        layers: names out of `network.named_modules()`.
        pooled: see `LayerFeatures`.

    Raises:
        ValueError: no layers, or one that the network does not have.
    """

    def __init__(self, network: nn.Module, layers: Sequence[str], *, pooled: bool = True) -> None:
        super().__init__()
        self.features = LayerFeatures(network, layers, pooled=pooled)

    @abstractmethod
    def learn_layers(self, features: list[Tensor], y: Tensor, classes: int) -> dict[str, Tensor]:
        """What is to be known about the features (N, D_l) of clean images, by name; the network has so many classes."""

    @abstractmethod
    def measure_layers(self, features: list[Tensor], logits: Tensor) -> Tensor:
        """Scores (N, L) from features (N, D_l) and logits (N, K)."""

    def layer_scores(self, x: Tensor) -> Tensor:
        """One score for each image and layer, (N, L), differentiable.

        Raises:
            RuntimeError: the detector has not been fitted.
            TypeError: x is not a floating-point tensor.
            ValueError: x is not (N, C, H, W) in [0, 1].
        """
        self._check(x)
        if not len(x):
            return x.new_zeros(0, len(self.features.layers))
        return torch.cat([self.layers_of(piece) for piece in x.split(self.batch_size)])

    def layers_of(self, x: Tensor) -> Tensor:
        """Scores (N, L) of at most `batch_size` images."""
        return self.measure_layers(*self._seen(x))

    def combined(self, layer_scores: Tensor) -> Tensor:
        """One score an image, (N,), from those of its layers (N, L)."""
        if "weights" not in self._buffers:
            return layer_scores.sum(1)
        return layer_scores @ self.get_buffer("weights") + self.get_buffer("bias")

    def calibrate(self, clean: Tensor, adversarial: Tensor) -> Self:
        """Learns from examples how much each layer counts [Lee et al. 2018], and gives itself.

        Scores are then log-odds. They know the attack that made the examples: test with others too.

        Args:
            clean: images (N, C, H, W) in [0, 1], noisy ones among them if these shall pass; not those of `fit`.
            adversarial: images (M, C, H, W) in [0, 1].

        Raises:
            RuntimeError: the detector has not been fitted.
            ValueError: a kind is missing.
        """
        with torch.no_grad():
            return self.calibrate_on(self.layer_scores(clean), self.layer_scores(adversarial))

    def calibrate_on(self, clean: Tensor, adversarial: Tensor) -> Self:
        """As `calibrate`, from layer scores (N, L) and (M, L).

        Raises:
            ValueError: a kind is missing, or a score is not finite.
        """
        weights, bias = logistic_regression(clean, adversarial)
        self.register_buffer("weights", weights)
        self.register_buffer("bias", bias)
        return self

    def learn(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        pieces = [self._seen(piece) for piece in x.split(self.batch_size)]
        layers = range(len(self.features.layers))
        features = [torch.cat([found[layer] for found, _ in pieces]) for layer in layers]
        return self.learn_layers(features, y.to(x.device), pieces[0][1].shape[1])

    def measure(self, x: Tensor) -> Tensor:
        return self.combined(self.layers_of(x))

    def optional(self) -> set[str]:
        return COMBINATION

    def _seen(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        with evaluating(self.features.network):
            found: tuple[list[Tensor], Tensor] = self.features(x)
        return found


def logistic_regression(clean: Tensor, adversarial: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (L,) and bias () of the log-odds that layer scores (N, L) are adversarial, not clean.

    scikit-learn's, with its L2 penalty of 1, on standardised scores. Differs from Lee et al. 2018: the penalty is not
    cross-validated.

    Raises:
        ValueError: a kind is missing, or a score is not finite.
    """
    if not len(clean) or not len(adversarial):
        raise ValueError(f"expected clean and adversarial examples, got {len(clean)} and {len(adversarial)}")
    both = torch.cat([clean, adversarial]).double()
    if not bool(both.isfinite().all()):
        raise ValueError("expected finite layer scores, got NaN or Inf values")
    from sklearn.linear_model import LogisticRegression

    mean, std = both.mean(0), both.std(0, correction=0)
    std = torch.where(std > 0, std, 1.0)
    kinds = [0] * len(clean) + [1] * len(adversarial)
    found = LogisticRegression(max_iter=1000).fit(((both - mean) / std).cpu().numpy(), kinds)
    weights = torch.as_tensor(found.coef_[0], device=both.device) / std
    bias = float(found.intercept_[0]) - weights @ mean
    return weights.to(clean.dtype), bias.to(clean.dtype)
