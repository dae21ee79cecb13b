"""Draws in batches of copies."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from art_ext.nn.copies import copies_of, in_slices, joined


@pytest.mark.parametrize(
    ("at_once", "expected"), [(None, [5]), (15, [5]), (14, [4, 1]), (7, [2, 2, 1]), (2, [1, 1, 1, 1, 1])]
)
def test_every_draw_has_its_copy_and_no_batch_is_too_large(at_once: int | None, expected: list[int]) -> None:
    x = torch.rand(3, 2, 4)
    found = list(copies_of(x, 5, at_once))
    assert [k for k, _ in found] == expected
    assert all(torch.equal(batch.view(k, 3, 2, 4), x.expand(k, 3, 2, 4)) for k, batch in found)
    assert [batch.shape[0] for _, batch in copies_of(x[:0], 2, 8)] == [0]


@pytest.mark.parametrize("gradient", [True, False])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_parts_are_joined_as_torch_does(gradient: bool, form: torch.memory_format) -> None:
    x = torch.rand(5, 3, 4, 2).to(memory_format=form).requires_grad_(gradient)
    for size in (2, 5):
        whole = joined(iter(x.split(size)), 5)
        assert torch.equal(whole, x)
        assert whole.stride() == torch.cat(x.split(size)).stride()
        assert whole.requires_grad == gradient
    assert joined([torch.rand(0, 2)], 0).shape == (0, 2)


def test_slices_are_put_together_in_order() -> None:
    seen: list[int] = []
    x = np.arange(14).reshape(7, 2)
    assert (in_slices(lambda v: (seen.append(len(v)), 2 * v)[1], x, 3) == 2 * x).all()
    assert seen == [3, 3, 1]
    assert in_slices(len, x, 0) == 7  # left to the function to refuse
