"""A file that is written block by block is the one that safetensors writes of the whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from art_ext.evaluation.run.blockwise import Blocks, save_blocks
from art_ext.nn import hashing


def test_it_is_the_file_of_the_whole_byte_for_byte(tmp_path: Path) -> None:
    tensors = {"b | é": torch.rand(7, 1, 2, 3), "a": torch.rand(4, 2), "none": torch.empty(0, 1, 2, 3)}
    save_file(tensors, tmp_path / "whole")
    save_blocks({k: Blocks(tuple(v.shape), iter(v.split(3))) for k, v in tensors.items()}, tmp_path / "blocks")
    assert (tmp_path / "blocks").read_bytes() == (tmp_path / "whole").read_bytes()


def test_rows_that_are_missing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected 32 bytes of examples, got 24"):
        save_blocks({"a": Blocks((4, 2), iter([torch.rand(3, 2)]))}, tmp_path / "file")


def test_a_hash_row_by_row_is_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [torch.rand(700, 3).T.contiguous().T, torch.arange(5), torch.tensor(1.0), torch.empty(0, 3)]
    parts = hashing.sha256(values)
    monkeypatch.setattr(hashing, "ROWS", 10**6)
    assert hashing.sha256(values) == parts
