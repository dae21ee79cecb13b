"""Where a training keeps its state."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from art_ext.files import remove_stale, replacing

SEAL = len(b"sha256 ") + 64
"""Bytes of the digest that ends a file."""


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
        """The state last written, None if there is none. Nothing but tensors and plain values is unpickled.

        Raises:
            ValueError: the file is damaged, or no checkpoint.
        """
        file = Path(self.path)
        if not file.exists():
            return None
        held = file.read_bytes()
        written, seal = held[:-SEAL], held[-SEAL:]
        if seal != _seal(written):
            raise ValueError(
                f"expected the checkpoint of a training, got {file}, which is damaged or something else: without it "
                "the training starts again"
            )
        state: dict[str, Any] = torch.load(io.BytesIO(written), map_location="cpu", weights_only=True)
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Writes the state in place of the last one, with a digest at the end."""
        remove_stale(Path(self.path).parent, Path(self.path).name)
        written = io.BytesIO()
        torch.save(state, written)
        with replacing(self.path) as temporary, temporary.open("wb") as file:
            file.write(written.getbuffer())
            file.write(_seal(written.getbuffer()))


def _seal(written: bytes | memoryview) -> bytes:
    """What stands after the bytes of a state."""
    return b"sha256 " + hashlib.sha256(written).hexdigest().encode()
