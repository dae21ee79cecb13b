"""Writes a safetensors file a block at a time: what is written is never in memory as a whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

ALIGNED = 8
"""Bytes that the length of the header is a multiple of."""


class Blocks(NamedTuple):
    """A float32 tensor of this shape, whose rows come block by block."""

    shape: tuple[int, ...]
    rows: Iterator[Tensor]


def save_blocks(tensors: Mapping[str, Blocks], file: Path) -> None:
    """The file that `safetensors.torch.save_file` makes of the whole tensors, byte for byte.

    Raises:
        ValueError: rows that are not of the shape that was said.
    """
    header, end = {}, 0
    for name in sorted(tensors, key=str.encode):
        shape = tensors[name].shape
        begin, end = end, end + 4 * torch.Size(shape).numel()
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGNED)
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name in header:
            for block in tensors[name].rows:
                stream.write(block.detach().cpu().to(torch.float32).contiguous().numpy().tobytes())
        written = stream.tell() - 8 - len(text)
    if written != end:
        raise ValueError(f"expected {end} bytes of examples, got {written}")
