"""Where a training keeps its state."""

from __future__ import annotations

import hashlib
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from art_ext.files import remove_stale, replacing
from art_ext.plain import number

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
        object.__setattr__(self, "every", number(self.every, "every", whole=True, at_least=1))

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
        try:
            state: dict[str, Any] = torch.load(io.BytesIO(written), map_location="cpu", weights_only=True)
        except Exception as error:
            raise ValueError(
                f"expected the checkpoint of a training, got {file}, which cannot be read: {error}"
            ) from error
        return state

    def check_place(self) -> None:
        """Refuses a path that cannot be written, before a training is spent on it; its folder is made.

        Raises:
            ValueError: a folder, or a place that cannot be written.
        """
        if Path(self.path).is_dir():
            raise ValueError(f"expected a file for the checkpoint, got the folder {self.path}")
        folder = Path(self.path).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise ValueError(
                f"expected a checkpoint in a folder that can be written, got {self.path}: {error}"
            ) from error

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
