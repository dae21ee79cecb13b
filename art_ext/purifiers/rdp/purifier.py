"""RDP as a purifier: what runs at inference, and the view into both branches."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn

from art_ext.attacks import Gradient, ascent, feature
from art_ext.images import check_images
from art_ext.purifiers.base import Purifier
from art_ext.purifiers.rdp.network import BLOCKS, Decoder, Encoder, Reconstructor, Trunk

POSITIONS = ("input", "output")


class Disentangled(NamedTuple):
    """Both branches of RDP on the same images (the paper's Figure 7).

    Attributes:
        purified: P(x), (N, C, H, W) in [0, 1].
        reconstructed: R(x) from both latents, (N, C, H, W) in [0, 1].
        natural_latent: what P's encoder found, (N, width, H / fold, W / fold).
        adversarial_latent: what R's encoder found, the same shape.
        without_natural: R(x) with Gaussian noise of the natural latent's mean and std in its place.
    """

    purified: Tensor
    reconstructed: Tensor
    natural_latent: Tensor
    adversarial_latent: Tensor
    without_natural: Tensor


class RDP(Purifier):
    """P of RDP: encoder and decoder of residual blocks, no skip from input to output, and optionally Gaussian noise.

    The defaults are the paper's family (NRP's trunk of 23 RRDB, 64 wide); `block="residual"` is its light variant.
    The paper does not say where the encoder ends: here after the first half of the blocks, unless told otherwise.

    Args:
        channels: image channels.
        width: channels of the trunk and of the latents.
        blocks: blocks of P, encoder and decoder together; R has as many.
        block: "rrdb" or "residual".
        fold: side of the squares of pixels that P and R work on as channels (space to depth); the image's sides must be
            multiples of it. 1 is the paper; 2 costs a quarter at the same width, for a CPU.
        encoder_blocks: how many of P's blocks belong to the encoder.
        noise_std: standard deviation of the Gaussian noise at inference, in the units of x: 0.05 is the paper's dynamic
            defence, 0 a deterministic one.
        noise_position: "input" adds it to the image before P (as NRP's code does), "output" behind P.

    Raises:
        ValueError: an argument out of its range.
    """

    name = "rdp"
    paper = "arXiv:2110.07801"
    small: ClassVar[dict[str, Any]] = {"channels": 3, "width": 4, "blocks": 2, "block": "residual"}

    def __init__(
        self,
        channels: int = 3,
        width: int = 64,
        blocks: int = 23,
        block: str = "rrdb",
        *,
        fold: int = 1,
        encoder_blocks: int | None = None,
        noise_std: float = 0.0,
        noise_position: str = "input",
    ) -> None:
        super().__init__()
        encoder_blocks = blocks - blocks // 2 if encoder_blocks is None else encoder_blocks
        if block not in BLOCKS:
            raise ValueError(f"expected block to be one of {', '.join(BLOCKS)}; got {block!r}")
        if min(channels, width, blocks, fold) < 1 or not 0 <= encoder_blocks <= blocks:
            raise ValueError(
                "expected channels, width, blocks and fold >= 1 and encoder_blocks in [0, blocks], got "
                f"{channels=}, {width=}, {blocks=}, {fold=}, {encoder_blocks=}"
            )
        self.channels = channels
        self.set_noise(noise_std, noise_position)
        trunk = Trunk(width, block, fold)
        self.encoder = Encoder(channels, trunk, encoder_blocks)
        self.decoder = Decoder(channels, trunk, blocks - encoder_blocks)
        self.reconstructor = Reconstructor(channels, trunk, blocks)

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        """Whether noise is on."""
        return self.noise_std > 0

    def set_noise(self, std: float, position: str = "input") -> RDP:
        """Turns the dynamic defence on (the paper: 0.05) or off (0); gives back itself.

        Raises:
            ValueError: std is negative or not finite, or position is not "input" or "output".
        """
        if not 0 <= std < float("inf"):
            raise ValueError(f"expected noise_std >= 0, got {std}")
        if position not in POSITIONS:
            raise ValueError(f"expected noise_position to be 'input' or 'output', got {position!r}")
        self.noise_std, self.noise_position = std, position
        # What `save_pretrained` writes: the Hub mixin saw the constructor's arguments alone.
        made_with = cast(dict[str, Any], self._hub_mixin_config or {})
        self._hub_mixin_config = {**made_with, "noise_std": std, "noise_position": position}
        return self

    def purify(self, x: Tensor) -> Tensor:
        if not self.stochastic:
            return self.clean(x)
        if self.noise_position == "input":
            return self.clean((x + self.noise_std * torch.randn_like(x)).clamp(0, 1))
        purified = self.clean(x)
        return purified + self.noise_std * torch.randn_like(purified)

    def clean(self, x: Tensor) -> Tensor:
        """P(x) without noise and without clamping, (N, C, H, W)."""
        image: Tensor = self.decoder(self.encoder(x))
        return image

    def disentangle(self, x: Tensor) -> Disentangled:
        """Outputs and latents of both branches, without noise, under `no_grad`: for looking, not for attacking.

        Args:
            x: images (N, C, H, W) in [0, 1]; all at once, so keep N small.
        """
        check_images(x, channels=self.channels)
        with torch.no_grad():
            natural = self.encoder(x)
            reconstructed, adversarial = self.reconstructor(x, natural)
            noise = natural.mean() + natural.std() * torch.randn_like(natural)
            without, _ = self.reconstructor(x, noise)
            purified = self.decoder(natural)
        images = (image.clamp(0, 1) for image in (purified, reconstructed, without))
        purified, reconstructed, without = images
        return Disentangled(purified, reconstructed, natural, adversarial, without)

    def adaptive_attacks(self, classifier: nn.Module, x: Tensor, y: Tensor) -> dict[str, Gradient]:
        """SSP through P: drives the classifier's output on P(x') away from that on x, what P was trained to prevent.

        Hand in a `FeatureExtractor` for an inner layer. The gradient passes the final clamp.
        """
        return {"feature": ascent(feature(classifier, x, through=self.relaxed))}
