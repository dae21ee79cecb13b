"""DIR as a purifier: complementary masks, restorations, their average."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from art_ext.attacks import Gradient, ascent, cross_entropy, straight_through_clamp
from art_ext.images import check_images
from art_ext.nn.vit import hidden_counts, hidden_patches
from art_ext.plain import plain
from art_ext.purifiers.base import Purifier
from art_ext.purifiers.dir.network import MASKINGS, MaskedAutoEncoder


class DIR(Purifier):
    """Hides random patches, restores the image from the rest, and averages the restorations [Zhou et al. 2023, Eq. 5].

    The defaults are the paper's for 32 x 32 images. Masks are drawn anew for each image at each call, so the defence is
    randomised: attack it through EOT, and see `set_masks` for how much of it is only that.

    Args:
        channels: image channels.
        patch: side of a patch in pixels; image sides must be multiples of it.
        width: of the tokens, a multiple of 4 and of heads.
        heads: of the attention.
        depth: blocks of the encoder.
        decoder_depth: blocks of the decoder.
        masks: K, masks an image.
        ratio: share of the patches that a mask hides, in (0, 1).
        masking: "tokens" or "pixels", see `MaskedAutoEncoder`.
        draws: sets of masks at inference, all averaged; the paper has 1.

    Raises:
        ValueError: an argument out of its range.
    """

    name = "dir"
    paper = "Zhou et al., ICML 2023"
    small: ClassVar[dict[str, Any]] = {"channels": 3, "width": 8, "heads": 2, "depth": 1, "decoder_depth": 1}

    def __init__(
        self,
        channels: int = 3,
        patch: int = 2,
        width: int = 192,
        heads: int = 3,
        depth: int = 8,
        decoder_depth: int = 2,
        *,
        masks: int = 2,
        ratio: float = 0.5,
        masking: str = "tokens",
        draws: int = 1,
    ) -> None:
        super().__init__()
        if min(channels, patch, width, heads, masks) < 1 or min(depth, decoder_depth) < 0:
            raise ValueError(
                "expected channels, patch, width, heads and masks >= 1 and depths >= 0, got "
                f"{channels=}, {patch=}, {width=}, {heads=}, {masks=}, {depth=}, {decoder_depth=}"
            )
        if width % 4 or width % heads:
            raise ValueError(f"expected width to be a multiple of 4 and of heads, got {width=} and {heads=}")
        if not 0 < ratio < 1 or masking not in MASKINGS:
            raise ValueError(f"expected ratio in (0, 1) and masking out of {MASKINGS}, got {ratio} and {masking!r}")
        self.channels = channels
        self.masks, self.ratio = masks, ratio
        self.set_draws(draws)
        self.masks_seed: int | None = None
        self.network = MaskedAutoEncoder(channels, patch, width, heads, depth, decoder_depth, masking)

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        """Whether masks are drawn at each call."""
        return self.masks_seed is None

    def set_masks(self, seed: int | None) -> DIR:
        """Freezes the masks to one draw, the same for every image and call, or draws them anew (None); gives itself.

        A diagnostic, not a defence: it is not saved.
        """
        self.masks_seed = seed
        return self

    def set_draws(self, draws: int) -> DIR:
        """Averages the restorations of so many sets of masks at inference; gives itself. It is saved.

        Raises:
            ValueError: draws is not a whole number >= 1.
        """
        draws = plain(draws, "draws")
        if isinstance(draws, bool) or not isinstance(draws, int) or draws < 1:
            raise ValueError(f"expected draws to be a whole number >= 1, got {draws!r}")
        self.draws = draws
        # What `save_pretrained` writes: the Hub mixin saw the constructor's arguments alone.
        self._hub_mixin_config = {**cast(dict[str, Any], self._hub_mixin_config or {}), "draws": draws}
        return self

    def purify(self, x: Tensor) -> Tensor:
        restored = [self.fused(x, self.hidden(x, draw)) for draw in range(self.draws)]
        return torch.stack(restored).mean(0)

    def hidden(self, x: Tensor, draw: int = 0) -> Tensor:
        """Masks for a batch, (K, N, T), True where a patch is hidden; from the ambient generator unless frozen."""
        patches = (x.shape[2] // self.network.patch) * (x.shape[3] // self.network.patch)
        if self.masks_seed is None:
            order = torch.rand(len(x), patches, device=x.device).argsort(1)
        else:
            generator = torch.Generator().manual_seed(self.masks_seed + draw)
            order = torch.randperm(patches, generator=generator).to(x.device, non_blocking=True).expand(len(x), -1)
        return hidden_patches(order, self.masks, self.ratio)

    def fused(self, x: Tensor, hidden: Tensor) -> Tensor:
        """The mean of the restorations under given masks (K, N, T), Eq. 5; not clamped.

        The released code takes the mean of the decoder's tokens; before a linear head of each token that is the same.
        """
        return self.parts(x, hidden).mean(0)

    def parts(self, x: Tensor, hidden: Tensor) -> Tensor:
        """The restoration under each of the masks (K, N, T): (K, N, C, H, W), not clamped."""
        return torch.stack([self.network(x, mask, count=count) for mask, count in self.counted(hidden)])

    def counted(self, hidden: Tensor) -> list[tuple[Tensor, int | None]]:
        """Each of the masks (K, N, T) with how many patches of an image it hides; None where they are not K."""
        counts: list[int] | list[None] = [None] * len(hidden)
        if len(hidden) == self.masks:
            counts = hidden_counts(hidden.shape[2], self.masks, self.ratio)
        return [*zip(hidden, counts, strict=True)]

    def restorations(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Restorations in [0, 1] (K, N, C, H, W) and the hidden patches (K, N, T) of one draw; for looking.

        Args:
            x: images (N, C, H, W) in [0, 1]; all at once, so keep N small.
        """
        check_images(x, channels=self.channels)
        with torch.no_grad():
            hidden = self.hidden(x)
            return self.parts(x, hidden).clamp(0, 1), hidden

    def adaptive_attacks(self, classifier: nn.Module, x: Tensor, y: Tensor) -> dict[str, Gradient]:
        """Eq. 8 for one submitted image: masks are known to the attacker, and he sums the losses of the restorations.

        The masks are drawn once, for this attack; those of the evaluation are others unless `set_masks` froze them. The
        paper may optimise one perturbation a mask; see `per_mask_restorations`. It attacks the restorations one by one,
        so the full gradient with masks frozen is stronger.
        """
        hidden = self.hidden(x)

        def known(mask: Tensor, count: int | None) -> Gradient:
            def model(v: Tensor) -> Tensor:
                tiled = mask.repeat(len(v) // max(1, len(mask)), 1)
                logits: Tensor = classifier(straight_through_clamp(self.network(v, tiled, count=count)))
                return logits

            loss = cross_entropy(model, y)
            return ascent(lambda v: loss(v))  # a function of its own is not cut into pieces, as the mask is not

        gradients = [known(mask, count) for mask, count in self.counted(hidden)]
        return {"eq8": lambda v: torch.stack([gradient(v) for gradient in gradients]).sum(0)}
