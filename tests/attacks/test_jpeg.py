"""The JPEG attack: coefficients against scipy and Pillow's tables, moved by at most eps / 2."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.fft import dctn
from torch import Tensor, nn

from art_ext.attacks import jpeg_attack
from art_ext.attacks.jpeg import CHROMA_TABLE, LUMA_TABLE, RGB_TO_YCBCR, jpeg_coefficients, jpeg_images


def logits(weights: Tensor) -> Any:
    return lambda v: torch.stack([v.new_zeros(len(v)), (v * weights).flatten(1).sum(1)], 1)


def test_tables_are_those_of_quality_50() -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", quality=50)
    with Image.open(file) as image:
        found = image.quantization
    assert found[0] == [step for row in LUMA_TABLE for step in row]
    assert found[1] == [step for row in CHROMA_TABLE for step in row]


def test_one_channel_against_scipy() -> None:
    x = torch.rand(2, 1, 16, 24, dtype=torch.float64)
    (found,) = jpeg_coefficients(x)
    assert found.shape == (2, 1, 2, 3, 8, 8)
    for n, row, column in np.ndindex(2, 2, 3):
        block = x[n, 0, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8].numpy() * 255 - 128
        expected = dctn(block, norm="ortho") / np.array(LUMA_TABLE)
        np.testing.assert_allclose(found[n, 0, row, column].numpy(), expected, atol=1e-9)


def test_colours_by_hand() -> None:
    r, g, b = 0.9, 0.2, 0.6
    x = torch.tensor([r, g, b]).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    y = 0.299 * r + 0.587 * g + 0.114 * b
    luma, chroma = jpeg_coefficients(x)
    assert luma.shape == (1, 1, 2, 2, 8, 8)
    assert chroma.shape == (1, 2, 1, 1, 8, 8)
    torch.testing.assert_close(luma[..., 0, 0], torch.full((1, 1, 2, 2), 8 * (255 * y - 128) / 16))  # DC: 8 times
    dc = torch.tensor([(b - y) / 1.772, (r - y) / 1.402]) * 255 * 8 / 17
    torch.testing.assert_close(chroma[..., 0, 0].flatten(), dc, atol=1e-3, rtol=0)
    for plane in (luma, chroma):
        assert float(plane.flatten(4)[..., 1:].abs().max()) < 1e-4


@pytest.mark.parametrize("size", [(8, 16), (5, 7), (28, 28), (1, 17)])
def test_undoes_itself_but_for_fine_chroma(size: tuple[int, int]) -> None:
    grey = torch.rand(2, 1, *size)
    torch.testing.assert_close(jpeg_images(jpeg_coefficients(grey), size), grey, atol=1e-5, rtol=0)
    coarse = torch.rand(2, 3, -(-size[0] // 2), -(-size[1] // 2)).repeat_interleave(2, 2).repeat_interleave(2, 3)
    coarse = coarse[..., : size[0], : size[1]]
    torch.testing.assert_close(jpeg_images(jpeg_coefficients(coarse), size), coarse, atol=1e-5, rtol=0)


def test_chroma_is_the_mean_of_four_and_luma_is_kept() -> None:
    x, matrix = torch.rand(2, 3, 16, 32, dtype=torch.float64), torch.tensor(RGB_TO_YCBCR, dtype=torch.float64)
    before = torch.einsum("ij,njhw->nihw", matrix, x)
    after = torch.einsum("ij,njhw->nihw", matrix, jpeg_images(jpeg_coefficients(x), (16, 32)))
    torch.testing.assert_close(after[:, 0], before[:, 0])
    mean = nn.functional.avg_pool2d(before[:, 1:], 2)
    torch.testing.assert_close(after[:, 1:], nn.functional.interpolate(mean, scale_factor=2, mode="nearest"))


@pytest.mark.parametrize(("channels", "padded"), [(1, (16, 24)), (3, (16, 32))])
def test_sides_are_padded_by_repetition(channels: int, padded: tuple[int, int]) -> None:
    x = torch.rand(2, channels, 9, 17)
    full = nn.functional.pad(x, (0, padded[1] - 17, 0, padded[0] - 9), "replicate")
    for found, expected in zip(jpeg_coefficients(x), jpeg_coefficients(full), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("random_start", [False, True])
def test_coefficients_move_by_half_of_eps(channels: int, random_start: bool) -> None:
    x = 0.45 + 0.1 * torch.rand(3, channels, 16, 16).double()  # far from the border of the box
    model = logits(torch.randn(channels, 16, 16).double())
    seen: list[Tensor] = []
    options: dict[str, Any] = {"eps": 0.04, "steps": 16, "random_start": random_start}
    found = jpeg_attack(lambda v: seen.append(v.detach()) or model(v), x, torch.zeros(3, dtype=torch.long), **options)
    clean = jpeg_coefficients(x)
    for v in (*seen, found):
        for plane, moved in zip(clean, jpeg_coefficients(v), strict=True):
            assert float((moved - plane).abs().max()) <= 0.02 + 1e-9
    for plane, moved in zip(clean, jpeg_coefficients(found), strict=True):  # linear: every coefficient goes to the end
        torch.testing.assert_close((moved - plane).abs(), torch.full_like(plane, 0.02))
    start = jpeg_coefficients(seen[0])[0] - clean[0]
    assert float(start.abs().mean()) == pytest.approx(0.01 if random_start else 0, abs=0.001)
    assert float(start.mean()) == pytest.approx(0, abs=0.002)


@pytest.mark.parametrize(("step_size", "first"), [(None, 0.04 / 4 / 2), (0.03, 0.03 / 2)])
def test_the_first_step_by_hand(step_size: float | None, first: float) -> None:
    x, seen = torch.full((1, 1, 8, 8), 0.5).double(), []
    model = logits(torch.randn(1, 8, 8).double())
    options: dict[str, Any] = {"eps": 0.04, "steps": 16, "step_size": step_size, "random_start": False}
    jpeg_attack(lambda v: seen.append(v.detach()) or model(v), x, torch.tensor([0]), **options)
    moved = jpeg_coefficients(seen[1])[0] - jpeg_coefficients(seen[0])[0]
    torch.testing.assert_close(moved.abs(), torch.full_like(moved, first))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("loss", ["margin", "cross_entropy"])
def test_breaks_an_undefended_model(channels: int, loss: Any) -> None:
    weights = torch.randn(channels, 10, 12)
    model = logits(weights / 4)
    x = jpeg_images(jpeg_coefficients(0.2 + 0.6 * torch.rand(6, channels, 10, 12)), (10, 12))
    tilt = (torch.arange(6) % 2 * 2 - 1) * 0.2 - (x * weights / 4).flatten(1).sum(1)
    x = (x + tilt.view(-1, 1, 1, 1) * weights * 4 / weights.square().sum()).clamp(0, 1)
    if channels == 3:
        x = jpeg_images(jpeg_coefficients(x), (10, 12)).clamp(0, 1)
    y = model(x).argmax(1)
    planes = jpeg_coefficients(x)
    noise = [plane + torch.empty_like(plane).uniform_(-0.02, 0.02) for plane in planes]
    assert float((model(jpeg_images(noise, (10, 12))).argmax(1) == y).float().mean()) > 0.5  # the budget alone
    found = jpeg_attack(model, x, y, eps=0.3, steps=20, loss=loss)
    assert bool((model(found).argmax(1) != y).all())
    towards = jpeg_attack(model, x, 1 - y, eps=0.3, steps=20, loss=loss, targeted=True)
    assert bool((model(towards).argmax(1) == 1 - y).all())


def test_cross_entropy_is_ascended_and_the_margin_still_rates() -> None:
    weights = torch.randn(3, 64)

    def model(v: Tensor) -> Tensor:  # only the third logit, which never wins, depends on the image at first order
        return torch.stack([0 * v.sum((1, 2, 3)), 0 * v.sum((1, 2, 3)) - 1, v.flatten(1) @ weights[0] - 9], 1)

    x, y = torch.full((1, 1, 8, 8), 0.5), torch.tensor([0])
    options: dict[str, Any] = {"eps": 0.1, "steps": 5, "random_start": False}
    still = jpeg_attack(model, x, y, **options)
    torch.testing.assert_close(still, x)  # the margin is -1, whatever the third logit does
    seen: list[Tensor] = []
    found = jpeg_attack(lambda v: seen.append(v.detach()) or model(v), x, y, **options, loss="cross_entropy")
    assert float(model(seen[-1])[0, 2]) > float(model(x)[0, 2]) + 0.1
    torch.testing.assert_close(found, x)


def test_what_it_refuses() -> None:
    model, y = logits(torch.ones(2, 8, 8)), torch.tensor([0])
    with pytest.raises(ValueError, match="expected 1 or 3 channels, got 2"):
        jpeg_attack(model, torch.rand(1, 2, 8, 8), y)
    with pytest.raises(ValueError, match="expected 1 or 3 channels, got 2"):
        jpeg_coefficients(torch.rand(1, 2, 8, 8))
    bad: Any = "dlr"
    with pytest.raises(ValueError, match="expected loss to be margin or cross_entropy, got 'dlr'"):
        jpeg_attack(model, torch.rand(1, 1, 8, 8), y, loss=bad)
