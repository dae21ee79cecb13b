"""The random transforms of AToP: blocks hidden, noise, and masks that cover the image [Lin et al., ICLR 2024]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from art_ext.nn.vit import hidden_patches

TRANSFORMS = ("RT1", "RT2", "RT3")
GREY = 0.5
"""What stands in a hole: the middle of [0, 1], which is 0 in the generator's [-1, 1]."""


class Draw(NamedTuple):
    """What a transform draws for N images.

    Attributes:
        masks: True where a pixel is hidden, (K, N, 1, H, W), K masks an image.
        noise: added to the images, (N, C, H, W), in their units; None without noise.
    """

    masks: Tensor
    noise: Tensor | None

    def repeated(self, copies: int) -> Draw:
        """For `x.repeat(copies, 1, 1, 1)`: every copy of an image has the same draw."""
        noise = None if self.noise is None else self.noise.repeat(copies, 1, 1, 1)
        return Draw(self.masks.repeat(1, copies, 1, 1, 1), noise)


@dataclass(frozen=True)
class RandomTransform:
    """RT1 hides blocks; RT2 adds Gaussian noise before; RT3 does so under K masks that cover the image between them.

    An image is cut into grid x grid blocks, whose sides differ by a pixel where the image's is no multiple of grid.

    Attributes:
        kind: "RT1", "RT2" or "RT3".
        grid: blocks a row and a column.
        share: of the blocks that a mask hides, rounded down, at least one and not all. RT3 has 1 / share masks, which
            hide every block exactly once.
        noise: standard deviation, in the units of the images; RT1 has none.

    Raises:
        ValueError: a value out of its range, or no whole 1 / share for RT3.
    """

    kind: str = "RT2"
    grid: int = 8
    share: float = 0.25
    noise: float = 0.25

    def __post_init__(self) -> None:
        if self.kind not in TRANSFORMS:
            raise ValueError(f"expected transform to be one of {', '.join(TRANSFORMS)}; got {self.kind!r}")
        if self.grid < 2 or not 0 < self.share < 1 or not 0 <= self.noise < float("inf"):
            raise ValueError(
                "expected grid >= 2, share in (0, 1) and noise >= 0, got "
                f"grid={self.grid}, share={self.share}, noise={self.noise}"
            )
        if self.kind == "RT3" and abs(1 / self.share - self.masks) > 1e-6:
            raise ValueError(f"expected RT3's share to be one over a whole number, got {self.share}")

    @property
    def masks(self) -> int:
        """K, masks an image."""
        return round(1 / self.share) if self.kind == "RT3" else 1

    def draw(self, x: Tensor, seed: int | None = None) -> Draw:
        """Masks and noise for images (N, C, H, W).

        Args:
            x: the images; only shape, dtype and device are read.
            seed: one draw, the same for every image; each image has its own, from the ambient generator, unless given.

        Raises:
            ValueError: a side with fewer pixels than the grid has blocks.
        """
        n, _, *sides = x.shape
        if min(sides) < self.grid:
            raise ValueError(f"expected image sides of at least {self.grid} pixels, the grid's, got {tuple(sides)}")
        noisy = self.kind != "RT1"
        if seed is None:
            order = torch.rand(n, self.grid**2, device=x.device).argsort(1)
            noise = torch.randn_like(x) if noisy else None
        else:
            generator = torch.Generator().manual_seed(seed)
            order = torch.randperm(self.grid**2, generator=generator).to(x.device, non_blocking=True).expand(n, -1)
            drawn = torch.randn(x.shape[1:], generator=generator) if noisy else None
            noise = None if drawn is None else drawn.to(x, non_blocking=True).expand_as(x)
        blocks = hidden_patches(order, self.masks, self.share).view(self.masks, n, 1, self.grid, self.grid)
        rows, columns = (torch.arange(side, device=x.device) * self.grid // side for side in sides)
        return Draw(blocks[..., rows, :][..., columns], None if noise is None else self.noise * noise)

    def __call__(self, x: Tensor, draw: Draw) -> Tensor:
        """The transformed images, one for each mask: (N, C, H, W) in [0, 1] to (K, N, C, H, W) in [0, 1].

        The clip after the noise is a plain clamp: the gradient passes wherever it does not hold, and stops in holes.
        """
        if draw.noise is not None:
            x = (x + draw.noise).clamp(0, 1)
        return torch.where(draw.masks, GREY, x)
