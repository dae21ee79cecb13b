"""How an evaluation computes: full float32, with gradients, in pieces that fit the memory."""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import torch

from art_ext.nn.precision import BFLOAT16, FLOAT32, has_bfloat16

T = TypeVar("T")
DEVICES = ("cpu", "cuda")
OUT_OF_MEMORY = (torch.OutOfMemoryError, MemoryError)


@contextmanager
def full_precision() -> Iterator[None]:
    """float32 without TF32, with gradients, whatever the caller's modes are; these are restored after.

    TF32 keeps 10 bits of a pixel in convolutions, which is cuDNN's default: small steps of an attack would vanish.
    """
    flags = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = flags[0]
        torch.set_float32_matmul_precision(flags[1])


def usable(crafting: str, device: torch.device) -> tuple[str, list[str]]:
    """The precision that examples are made in on a device, and the report's notes where it is not the one wanted.

    Warns where the device has no instructions for bfloat16: float32 is the faster one there.
    """
    if crafting != BFLOAT16 or has_bfloat16(device):
        return crafting, []
    said = f"{device_name(device)} has no bfloat16 instructions: examples are made in float32"
    warnings.warn(said, UserWarning, stacklevel=3)
    return FLOAT32, [said]


def precision_flags(crafting: str = FLOAT32) -> dict[str, Any]:
    """What decides how torch rounds, for the report.

    Args:
        crafting: what examples are made in, where a row does not say another one.
    """
    return {
        "crafting": crafting,
        "answers": FLOAT32,
        "tf32": torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32,
        "cudnn": torch.backends.cudnn.version(),
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
    }


def halving(size: int, attempt: Callable[[int], T]) -> T:
    """What `attempt(size)` gives; out of memory, it is tried again with half the size.

    Raises:
        torch.OutOfMemoryError, MemoryError: even with a size of 1.
    """
    while True:
        try:
            return attempt(size)
        except OUT_OF_MEMORY:
            if size <= 1:
                raise
        size //= 2
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()


def check_device(device: torch.device) -> None:
    """Refuses accelerators whose randomness and precision are not looked after here.

    Raises:
        ValueError: a device other than a CPU or CUDA's.
    """
    if device.type not in DEVICES:
        raise ValueError(f"expected images on one of {', '.join(DEVICES)}, got {device.type}: move them with x.cpu()")


def clock(device: torch.device) -> float:
    """Seconds, after the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def reset_peak_memory(device: torch.device) -> None:
    """Begins to measure anew where the device can."""
    if device.type == "cuda":
        with suppress(RuntimeError, AttributeError):  # an allocator that is plugged in keeps no count
            torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int:
    """Bytes that the device held at most since `reset_peak_memory`; on a CPU what the process ever held, or 0."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # not on Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)


def device_name(device: torch.device) -> str:
    """For the report."""
    return str(device) if device.type == "cpu" else torch.cuda.get_device_name(device)
