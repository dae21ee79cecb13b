"""ReColorAdv: adversarial images whose colours have changed, the same colour the same way everywhere."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from art_ext.attacks.gradient import straight_through_clamp
from art_ext.attacks.losses import Model, margin
from art_ext.attacks.search import adam, best_iterate, check_arguments, check_smoothness, constant, roughness

RGB_TO_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
"""Linear sRGB to CIE XYZ under D65 [IEC 61966-2-1]; white is the sum of each row, of luminance 1."""
KNEE = (6 / 29) ** 3
"""Luminance below which CIE lightness is linear."""
SLOPE = (29 / 3) ** 3
"""Lightness per luminance there."""


def recoloradv(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    bound: float = 0.06,
    grid: tuple[int, int, int] = (16, 32, 32),
    steps: int = 100,
    step_size: float = 0.001,
    smoothness: float = 0.0036,
    targeted: bool = False,
) -> Tensor:
    """Images (N, 3, H, W) in [0, 1] whose colours have moved by at most `bound` [arXiv:1906.00001].

    The attack of Laidlaw & Feizi 2019. Each image has a look-up grid of displacements over its colours in CIE-LUV,
    scaled as L / 100, (u + 100) / 200 and (v + 100) / 200 and interpolated trilinearly. What leaves the gamut is
    clipped: lightness to [0, 100], then RGB to [0, 1]. Adam ascends the margin minus smoothness / bound times the
    roughness of the grid, from no displacement. Differs from the reference: each sample keeps its iterate of highest
    margin, not its last one; and colours with u or v beyond +-100, as of saturated red, take the displacement of the
    nearest grid point, where the reference pulls them into that range even with no displacement.

    Args:
        model: images in [0, 1] to logits (N, K).
        x: clean images.
        y: labels (N,); the classes wanted when targeted.
        bound: largest displacement in each channel of the scaled LUV.
        grid: points along L, u and v.
        steps: gradient evaluations.
        step_size: Adam's learning rate, in the units of bound.
        smoothness: weight of the roughness, per bound; 0 leaves it out.
        targeted: make y win instead of lose.

    Raises:
        ValueError: images not of 3 channels, bound or step_size not positive and finite, negative steps, smoothness
            negative or not finite, fewer than 2 grid points along an axis, or labels that do not match the images.
    """
    check_arguments(x, y, steps=steps, positive={"bound": bound, "step_size": step_size})
    check_smoothness(smoothness)
    if len(grid) != 3 or min(grid) < 2:
        raise ValueError(f"expected a grid of three sides of at least 2 points, got {grid}")
    x = x.detach()
    rate = margin(model, y, targeted=targeted)
    luv = _scaled(rgb_to_luv(x))
    table = x.new_zeros(len(x), 3, *grid, requires_grad=True)

    def attempt(table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x_adv = straight_through_clamp(luv_to_rgb(_unscaled(luv + look_up(table, luv))))
        value = rate(x_adv)
        return x_adv, value, value - smoothness / bound * roughness(table)

    return best_iterate(x, table, attempt, adam(table, bound=bound, step_size=step_size), steps)


def look_up(table: Tensor, places: Tensor) -> Tensor:
    """What each image's table holds at its pixels' colours, trilinear between points, (N, 3, H, W).

    Args:
        table: (N, 3, A, B, C), over [0, 1] along each axis, first and last point on the ends.
        places: (N, 3, H, W), channels in the order of the axes; outside [0, 1] the nearest point holds.
    """
    points = (2 * places - 1).permute(0, 2, 3, 1).flip(-1).unsqueeze(1)  # (N, 1, H, W, 3), the last axis first
    return F.grid_sample(table, points, "bilinear", padding_mode="border", align_corners=True).squeeze(2)


def rgb_to_luv(x: Tensor) -> Tensor:
    """CIE-LUV (N, 3, H, W) under D65 of sRGB images (N, 3, H, W) in [0, 1]; L in [0, 100], u and v about +-180.

    Gradients are finite everywhere, black included, whose chromaticity is taken to be that of white.

    Raises:
        ValueError: if the images do not have 3 channels.
    """
    _check_channels(x)
    linear = torch.where(x > 0.04045, ((x + 0.055) / 1.055) ** 2.4, x / 12.92)
    white_u, white_v = _white()
    big_x, big_y, big_z = torch.einsum("ij,njhw->inhw", constant(RGB_TO_XYZ, x), linear)
    total = big_x + 15 * big_y + 3 * big_z
    lit = total > 1e-8
    total = torch.where(lit, total, 1)
    lightness = torch.where(big_y > KNEE, 116 * big_y.clamp_min(KNEE) ** (1 / 3) - 16, SLOPE * big_y)
    u = 13 * lightness * (torch.where(lit, 4 * big_x / total, white_u) - white_u)
    v = 13 * lightness * (torch.where(lit, 9 * big_y / total, white_v) - white_v)
    return torch.stack([lightness, u, v], 1)


def luv_to_rgb(luv: Tensor) -> Tensor:
    """sRGB (N, 3, H, W) of CIE-LUV (N, 3, H, W) under D65: in [0, 1] for colours of the gamut, not clipped for others.

    Lightness is clipped to [0, 100], and v from below where no colour of the gamut is, so that values and gradients
    are finite for any finite LUV.

    Raises:
        ValueError: if there are not 3 channels.
    """
    _check_channels(luv)
    white_u, white_v = _white()
    lightness = luv[:, 0].clamp(0, 100)
    big_y = torch.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness / SLOPE)
    # 13 L u' and 13 L v', at black those of white. In the gamut v' >= 0.158, that of blue; the floor is at 0.1.
    lit = lightness.clamp_min(0.01)
    a, b = luv[:, 1] + 13 * lit * white_u, luv[:, 2] + 13 * lit * white_v
    b = torch.maximum(b, 1.3 * lit)
    big_x = big_y * 9 * a / (4 * b)
    big_z = big_y * (156 * lit - 3 * a - 20 * b) / (4 * b)
    inverse = constant(RGB_TO_XYZ, luv, inverse=True)
    linear = torch.einsum("ij,njhw->nihw", inverse, torch.stack([big_x, big_y, big_z], 1))
    return torch.where(linear > 0.0031308, 1.055 * linear.clamp_min(0.0031308) ** (1 / 2.4) - 0.055, 12.92 * linear)


def _white() -> tuple[float, float]:
    """u' and v' of white."""
    x, y, z = (sum(row) for row in RGB_TO_XYZ)
    total = x + 15 * y + 3 * z
    return 4 * x / total, 9 * y / total


def _scaled(luv: Tensor) -> Tensor:
    lightness, chroma = luv.split([1, 2], 1)
    return torch.cat([lightness / 100, (chroma + 100) / 200], 1)


def _unscaled(luv: Tensor) -> Tensor:
    lightness, chroma = luv.split([1, 2], 1)
    return torch.cat([lightness * 100, chroma * 200 - 100], 1)


def _check_channels(x: Tensor) -> None:
    if x.shape[1] != 3:
        raise ValueError(f"expected 3 channels, which colour needs, got {x.shape[1]}")
