"""Tensors are told apart by their values, whatever else they come with."""

from __future__ import annotations

import hashlib

import torch

from art_ext.nn.hashing import sha256


def test_the_hash_is_that_of_the_bytes_in_order() -> None:
    # 1.0 and -2.0 as little-endian floats, then 258 as an int64.
    expected = hashlib.sha256(bytes.fromhex("0000803f000000c0") + (258).to_bytes(8, "little")).hexdigest()
    x, y = torch.tensor([1.0, -2.0]), torch.tensor([258])
    assert sha256([x, "no tensor", None, torch.empty(0), y]) == expected
    assert sha256([x.requires_grad_(), torch.stack([y, y + 1], 1)[:, 0]]) == expected  # not contiguous
    assert sha256([y, x]) != expected
