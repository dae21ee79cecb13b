"""What a step of a training holds in memory, before it is begun."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from art_ext.cli.terminal import warn
from art_ext.nn.modes import evaluating, seeded, trainable

GIB = 2**30
PASSES = 4
"""That a step of a training keeps at once, at the most."""


def activations(model: nn.Module, x: Tensor) -> int:
    """Bytes that a forward pass of these images keeps for the backward pass, without the model's own tensors."""
    parameters = list(model.parameters())
    own = {t.untyped_storage().data_ptr() for t in (*parameters, *model.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    # In eval mode, so that running statistics stay as they are.
    with (
        seeded(0), evaluating(model), trainable(parameters, parameters), torch.enable_grad(),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
    ):  # fmt: skip
        out = model(x)  # held until the end, so that no place is used twice
        del out
    return sum(kept.values())


def free() -> int | None:
    """Bytes that are free on this machine, None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None


def check_memory(model: nn.Module, x: Tensor, batch_size: int, name: str) -> None:
    """Warns where one pass on so many images on a CPU keeps more than a quarter of the memory that is free.

    The system kills a process there without a word; a GPU raises.

    A step keeps several: of clean and of attacked images, and of the helper networks, which are as large in RDP.

    Args:
        model: what is trained, on its device.
        x: an image (1, C, H, W).
        batch_size: images a step.
        name: of the method.
    """
    if next(model.parameters()).device.type != "cpu":
        return
    there, needed = free(), batch_size * activations(model, x[:1])
    if there is not None and needed > there / PASSES:
        warn(
            f"one pass of {batch_size} images keeps {needed / GIB:.1f} GiB, a step up to {PASSES} times that, and "
            f"{there / GIB:.1f} GiB are free: if the training is killed, lower --batch-size, or take a smaller network "
            f"(art-ext train {name} --help)"
        )
