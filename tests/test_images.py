"""The image convention: what is let in, and what the refusals say."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from art_ext.images import TOLERANCE, Normalize, check_images


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_lets_images_in(dtype: torch.dtype) -> None:
    check_images(torch.rand(2, 3, 4, 5).to(dtype), channels=3)
    check_images(torch.zeros(0, 3, 4, 5, dtype=dtype))
    check_images(torch.full((2, 3, 4, 5), 1 + TOLERANCE / 2))
    check_images(torch.full((2, 3, 4, 5), -TOLERANCE / 2))


@pytest.mark.parametrize(
    ("x", "error", "what"),
    [
        (torch.rand(3, 4, 5), ValueError, r"\(N, C, H, W\), got shape \(3, 4, 5\)"),
        (torch.rand(2, 4, 5, 3), ValueError, r"3 channel\(s\), got shape \(2, 4, 5, 3\)"),
        (torch.full((1, 3, 2, 2), 1.1), ValueError, r"got values in \[1.1, 1.1\]$"),
        (torch.full((1, 3, 2, 2), 200.0), ValueError, r"looks like \[0, 255\]"),
        (torch.full((1, 3, 2, 2), -0.5), ValueError, r"looks like \[-1, 1\]"),
        (torch.full((1, 3, 2, 2), -300.0), ValueError, r"got values in \[-300, -300\]$"),
        (torch.full((1, 3, 2, 2), torch.nan), ValueError, "NaN or Inf"),
        (torch.full((1, 3, 2, 2), -torch.inf), ValueError, "NaN or Inf"),
        (torch.zeros(1, 3, 2, 2, dtype=torch.uint8), TypeError, "torch.uint8"),
        (None, TypeError, "NoneType"),
    ],
)
def test_refuses_the_rest(x: Tensor, error: type[Exception], what: str) -> None:
    with pytest.raises(error, match=what):
        check_images(x, channels=3)


def test_one_bad_pixel_among_many_is_seen() -> None:
    x = torch.rand(4, 3, 5, 6)
    x[2, 1, 3, 4] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        check_images(x)


def test_normalize_by_hand() -> None:
    x = torch.tensor([0.5, 1.0]).view(1, 2, 1, 1)
    assert Normalize([0.5, 0.2], [0.25, 0.4])(x).flatten().tolist() == pytest.approx([0, 2])
    assert not Normalize([0.5], [0.5]).state_dict()
    for mean, std in (([0.5], [0.0]), ([0.5], [1.0, 1.0])):
        with pytest.raises(ValueError, match="expected one mean and one positive std"):
            Normalize(mean, std)
