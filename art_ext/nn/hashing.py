"""What tells one set of tensors from another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROWS = 256
"""How much of a tensor is copied at a time."""


def sha256(values: Iterable[Any]) -> str:
    """Of the bytes of tensors, one after the other, wherever they lie; what is no tensor is passed over."""
    digest = hashlib.sha256()
    for value in values:
        if isinstance(value, Tensor):
            # Row by row where it is large: no second copy of it is made.
            for part in value.detach().split(ROWS) if value.ndim and len(value) > ROWS else [value.detach()]:
                # A single value may keep its stride through `contiguous`, and then has no view as bytes.
                held = part.cpu().reshape(-1).clone(memory_format=torch.contiguous_format)
                digest.update(held.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def sha256_of_file(path: Path | str) -> str:
    """Of a file's bytes."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
