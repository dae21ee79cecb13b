"""Features of several layers of a network, and its logits, in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class LayerFeatures(nn.Module):
    """Features (N, D_l) of each named layer of a classifier, and its logits (N, K); differentiable.

    The network is neither copied nor changed. Who wants one layer alone, without the rest of the pass, takes
    `art_ext.nn.FeatureExtractor`.

    Args:
        network: images (N, C, H, W) to logits (N, K).
        layers: names out of `network.named_modules()`, such as "features.3".
        pooled: the mean over positions of outputs (N, D, H, W), as Lee et al. 2018 have it, or over tokens of
            (N, T, D); otherwise every value is a feature.

    Raises:
        ValueError: no layers, or one that the network does not have.
    """

    def __init__(self, network: nn.Module, layers: Sequence[str], *, pooled: bool = True) -> None:
        super().__init__()
        # A module that stands in two places has two names: that of a purifier's own classifier behind it is one.
        names = [name for name, _ in network.named_modules(remove_duplicate=False) if name]
        unknown = [layer for layer in layers if layer not in names]
        if isinstance(layers, str) or not layers or unknown:
            raise ValueError(f"expected layers out of {', '.join(names) or 'none'}; got {layers!r}")
        self.network, self.layers, self.pooled = network, tuple(layers), pooled

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        seen: dict[str, Tensor] = {}
        with _watching(self.network, self.layers, seen, self._flat):
            logits: Tensor = self.network(x)
        missed = [layer for layer in self.layers if layer not in seen]
        if missed:
            raise RuntimeError(f"the network did not call its layers {', '.join(missed)}")
        return [seen[layer] for layer in self.layers], logits

    def joined(self, x: Tensor) -> Tensor:
        """The features of all layers side by side, (N, D_1 + D_2 + ...)."""
        return torch.cat(self(x)[0], dim=1)

    def _flat(self, output: Tensor) -> Tensor:
        if not self.pooled or output.ndim < 3:
            return output.flatten(1).clone()  # what comes next may overwrite it in place
        return output.mean(1) if output.ndim == 3 else output.flatten(2).mean(2)


@contextmanager
def _watching(
    network: nn.Module, layers: Sequence[str], seen: dict[str, Tensor], flat: Callable[[Tensor], Tensor]
) -> Iterator[None]:
    def keep(layer: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            seen[layer] = flat(output)

        return hook

    handles = [network.get_submodule(layer).register_forward_hook(keep(layer)) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
