"""Models that come as files of TorchScript or torch.export."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self

from art_ext.cli.errors import machine_failed

DYNAMIC = "torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim.AUTO},)) with two or more images in x"


class Compiled(nn.Module):
    """A network whose mode was fixed when it was compiled: `train` and `eval` change this module alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def train(self, mode: bool = True) -> Self:
        self.training = mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits


def load_scripted(path: str | Path, device: torch.device) -> Compiled:
    """A TorchScript model in eval mode.

    Raises:
        ValueError: no TorchScript file.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`torch\.jit\.load` is deprecated", DeprecationWarning)
            network: nn.Module = torch.jit.load(str(path), map_location=device)
    except (RuntimeError, ValueError) as error:
        if machine_failed(error):
            raise
        raise ValueError(
            f"expected a TorchScript file (torch.jit.save), got {path}, which is none: for weights or a pickled model "
            "write a function that builds it, and say file.py:function"
        ) from error
    return Compiled(network.eval())  # gives frozen TorchScript the mode that it lacks


def load_exported(path: str | Path, device: torch.device) -> Compiled:
    """A model of torch.export, in the mode in which it was exported.

    Raises:
        ValueError: no such file, more inputs than the images, or a batch size that is fixed.
    """
    try:
        program = torch.export.load(path)
    except Exception as error:  # zipfile, json, pickle and torch each raise their own
        if machine_failed(error):
            raise
        raise ValueError(f"expected a torch.export file (torch.export.save), got {path}: {error}") from error
    _check_batch(program, path)
    if device.type != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, device)
    return Compiled(program.module())


def _check_batch(program: Any, path: str | Path) -> None:
    inputs = program.graph_signature.user_inputs
    if len(inputs) != 1:
        raise ValueError(f"expected a model of one input, the images, got {len(inputs)} in {path}")
    shape = next(n.meta["val"].shape for n in program.graph.nodes if n.op == "placeholder" and n.name == inputs[0])
    if shape and isinstance(shape[0], int):
        raise ValueError(
            f"expected a model exported with a dynamic batch dimension, got one for batches of {shape[0]} in {path}: "
            f"export it by {DYNAMIC}"
        )
