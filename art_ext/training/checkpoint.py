"""Checkpoints that a kill at any moment leaves whole: the old one or the new one, never half of either."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch


@dataclass(frozen=True)
class Checkpoint:
    """Where a training keeps its state, and how often.

    Args:
        path: a file; its folder is made. If it exists, the training goes on from it.
        every: steps between two writes; the end of the training is always written.
    """

    path: Path | str
    every: int = 100

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"expected every >= 1, got {self.every}")

    def load(self) -> dict[str, Any] | None:
        """The state last written, None if there is none. Nothing but tensors and plain values is unpickled."""
        if not Path(self.path).exists():
            return None
        state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Writes the state in place of the last one."""
        with replacing(self.path) as temporary:
            torch.save(state, temporary)


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """A temporary path in the same folder that takes the place of `path` at once when the block ends well."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Neither mkstemp's nor safetensors' files are readable to others; the target is as any new file is.
    temporary = target.with_name(f".{target.name}.{uuid4().hex}.part")
    temporary.touch()
    mode = temporary.stat().st_mode
    try:
        yield temporary
        temporary.chmod(mode)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
