"""The image convention: what is refused, with which hint; the layer that leaves it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from art_ext.images import TOLERANCE, Normalize, check_images, check_layout, check_range, range_fault

SHAPE = (2, 3, 4, 5)


def between(low: float, high: float) -> Tensor:
    """Images whose smallest and largest values these are."""
    x = torch.full(SHAPE, (low + high) / 2)
    x[0, 1, 2, 3], x[1, 2, 0, 4] = low, high
    return x


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_images_pass(dtype: torch.dtype) -> None:
    check_images(torch.rand(SHAPE).to(dtype))
    check_images(between(0, 1).to(dtype).requires_grad_(), channels=3)
    check_images(torch.zeros(0, 3, 4, 5, dtype=dtype))


def test_the_tolerance_is_a_quarter_of_an_8_bit_step() -> None:
    assert pytest.approx(1 / 255 / 4, rel=0.03) == TOLERANCE  # 0.00098
    check_images(between(-0.9 * TOLERANCE, 1 + 0.9 * TOLERANCE))
    for low, high in ((-1.1 * TOLERANCE, 1), (0, 1 + 1.1 * TOLERANCE)):
        with pytest.raises(ValueError, match=r"expected images in \[0, 1\], got values in"):
            check_images(between(low, high))


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        ([[1.0]], TypeError, "expected images as a torch tensor, got list"),
        (torch.zeros(SHAPE).numpy(), TypeError, "expected images as a torch tensor, got ndarray"),
        (torch.zeros(SHAPE, dtype=torch.uint8), TypeError, r"got torch.uint8: convert with x.float\(\) / 255"),
        (torch.zeros(SHAPE, dtype=torch.int64), TypeError, "got torch.int64"),
        (torch.zeros(SHAPE, dtype=torch.bool), TypeError, "got torch.bool"),
        (torch.zeros(SHAPE, dtype=torch.complex64), TypeError, "got torch.complex64"),
        (torch.zeros(3, 4, 5), ValueError, r"expected images of shape \(N, C, H, W\), got shape \(3, 4, 5\)"),
        (torch.zeros(1, 2, 3, 4, 5), ValueError, r"got shape \(1, 2, 3, 4, 5\)"),
        (torch.tensor(0.5), ValueError, r"got shape \(\)"),
    ],
)
def test_what_is_no_batch_of_images(x: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check_images(x)  # type: ignore[arg-type]


def test_channels() -> None:
    for channels in (1, 2, 4):
        with pytest.raises(ValueError, match=rf"expected images with {channels} channel\(s\), got shape \(2, 3, 4, 5"):
            check_images(torch.rand(SHAPE), channels=channels)
    with pytest.raises(ValueError, match="expected images with 1 channel"):
        check_images(torch.zeros(0, 3, 4, 5), channels=1)  # empty batches too


def test_the_layout_alone() -> None:
    check_layout(between(-5, 300), channels=3)
    with pytest.raises(ValueError, match="expected images with 1 channel"):
        check_layout(torch.rand(SHAPE), channels=1)
    assert range_fault(torch.rand(SHAPE)) == range_fault(torch.rand(2, 3, 0, 5)) == ""


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_one_value_that_is_not_finite(bad: float) -> None:
    x = torch.rand(SHAPE)
    x[1, 0, 2, 1] = bad
    for check in (check_images, check_range):
        with pytest.raises(ValueError, match="expected finite images"):
            check(x)


@pytest.mark.parametrize(
    ("low", "high", "values", "hint"),
    [
        (0, 255, "[0, 255]", "this looks like [0, 255]: divide by 255"),
        (0, 17, "[0, 17]", "this looks like [0, 255]: divide by 255"),
        (-1, 1, "[-1, 1]", "this looks like [-1, 1]: use (x + 1) / 2"),
        (-0.0123456, 0.9, "[-0.01235, 0.9]", "this looks like [-1, 1]: use (x + 1) / 2"),
        (-2.1, 2.6, "[-2.1, 2.6]", ""),  # standardised
        (0, 1.5, "[0, 1.5]", ""),  # an attack that did not clamp
        (0, 256, "[0, 256]", ""),
        (-1, 200, "[-1, 200]", ""),
    ],
)
def test_the_message_names_the_values_and_guesses(low: float, high: float, values: str, hint: str) -> None:
    with pytest.raises(ValueError, match="expected images in") as caught:
        check_images(between(low, high))
    expected = f"expected images in [0, 1], got values in {values}" + (f" ({hint})" if hint else "")
    assert str(caught.value) == expected


def test_normalize_by_hand() -> None:
    layer = Normalize([0.5, 0.25], [0.5, 0.125])
    x = torch.tensor([[1.0, 0.5], [0.0, 0.25]]).view(2, 2, 1, 1).expand(2, 2, 3, 4)
    # (1 - 0.5) / 0.5 = 1, (0.5 - 0.25) / 0.125 = 2; (0 - 0.5) / 0.5 = -1, 0
    assert torch.equal(layer(x), torch.tensor([[1.0, 2.0], [-1.0, 0.0]]).view(2, 2, 1, 1).expand(2, 2, 3, 4))


def test_normalize_has_no_weights_but_moves_with_its_network() -> None:
    layer = Normalize([0.5], [0.25])
    assert list(layer.parameters()) == []
    assert layer.state_dict() == {}  # a checkpoint of the network without it still fits
    assert layer.double()(torch.rand(2, 1, 3, 4).double()).dtype == torch.float64


@pytest.mark.parametrize(
    ("mean", "std"),
    [([0.5, 0.5], [0.5]), ([0.5], [0.5, 0.5]), ([0.5], [0.0]), ([0.5, 0.5], [0.5, -0.1])],
)
def test_normalize_refuses(mean: list[float], std: list[float]) -> None:
    with pytest.raises(ValueError, match="expected one mean and one positive std a channel, got"):
        Normalize(mean, std)
