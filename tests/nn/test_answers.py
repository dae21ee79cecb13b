"""What a network answers, its rows that are not finite included."""

from __future__ import annotations

import pytest
import torch

from art_ext.nn import predicted


def test_predicted_classes() -> None:
    found = predicted(torch.tensor([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0]]))
    assert found.tolist() == [1, 0]
    assert found.dtype == torch.int64
    assert predicted(torch.zeros(0, 3)).shape == (0,)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_a_row_that_is_not_finite_is_no_class(bad: float, dtype: torch.dtype) -> None:
    """One entry is enough: a network that overflows has not answered."""
    logits = torch.tensor([[0.0, bad], [bad, bad], [0.0, 1.0]], dtype=dtype)
    assert predicted(logits).tolist() == [-1, -1, 1]
