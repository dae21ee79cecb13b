"""The executor that a user named."""

from __future__ import annotations

from typing import Any

from art_ext.evaluation.executors.base import Executor, Here
from art_ext.evaluation.executors.processes import Processes

NAMED = "a number of processes, 'torchrun', 'ray', 'ray://HOST:PORT', 'slurm' or an Executor"


def given_executor(executor: Any) -> Executor:
    """What came as `executor`: None is no workers, a number so many processes, a name that executor as it is.

    Raises:
        TypeError: another type.
        ValueError: another name, or a number below 1.
        ImportError: the library of a named one is not installed.
    """
    if executor is None:
        return Here()
    if isinstance(executor, Executor):
        return executor
    if isinstance(executor, int) and not isinstance(executor, bool):
        return Processes(executor)
    if not isinstance(executor, str):
        raise TypeError(f"expected executor as {NAMED}, got {type(executor).__name__}")
    if executor == "torchrun":
        from art_ext.evaluation.executors.torchrun import Torchrun

        return Torchrun()
    if executor == "ray" or executor.startswith("ray://"):
        from art_ext.evaluation.executors.ray import Ray

        return Ray(None if executor == "ray" else executor)
    if executor == "slurm":
        from art_ext.evaluation.executors.slurm import Slurm

        return Slurm()
    raise ValueError(f"expected executor as {NAMED}, got {executor!r}")
