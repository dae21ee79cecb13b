"""CD-VAE as a purifier: an autoencoder's image of x, which is to hold all but what tells the class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast

from torch import Tensor, nn

from art_ext.attacks import Gradient, ascent, cross_entropy, feature, straight_through_clamp
from art_ext.nn.modes import evaluating
from art_ext.plain import plain
from art_ext.purifiers.base import Purifier
from art_ext.purifiers.cdvae.network import SHRINK, VAE, VQVAE, Autoencoder, Coded, ResidualClassifier

KINDS = ("vae", "vqvae")


class CDVAE(Purifier):
    """G(x), the class-redundant part of x = G(x) + R(x) [Yang et al., NeurIPS 2021, section 3].

    Meant for a classifier that was trained on G(x): one trained on x relies on R(x) (Table 3). The defaults are those
    of the released code for 32 x 32 images, with a light classifier of residuals. z is the mean of q(z|x) and the
    defence deterministic unless `sample`; the released white-box model samples also at test time, so attack that
    through EOT, and see `set_sampling` for what is left without. Differs from the paper: G(x) is clamped to [0, 1]
    where a classifier or the user gets it; `residual` is taken before.

    Args:
        channels: image channels.
        size: side of the images, or [height, width], multiples of 4 and at least 8; a VQ-VAE takes images of any.
        width: of the latent map, a quarter of the image's sides.
        latent: Z of the VAE; as many as the map holds unless given.
        kind: "vae", or "vqvae" for large images.
        codes: of the VQ-VAE's book.
        classes: logits of the purifier's own classifier of residuals; 0 for none.
        classifier_width: of that classifier.
        mean: of the pixels, one value a channel; 0.5 unless given.
        std: likewise; 0.25 unless given.
        sample: draw z at inference.

    Raises:
        ValueError: an argument out of its range.
    """

    name = "cdvae"
    paper = "Yang et al., NeurIPS 2021"
    small: ClassVar[dict[str, Any]] = {
        "channels": 3, "size": [8, 12], "width": 4, "latent": 6, "classes": 4, "classifier_width": 4
    }  # fmt: skip
    advice = "CD-VAE is meant for a classifier that was trained on its output: train_classifier=true does so"

    def __init__(  # noqa: PLR0913  of both networks
        self,
        channels: int = 3,
        size: int | Sequence[int] = 32,
        width: int = 32,
        latent: int | None = None,
        *,
        kind: str = "vae",
        codes: int = 10,
        classes: int = 10,
        classifier_width: int = 32,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        sample: bool = False,
    ) -> None:
        super().__init__()
        size, mean, std = plain(size, "size"), plain(mean, "mean"), plain(std, "std")
        sides = (size, size) if isinstance(size, int) else tuple(size)
        if kind not in KINDS:
            raise ValueError(f"expected kind to be one of {', '.join(KINDS)}; got {kind!r}")
        if min(channels, width, classifier_width, codes, 1 if latent is None else latent) < 1 or classes < 0:
            raise ValueError(
                "expected channels, width, latent, codes and classifier_width >= 1 and classes >= 0, got "
                f"{channels=}, {width=}, {latent=}, {codes=}, {classifier_width=}, {classes=}"
            )
        if len(sides) != 2 or (kind == "vae" and (min(sides) < 2 * SHRINK or any(side % SHRINK for side in sides))):
            raise ValueError(f"expected size as multiples of {SHRINK} of at least {2 * SHRINK}, got {size}")
        mean, std = mean or [0.5] * channels, std or [0.25] * channels
        if len(mean) != channels or len(std) != channels:
            raise ValueError(f"expected one mean and one std for each of {channels} channels, got {mean} and {std}")
        self.channels, self.kind, self.classes = channels, kind, classes
        self.network: Autoencoder
        if kind == "vae":
            self.network = VAE(channels, sides, width, latent, mean, std)
        else:
            self.network = VQVAE(channels, width, codes, mean, std)
        self.residual_classifier = ResidualClassifier(channels, classes, classifier_width, std) if classes else None
        self.set_sampling(sample)

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        """Whether z is drawn at each call."""
        return self.sample

    @property
    def differentiable(self) -> bool:  # type: ignore[override]
        """Whether gradients are exact; those of a VQ-VAE go straight through the look-up."""
        return self.kind == "vae"

    def set_sampling(self, sample: bool) -> CDVAE:
        """Draws z at inference, or takes its mean; gives itself. It is saved.

        Raises:
            ValueError: samples are asked of a VQ-VAE, which has none.
        """
        if sample and self.kind != "vae":
            raise ValueError(f"expected kind 'vae' to sample from, got {self.kind!r}")
        self.sample = bool(sample)
        # What `save_pretrained` writes: the Hub mixin saw the constructor's arguments alone.
        self._hub_mixin_config = {**cast(dict[str, Any], self._hub_mixin_config or {}), "sample": self.sample}
        return self

    def purify(self, x: Tensor) -> Tensor:
        return self.coded(x).image

    def surrogate(self, x: Tensor) -> Tensor:
        """The same as `purify`, whose gradient goes straight through a VQ-VAE's look-up; the identity for a VAE."""
        return x if self.kind == "vae" else self.purify(x)

    def coded(self, x: Tensor) -> Coded:
        """G(x), z and penalties as at inference: statistics are those of the training, in whatever mode it is."""
        with evaluating(self.network):
            return cast(Coded, self.network(x, self.sample))

    def redundant(self, x: Tensor) -> Tensor:
        """G(x), not clamped: (N, C, H, W) in the units of x; differentiable.

        Raises:
            TypeError: x is not a floating-point tensor.
            ValueError: x is not (N, C, H, W) in [0, 1], or not of the size that the network takes.
        """
        return self._in_pieces(x, self.unclamped)

    def residual(self, x: Tensor) -> Tensor:
        """R(x) = x - G(x): (N, C, H, W) in the units of x, about in [-1, 1]; differentiable. Raises as `redundant`."""
        return self._in_pieces(x, lambda piece: piece - self.unclamped(piece))

    def latents(self, x: Tensor) -> Tensor:
        """z (N, Z) of images (N, C, H, W): the mean where the VAE would sample. Raises as `redundant`."""

        def each(piece: Tensor) -> Tensor:
            with evaluating(self.network):
                return self.network.encode(piece)

        return self._in_pieces(x, each) if len(x) else self.latents(x.new_zeros(1, *x.shape[1:]))[:0]

    @classmethod
    def arguments_for(cls, x: Tensor, classes: int) -> dict[str, Any]:
        return {"channels": x.shape[1], "size": [*x.shape[2:]], "classes": classes}

    def adaptive_attacks(self, classifier: nn.Module, x: Tensor, y: Tensor) -> dict[str, Gradient]:
        """Moves z away from that of the clean image, without labels; and Eq. 7 at the mean of z where it is sampled."""
        attacks: dict[str, Gradient] = {"latent": ascent(feature(self.latents, x))}
        if self.sample:

            def at_the_mean(v: Tensor) -> Tensor:
                with evaluating(self.network):
                    coded = self.network(v)
                logits: Tensor = classifier(straight_through_clamp(coded.image))
                return logits

            attacks["mean of z"] = ascent(cross_entropy(at_the_mean, y))
        return attacks
