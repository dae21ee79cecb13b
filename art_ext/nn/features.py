"""An intermediate layer of a frozen network as a function of the image."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from art_ext.images import Normalize

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def imagenet_vgg16(layer: int = 15) -> FeatureExtractor:
    """F of NRP and RDP: torchvision's VGG-16 with ImageNet weights, up to a layer of its `features`.

    Images (N, 3, H, W) in [0, 1] are normalised inside. torchvision fetches the weights on first use.

    Args:
        layer: index into `features`; 15 is relu3_3, whose output is (N, 256, H / 4, W / 4).

    Raises:
        ImportError: torchvision is missing or was not built for the installed torch.
    """
    try:
        from torchvision.models import VGG16_Weights, vgg16
    except (ImportError, RuntimeError) as error:  # a build for another torch raises a RuntimeError
        raise ImportError("VGG-16 needs torchvision built for the installed torch: pip install torchvision") from error
    network = vgg16(weights=VGG16_Weights.IMAGENET1K_V1).features.eval().requires_grad_(False)
    return FeatureExtractor(nn.Sequential(Normalize(IMAGENET_MEAN, IMAGENET_STD), network), f"1.{layer}")


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
