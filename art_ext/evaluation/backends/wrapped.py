"""A user's network as a library is handed it: one module, in float32, whose gradients are finite."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from art_ext.attacks.norms import finite


class Wrapped(nn.Module):
    """The module, called as a whole.

    ART calls the children of an `nn.Sequential` one by one, so that hooks on the Sequential never see a pass; it
    calls this as one module. Images come in as float32, whatever numpy made of them on the way, and logits leave as
    float32. An entry of the gradient with respect to the images that is not finite becomes 0: libraries go on along
    the others, as the attacks of this package do.

    Args:
        module: images (N, C, H, W) to logits (N, K).
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.training = module.training  # alone: the modes inside are the user's

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        if x.requires_grad and torch.is_grad_enabled():
            x = x.view_as(x)
            x.register_hook(finite)
        logits: Tensor = self.module(x)
        return logits.float()


def check_classes(classes: int, least: int, who: str) -> None:
    """Refuses an attack whose loss the model has too few classes for.

    Raises:
        ValueError: fewer classes than `least`.
    """
    if classes < least:
        raise ValueError(f"expected at least {least} classes for {who}, got {classes}")
