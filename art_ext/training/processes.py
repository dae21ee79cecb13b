"""What several processes of one training decide together, and which of them can work at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

PRECISIONS = ("32-true", "64-true", "bf16-mixed", "16-mixed")
"""Those that leave the weights as they are; half-precision weights would not come back bit-identical."""
SHARDED = ("FSDPStrategy", "ModelParallelStrategy", "DeepSpeedStrategy", "XLAFSDPStrategy")
"""Strategies that cut weights into shards, which optimizers that were made before cannot follow."""


def check_fabric(fabric: Fabric) -> None:
    """Refuses what no game of several players can be trained with, before anything is changed.

    Raises:
        ValueError: a precision that changes the weights themselves, or a strategy that shards them.
    """
    precision, strategy = str(fabric._precision.precision), type(fabric.strategy).__name__
    if precision not in PRECISIONS:
        raise ValueError(f"expected precision {', '.join(PRECISIONS)}, got {precision}, which changes the weights")
    if strategy in SHARDED:
        raise ValueError(
            "expected a strategy that keeps whole weights on each device, such as ddp_find_unused_parameters_true, "
            f"got {strategy}"
        )


def find_unused(fabric: Fabric) -> None:
    """Lets a strategy of gradients in step look for the parameters that a player does not use, whatever its name."""
    if isinstance(fabric.strategy, DDPStrategy):
        fabric.strategy._ddp_kwargs["find_unused_parameters"] = True


def end_together(fabric: Fabric, error: Exception | None) -> None:
    """Ends all processes at once where one of them has failed; each calls this at the same point.

    Raises:
        Exception: the process's own error.
        RuntimeError: another process's, in its words.
    """
    if fabric.world_size == 1 or not any_process(fabric, error is not None):
        if error is not None:
            raise error
        return
    said: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(said, None if error is None else f"{type(error).__name__}: {error}")
    if error is not None:
        raise error
    first = next(rank for rank, text in enumerate(said) if text is not None)
    raise RuntimeError(f"process {first} of this training ended with {said[first]}")


def by_first(fabric: Fabric, work: Callable[[], Any]) -> None:
    """Has the first process do something while the others wait; each calls this at the same point.

    Raises:
        Exception: the work's own error, in the first process.
        RuntimeError: that error in its words, in the others.
    """
    error = None
    if fabric.is_global_zero:
        try:
            work()
        except Exception as raised:
            error = raised
    end_together(fabric, error)


def any_process(fabric: Fabric, flag: bool) -> bool:
    """Whether the flag is up in any process; each calls this at the same point."""
    if fabric.world_size == 1:
        return flag
    raised = fabric.all_reduce(torch.tensor(float(flag), device=fabric.device), reduce_op="sum")
    return bool(torch.as_tensor(raised) > 0)
