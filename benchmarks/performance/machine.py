"""Where figures come from: the machine and the versions."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = (
    "art-ext", "adversarial-robustness-toolbox", "autoattack", "foolbox", "lightning-fabric", "numpy", "pyautoattack",
    "torch", "torchattacks",
)  # fmt: skip


def machine(device: torch.device) -> dict[str, Any]:
    """CPU, cores, bfloat16 instructions and GPU, as JSON values."""
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
        "amx_bf16": torch.cpu._is_amx_tile_supported(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "system": f"{platform.system()} {platform.machine()}",
    }


def cpu_model() -> str:
    """Its name, as far as the system says it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text("utf-8").splitlines() if file.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def versions() -> dict[str, str | None]:
    """Python's and the packages'; None for one that is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found
