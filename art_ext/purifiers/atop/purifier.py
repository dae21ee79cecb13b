"""AToP as a purifier: a random transform, and a network that restores the image from what it left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from art_ext.attacks import Gradient, ascent, cross_entropy, straight_through_clamp
from art_ext.images import check_images
from art_ext.nn.modes import seeded
from art_ext.purifiers.atop.network import DILATIONS, FOLDS, AutoEncoder, Generator
from art_ext.purifiers.atop.transforms import Draw, RandomTransform
from art_ext.purifiers.base import Purifier

RESTORERS = ("gan", "autoencoder")


class AToP(Purifier):
    """Hides and disturbs parts of the image at random and restores it [Lin et al., ICLR 2024].

    The whole refined image is the restoration, also where nothing was hidden. Transforms are drawn anew for each image
    at each call (the released code has one mask a batch), so the defence is randomised: attack it through EOT, and see
    `set_transform` for how much of it is only that. The defaults are the released generator's, which works at `size`
    256. `from_pretrained(..., transform="RT3")` puts another transform before the same weights.

    Args:
        channels: image channels.
        transform: "RT1" hides blocks, "RT2" adds noise, clips and hides blocks, "RT3" fills in turn the holes of
            1 / share masks that cover the noisy image, and pastes them together.
        width: of the network's first convolution; even for the generator, whose gates are in it.
        dilations: of the bottleneck's convolutions, at a quarter of the resolution.
        fold: 1 as released; 2 or 4 makes channels of blocks of 2 x 2 or 4 x 4 pixels instead of working at full or
            half the resolution, which on a CPU costs a fraction: attacks of 200 steps and 20 draws become affordable.
        grid: the image is cut into grid x grid blocks; its sides must have as many pixels.
        share: of the blocks that a mask hides, in (0, 1); for RT3 one over a whole number.
        noise: standard deviation of the Gaussian noise of RT2 and RT3, in the units of x.
        size: side to which images are resized (bilinear) before the transform, and back from after; the native one
            unless given. Attacks work on native images either way.
        restorer: "gan" is the inpainting `Generator`, which is told the mask; "autoencoder" an `AutoEncoder`, which is
            not.
        paste: keep what RT1 or RT2 left and restore the holes alone; RT3 restores all in any case.

    Raises:
        ValueError: an argument out of its range.
    """

    name = "atop"
    paper = "Lin et al., ICLR 2024"
    small: ClassVar[dict[str, Any]] = {"channels": 3, "width": 8, "dilations": [2], "grid": 4}

    def __init__(  # noqa: PLR0913  a network and a transform
        self,
        channels: int = 3,
        transform: str = "RT2",
        width: int = 48,
        dilations: Sequence[int] = DILATIONS,
        *,
        fold: int = 1,
        grid: int = 8,
        share: float = 0.25,
        noise: float = 0.25,
        size: int | None = None,
        restorer: str = "gan",
        paste: bool = False,
    ) -> None:
        super().__init__()
        if restorer not in RESTORERS:
            raise ValueError(f"expected restorer to be one of {', '.join(RESTORERS)}; got {restorer!r}")
        if min(channels, width, *dilations, 1) < 1 or (restorer == "gan" and width % 2):
            raise ValueError(
                "expected channels, width and dilations >= 1 and, for a generator, an even width, got "
                f"{channels=}, {width=}, {dilations=}"
            )
        if fold not in FOLDS:
            raise ValueError(f"expected fold to be one of {', '.join(map(str, FOLDS))}; got {fold!r}")
        if size is not None and size < grid:
            raise ValueError(f"expected size to be at least grid, {grid}, got {size}")
        self.transform = RandomTransform(transform, grid, share, noise)
        self.channels, self.width, self.size = channels, width, size
        self.restorer, self.paste = restorer, paste
        self.transform_seed: int | None = None
        network = Generator if restorer == "gan" else AutoEncoder
        self.network: nn.Module = network(channels, width, dilations, fold)

    @staticmethod
    def around(network: nn.Module, **options: Any) -> AToP:
        """The same defence around another network; such a purifier is trained and attacked, but not saved.

        Args:
            network: for restorer "autoencoder", images (N, C, H, W) in [0, 1] to the same; for "gan", images in
                [-1, 1], 0 where hidden, and masks (N, 1, H, W), 1 where hidden, to a coarse and a refined image in
                [-1, 1]. It is held, not copied.
            options: as the constructor takes them; `restorer` is "autoencoder" unless given, and `width` only scales
                the discriminator.

        Raises:
            TypeError: no module.
        """
        return AToPAround(network, **options)

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        """Whether transforms are drawn at each call."""
        return self.transform_seed is None

    def set_transform(self, seed: int | None) -> AToP:
        """Freezes masks and noise to one draw for every image and call, or draws them anew (None); gives itself.

        A diagnostic, not a defence: it is not saved.
        """
        self.transform_seed = seed
        return self

    def purify(self, x: Tensor) -> Tensor:
        seen = self.resized(x)
        return self.native(self.restorations(seen, self.draw(seen))[-1], x)

    def resized(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) at the resolution of the network."""
        return x if self.size is None else _resized(x, (self.size, self.size))

    def native(self, restored: Tensor, x: Tensor) -> Tensor:
        """Restorations at the resolution of x again; its inverse only where `size` is not smaller."""
        return _resized(restored, (x.shape[2], x.shape[3]))

    def draw(self, seen: Tensor) -> Draw:
        """Masks and noise for resized images; from the ambient generator unless frozen."""
        return self.transform.draw(seen, self.transform_seed)

    def restorations(self, seen: Tensor, draw: Draw) -> list[Tensor]:
        """Images (N, C, H, W), not clamped, of which the last is the restoration; the generator's coarse one is before.

        Args:
            seen: resized images in [0, 1].
            draw: for these images.
        """
        parts = self.transform(seen, draw)
        filled = [self._filled(part, mask) for part, mask in zip(parts, draw.masks, strict=True)]
        if self.transform.kind == "RT3":
            masks = draw.masks.to(seen.dtype)
            return [(masks * torch.stack(fills)).sum(0) for fills in zip(*filled, strict=True)]
        (images,) = filled
        if self.paste:
            images[-1] = torch.where(draw.masks[0], images[-1], parts[0])
        return images

    def _filled(self, part: Tensor, mask: Tensor) -> list[Tensor]:
        if self.restorer == "gan":
            images = [(image + 1) / 2 for image in self.network(2 * part - 1, mask.to(part.dtype))]
        else:
            images = [self.network(part)]
        if any(image.shape != part.shape for image in images):
            shapes = [tuple(image.shape) for image in images]
            raise ValueError(f"expected images of shape {tuple(part.shape)} from the network, got {shapes}")
        return images

    def transformed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the network sees of one draw, (K, N, C, H, W) in [0, 1], and the masks, (K, N, 1, H, W), True is hidden.

        K is 1, for RT3 the number of its masks; H and W are `size` where one is set. For looking.

        Args:
            x: images (N, C, H, W) in [0, 1]; all at once, so keep N small.
        """
        check_images(x, channels=self.channels)
        with torch.no_grad():
            seen = self.resized(x)
            draw = self.draw(seen)
            return self.transform(seen, draw), draw.masks

    def adaptive_attacks(self, classifier: nn.Module, x: Tensor, y: Tensor) -> dict[str, Gradient]:
        """The full gradient under one transform, which is known to the attacker.

        It is drawn once, for this attack, each image its own; those of the evaluation are others unless `set_transform`
        froze them. The gradient passes the final clamp.
        """
        draw = self.draw(self.resized(x))

        def model(v: Tensor) -> Tensor:
            known = draw.repeated(len(v) // max(1, len(x)))
            restored = self.native(self.restorations(self.resized(v), known)[-1], v)
            logits: Tensor = classifier(straight_through_clamp(restored))
            return logits

        loss = cross_entropy(model, y)
        return {"known transform": ascent(lambda v: loss(v))}  # not cut into pieces, as the draw is not


class AToPAround(AToP):
    """An AToP with a network that was handed in, see `AToP.around`."""

    def __init__(self, network: nn.Module, *, restorer: str = "autoencoder", **options: Any) -> None:
        if not isinstance(network, nn.Module):
            raise TypeError(f"expected the network as a module, got {network!r}")
        with seeded(0):  # the network that is made here is thrown away
            super().__init__(restorer=restorer, dilations=(), **options)
        self.network = network

    def save_pretrained(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: its network is no configuration.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            "expected an AToP that plain JSON values describe, got one around a network that was handed in: keep its "
            "code, torch.save(purifier.state_dict(), ...), and make it again"
        )

    def push_to_hub(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused, as `save_pretrained`."""
        self.save_pretrained()


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(x.shape[2:]) == size:
        return x
    return F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)
