"""Draws in batches of copies."""

from __future__ import annotations

import pytest
import torch

from art_ext.nn.copies import copies_of


@pytest.mark.parametrize(
    ("at_once", "expected"), [(None, [5]), (15, [5]), (14, [4, 1]), (7, [2, 2, 1]), (2, [1, 1, 1, 1, 1])]
)
def test_every_draw_has_its_copy_and_no_batch_is_too_large(at_once: int | None, expected: list[int]) -> None:
    x = torch.rand(3, 2, 4)
    found = list(copies_of(x, 5, at_once))
    assert [k for k, _ in found] == expected
    assert all(torch.equal(batch.view(k, 3, 2, 4), x.expand(k, 3, 2, 4)) for k, batch in found)
    assert [batch.shape[0] for _, batch in copies_of(x[:0], 2, 8)] == [0]
