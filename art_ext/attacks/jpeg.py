"""The JPEG attack: a perturbation of the quantised coefficients that JPEG would store."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from art_ext.attacks.losses import Model, logit_margin
from art_ext.attacks.search import best_iterate, check_arguments, constant, sign_steps

LUMA_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""Quantisation steps of luma in 8-bit units, rows by vertical frequency [ITU-T T.81, table K.1]: quality 50."""
CHROMA_TABLE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *[(99,) * 8] * 4,
)
"""The same of chroma [ITU-T T.81, table K.2]."""
RGB_TO_YCBCR = (
    (0.299, 0.587, 0.114),
    (-0.168735892, -0.331264108, 0.5),
    (0.5, -0.418687589, -0.081312411),
)
"""RGB to luma, Cb and Cr, the chroma around 0 [JFIF 1.02]."""


def jpeg_attack(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    eps: float = 0.125,
    steps: int = 100,
    step_size: float | None = None,
    random_start: bool = True,
    targeted: bool = False,
    loss: Literal["margin", "cross_entropy"] = "margin",
) -> Tensor:
    """Images (N, C, H, W) in [0, 1] whose JPEG coefficients have moved by at most eps / 2 [arXiv:1908.08016].

    The attack of Kang et al. 2019: Linf PGD on the coefficients of `jpeg_coefficients`, where 1 is one quantisation
    step. The variable stays within +-eps and half of it is added, so that eps 1 reaches what rounding can change.
    Nothing is rounded. Images pass the whole codec: those of 3 channels lose the chroma that 4:2:0 does not keep.
    Differs from the reference: each sample keeps its iterate of highest margin, not its last one; the first pass too is
    within eps; one channel is luma alone; sides need not be multiples of 16, see `jpeg_coefficients`.

    Args:
        model: images in [0, 1] to logits (N, K).
        x: clean images of 1 or 3 channels.
        y: labels (N,); the classes wanted when targeted.
        eps: radius, in half quantisation steps.
        steps: gradient evaluations.
        step_size: of a sign step, in the units of eps; eps / sqrt(steps) unless given.
        random_start: begin uniformly within +-eps, from the ambient generator.
        targeted: make y win instead of lose.
        loss: what is ascended.

    Raises:
        ValueError: images of other channels, eps or step_size not positive and finite, negative steps, another loss,
            or labels that do not match the images.
    """
    step_size = eps / math.sqrt(max(1, steps)) if step_size is None else step_size
    check_arguments(x, y, steps=steps, positive={"eps": eps, "step_size": step_size})
    if loss not in ("margin", "cross_entropy"):
        raise ValueError(f"expected loss to be margin or cross_entropy, got {loss!r}")
    sign = -1.0 if targeted else 1.0
    x = x.detach()
    clean = jpeg_coefficients(x)
    lengths = [plane[:1].numel() for plane in clean]
    variable = x.new_zeros(len(x), sum(lengths))
    if random_start:
        variable.uniform_(-eps, eps)
    variable.requires_grad_()

    def attempt(variable: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        parts = variable.split(lengths, 1)
        moved = [plane + part.view_as(plane) / 2 for plane, part in zip(clean, parts, strict=True)]
        x_adv = jpeg_images(moved, (x.shape[2], x.shape[3])).clamp(0, 1)  # straight through, it is a weaker attack
        logits = model(x_adv)
        value = sign * logit_margin(logits, y)
        return x_adv, value, value if loss == "margin" else sign * F.cross_entropy(logits, y, reduction="none")

    return best_iterate(x, variable, attempt, sign_steps(variable, bound=eps, step_size=step_size), steps)


def jpeg_coefficients(x: Tensor) -> list[Tensor]:
    """What JPEG would round, in quantisation steps, of images (N, C, H, W) in [0, 1].

    The planes are luma (N, 1, rows, columns, 8, 8), block by block, and with 3 channels Cb and Cr (N, 2, ...), means
    of 2 x 2 pixels (4:2:0). Sides that are no multiple of a block (8, or 16 with chroma) are padded by repeating the
    last row and column.

    Raises:
        ValueError: if the images have neither 1 nor 3 channels.
    """
    _check_channels(x)
    x = _padded(x, 8 if x.shape[1] == 1 else 16)
    if x.shape[1] == 1:
        return [_forward(x * 255 - 128, LUMA_TABLE)]
    planes = torch.einsum("ij,njhw->nihw", constant(RGB_TO_YCBCR, x), x * 255)
    n, _, height, width = x.shape
    chroma = planes[:, 1:].reshape(n, 2, height // 2, 2, width // 2, 2).mean((3, 5))
    return [_forward(planes[:, :1] - 128, LUMA_TABLE), _forward(chroma, CHROMA_TABLE)]


def jpeg_images(coefficients: list[Tensor], size: tuple[int, int]) -> Tensor:
    """Images (N, C, H, W) of coefficients as `jpeg_coefficients` gives them, not clipped.

    Undoes it exactly for one channel, and for three up to the differences of chroma within 2 x 2 pixels.

    Args:
        coefficients: luma, and chroma if there is any.
        size: height and width to crop to.
    """
    luma = _backward(coefficients[0], LUMA_TABLE) + 128
    if len(coefficients) == 1:
        return luma[..., : size[0], : size[1]] / 255
    chroma = _backward(coefficients[1], CHROMA_TABLE).repeat_interleave(2, 2).repeat_interleave(2, 3)
    inverse = constant(RGB_TO_YCBCR, luma, inverse=True)
    rgb = torch.einsum("ij,njhw->nihw", inverse, torch.cat([luma, chroma], 1))
    return rgb[..., : size[0], : size[1]] / 255


def _forward(planes: Tensor, table: tuple[tuple[int, ...], ...]) -> Tensor:
    """(N, C, H, W) to the cosine transforms of its blocks over the table, (N, C, H / 8, W / 8, 8, 8)."""
    n, c, height, width = planes.shape
    blocks = planes.reshape(n, c, height // 8, 8, width // 8, 8).transpose(3, 4)
    basis = _cosines(planes)
    return basis @ blocks @ basis.T / constant(table, planes)


def _backward(coefficients: Tensor, table: tuple[tuple[int, ...], ...]) -> Tensor:
    n, c, rows, columns = coefficients.shape[:4]
    basis = _cosines(coefficients)
    blocks = basis.T @ (coefficients * constant(table, coefficients)) @ basis
    return blocks.transpose(3, 4).reshape(n, c, 8 * rows, 8 * columns)


def _cosines(like: Tensor) -> Tensor:
    """The orthonormal DCT-II of 8 points as a matrix, frequencies by rows."""
    k = torch.arange(8, dtype=like.dtype, device=like.device)
    basis = torch.cos((2 * k + 1) * k[:, None] * math.pi / 16) / 2
    basis[0] /= math.sqrt(2)
    return basis


def _padded(x: Tensor, block: int) -> Tensor:
    for axis in (2, 3):
        side = x.shape[axis]
        index = torch.arange(-(-side // block) * block, device=x.device).clamp_max(side - 1)
        x = x.index_select(axis, index)
    return x


def _check_channels(x: Tensor) -> None:
    if x.shape[1] not in (1, 3):
        raise ValueError(f"expected 1 or 3 channels, got {x.shape[1]}")
