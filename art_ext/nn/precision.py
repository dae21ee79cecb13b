"""Gradients in bfloat16, of a model that answers in float32."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from art_ext.nn.layout import channels_last

FLOAT32, BFLOAT16 = "float32", "bfloat16"
PRECISIONS = (FLOAT32, BFLOAT16)


class RoughGradients(nn.Module):
    """A model whose passes with gradients run in bfloat16, channels last; without gradients it is the model itself.

    So an attack gets its gradients, and the logits of the same passes, at half the bits, and whatever it asks under
    `torch.no_grad` is answered in full. Weights stay as they are: each pass converts what it multiplies
    (`torch.autocast`). Convolutions run channels last because the images come so, which changes no value but by
    rounding; on networks of few channels it is as fast as the usual order, on others faster.

    Args:
        module: images (N, C, H, W) to logits (N, K), with float32 weights.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K) in float32 of images (N, C, H, W)."""
        logits: Tensor
        if not torch.is_grad_enabled():
            logits = self.module(x)
            return logits
        with torch.autocast(x.device.type, torch.bfloat16):
            logits = self.module(channels_last(x) if x.ndim == 4 else x)
        return logits.float()


def exact(model: Any) -> Any:
    """The model itself, in float32, of one whose gradients are rough; any other one as it is."""
    return model.module if isinstance(model, RoughGradients) else model


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16; without them it is slower than float32.

    A version of torch that cannot tell of a CPU (before 2.10) counts as one without.
    """
    if device.type == "cuda":
        return bool(torch.version.hip) or torch.cuda.get_device_capability(device)[0] >= 8
    found: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
