"""An intermediate layer of a frozen network as a function of the image."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class _Reached(Exception):  # a signal, not an error
    def __init__(self, output: Tensor) -> None:
        self.output = output


def _stop(module: nn.Module, args: Any, output: Tensor) -> None:
    raise _Reached(output)


class FeatureExtractor(nn.Module):
    """F_n: what a named layer of a network gives on images (N, C, H, W) in [0, 1]. Later layers are not run.

    The network is neither copied nor changed; whoever wants it frozen trains other parameters.

    Args:
        network: any module that takes images; normalisation belongs inside it (see `art_ext.images.Normalize`).
        layer: a name out of `network.named_modules()`, such as "features.15".

    Raises:
        ValueError: if the network has no such layer, with the names that it has.
    """

    def __init__(self, network: nn.Module, layer: str) -> None:
        super().__init__()
        names = [name for name, _ in network.named_modules() if name]
        if layer not in names:
            raise ValueError(f"expected layer to be one of {', '.join(names) or 'none'}; got {layer!r}")
        self.network = network
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        handle = self.network.get_submodule(self.layer).register_forward_hook(_stop)
        try:
            self.network(x)
        except _Reached as reached:
            return reached.output
        finally:
            handle.remove()
        raise RuntimeError(f"the network did not call its layer {self.layer!r}")
