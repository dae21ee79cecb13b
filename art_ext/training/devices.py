"""Device, precision and processes of a training, from plain settings: Lightning Fabric's, checked before it is made."""

from __future__ import annotations

import os
import sys
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

CHOICES = ("32-true", "bf16-mixed", "16-mixed")
"""Precisions that a training is given by name; all leave the weights in float32."""
STRATEGY = "ddp_find_unused_parameters_true"
"""Each player uses a part of the networks alone."""


def check_settings(device: torch.device, devices: int, precision: str) -> None:
    """Refuses a precision or a number of devices that cannot work here.

    Args:
        device: where the first process trains.
        devices: of each machine; on the CPU, processes.
        precision: of `CHOICES`.

    Raises:
        ValueError: one of them cannot work.
    """
    if precision not in CHOICES:
        raise ValueError(f"expected precision {', '.join(CHOICES)}, got {precision!r}")
    if precision == "16-mixed" and device.type == "cpu":
        raise ValueError("expected precision 32-true or bf16-mixed on the CPU, got '16-mixed', which needs a GPU")
    if not isinstance(devices, int) or isinstance(devices, bool) or devices < 1:
        raise ValueError(f"expected devices as a whole number of at least 1, got {devices!r}")
    if device.type == "cuda" and devices > torch.cuda.device_count():
        raise ValueError(f"expected at most {torch.cuda.device_count()} devices, those that are there, got {devices}")
    if _started_by_torchrun():
        started = int(os.environ["LOCAL_WORLD_SIZE"])
        if devices not in (1, started):
            raise ValueError(f"expected devices={started}, the processes that torchrun has started, got {devices}")
    elif devices > 1 and not _can_be_run_again():
        raise ValueError(
            f"expected devices=1 in a notebook or an interactive session, got {devices}: several processes run the "
            "program from its beginning, which takes a script, torchrun or fabric run"
        )


def make_fabric(device: torch.device, *, devices: int = 1, precision: str = "32-true") -> Fabric:
    """A Fabric on so many devices of a machine, not launched yet.

    A process that torchrun or `fabric run` has started joins the others. Under Slurm, `srun` starts the processes, one
    a device. Elsewhere `launch` runs the program again for each further device.

    Args:
        device: where the first process trains.
        devices: see `check_settings`.
        precision: likewise.

    Raises:
        ValueError: see `check_settings`.
    """
    check_settings(device, devices, precision)
    machines = 1
    if _started_by_torchrun():
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        machines = int(os.environ["WORLD_SIZE"]) // devices
    elif devices > 1 and "SLURM_NTASKS" in os.environ:
        machines = int(os.environ.get("SLURM_NNODES", 1))
    several = devices * machines > 1
    chosen: Any = [device.index or 0] if device.type == "cuda" and not several else devices
    said = {name: os.environ.get(f"LT_{name}") for name in ("STRATEGY", "ACCELERATOR", "PRECISION")}  # of fabric run
    plain: Any = None if precision == CHOICES[0] and said["PRECISION"] else precision
    return Fabric(
        accelerator="auto" if said["ACCELERATOR"] else device.type, devices=chosen, num_nodes=machines,
        strategy=STRATEGY if several and not said["STRATEGY"] else "auto", precision=plain,
    )  # fmt: skip


def rounding(device: torch.device) -> dict[str, Any]:
    """What decides how a GPU rounds in float32, by name, as torch has it now; nothing for a CPU.

    TF32 keeps 10 bits of what convolutions multiply, and is cuDNN's default.
    """
    if device.type != "cuda":
        return {}
    return {
        "TF32 in convolutions": torch.backends.cudnn.allow_tf32,
        "precision of float32 products": torch.get_float32_matmul_precision(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
    }


def launched(fabric: Fabric) -> Fabric:
    """The same, with all its processes running; a lone process has nothing to launch."""
    if fabric.world_size > 1 and not fabric._launched:
        fabric.launch()
    return fabric


def local_rank() -> int:
    """The number of this process on its machine, before anything is launched."""
    return int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", 0)))


def _started_by_torchrun() -> bool:
    return TorchElasticEnvironment.detect()


def _can_be_run_again() -> bool:
    """Whether the program is a script or a module, which further processes can run from the beginning."""
    main = sys.modules["__main__"]
    another = "LOCAL_RANK" in os.environ or "SLURM_NTASKS" in os.environ
    return another or (getattr(main, "__file__", None) is not None and not hasattr(sys, "ps1"))
