"""The package's own purifiers as ART preprocessing defences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from torch import nn
from typing_extensions import Unpack

from art_ext.defences.preprocessor import MethodPreprocessor, PurifierPreprocessor, Rim
from art_ext.nn.modes import seeded
from art_ext.purifiers import CDVAE, DIR, RDP, AToP
from art_ext.purifiers.atop.network import DILATIONS


class RDPPreprocessor(MethodPreprocessor):
    """RDP, Representation Disentangled Purification, as a preprocessing defence.

    | Paper link: https://arxiv.org/abs/2110.07801

    | Please keep in mind the limitations of defences. The paper measures transfer attacks; an attacker who
        differentiates through the purifier is far stronger.
    """

    kind = RDP
    params = [*PurifierPreprocessor.params, "noise_std", "noise_position"]
    held = ("features",)

    def __init__(
        self, channels: int = 3, width: int = 64, blocks: int = 23, block: str = "rrdb", fold: int = 1,
        noise_std: float = 0.0, noise_position: str = "input", features: nn.Module | None = None, seed: int = 0,
        **rim: Unpack[Rim],
    ) -> None:  # fmt: skip
        """Make an untrained RDP; see `from_pretrained` for a trained one. The defaults are the paper's.

        :param channels: Image channels.
        :param width: Channels of the trunk.
        :param blocks: Blocks of the purifier.
        :param block: `rrdb`, or `residual` for the light variant.
        :param fold: Side of the pixel squares that are folded into channels; 2 suits a CPU.
        :param noise_std: Gaussian noise at inference, in units of [0, 1]; 0.05 is the paper's dynamic defence.
        :param noise_position: `input` or `output` of the purifier.
        :param features: F of `fit`: images (N, C, H, W) in [0, 1] to any tensor, such as a `FeatureExtractor`.
        :param seed: Of the new weights.
        :param rim: From `clip_values` to `verbose`, see `PurifierPreprocessor`.
        """
        with seeded(seed):
            purifier = RDP(
                channels, width, blocks, block, fold=fold, noise_std=noise_std, noise_position=noise_position
            )  # fmt: skip
        super().__init__(purifier, **rim)
        self.features = features

    @classmethod
    def from_pretrained(
        cls, name: str | Path, *, noise_std: float | None = None, noise_position: str | None = None,
        features: nn.Module | None = None, **rim: Unpack[Rim],
    ) -> RDPPreprocessor:  # fmt: skip
        """A trained RDP.

        :param name: A preset, a folder of `save_pretrained`, or an `owner/name` on the Hugging Face Hub.
        :param noise_std: See the constructor; as it was saved unless given.
        :param noise_position: See the constructor; as it was saved unless given.
        :param features: See the constructor; needed only to train further.
        :param rim: From `clip_values` to `verbose`, see `PurifierPreprocessor`.
        """
        made = cls._loaded(name, rim)
        std = made.noise_std if noise_std is None else noise_std
        made.rdp.set_noise(std, made.noise_position if noise_position is None else noise_position)
        made.features = features
        return made

    @property
    def rdp(self) -> RDP:
        """The purifier, as what it is."""
        return cast(RDP, self.purifier)

    @property
    def noise_std(self) -> float:
        """Standard deviation of the noise at inference, in units of [0, 1]."""
        return self.rdp.noise_std

    @noise_std.setter
    def noise_std(self, value: float) -> None:
        self.rdp.set_noise(value, self.rdp.noise_position)

    @property
    def noise_position(self) -> str:
        """Where the noise goes: `input` or `output` of the purifier."""
        return self.rdp.noise_position

    @noise_position.setter
    def noise_position(self, value: str) -> None:
        self.rdp.set_noise(self.rdp.noise_std, value)


class DIRPreprocessor(MethodPreprocessor):
    """DIR, information discard and robust representation restoration, as a preprocessing defence.

    | Paper: Zhou et al., ICML 2023.

    | Please keep in mind the limitations of defences. Masks are drawn at every call: attack it through
        `art_ext.estimators.EOTClassifier`, and freeze the masks to see what is owed to chance.

    | `fit` needs the `classifier` that it is to be trained against, as `DIRTrainer` has it.
    """

    kind = DIR
    params = [*PurifierPreprocessor.params, "draws"]

    def __init__(
        self, channels: int = 3, patch: int = 2, width: int = 192, heads: int = 3, depth: int = 8,
        decoder_depth: int = 2, masks: int = 2, ratio: float = 0.5, masking: str = "tokens", draws: int = 1,
        seed: int = 0, **rim: Unpack[Rim],
    ) -> None:  # fmt: skip
        """Make an untrained DIR; see `from_pretrained` for a trained one. The defaults are the paper's.

        :param channels: Image channels.
        :param patch: Side of a patch in pixels.
        :param width: Of the tokens.
        :param heads: Of the attention.
        :param depth: Blocks of the encoder.
        :param decoder_depth: Blocks of the decoder.
        :param masks: Masks an image.
        :param ratio: Share of the patches that a mask hides.
        :param masking: `tokens` or `pixels`.
        :param draws: Sets of masks that are averaged at inference.
        :param seed: Of the new weights.
        :param rim: From `clip_values` to `verbose`, see `PurifierPreprocessor`.
        """
        with seeded(seed):
            purifier = DIR(
                channels, patch, width, heads, depth, decoder_depth, masks=masks, ratio=ratio, masking=masking,
                draws=draws,
            )  # fmt: skip
        super().__init__(purifier, **rim)

    @classmethod
    def from_pretrained(cls, name: str | Path, *, draws: int | None = None, **rim: Unpack[Rim]) -> DIRPreprocessor:
        """A trained DIR.

        :param name: A preset, a folder of `save_pretrained`, or an `owner/name` on the Hugging Face Hub.
        :param draws: See the constructor; as it was saved unless given.
        :param rim: From `clip_values` to `verbose`, see `PurifierPreprocessor`.
        """
        made = cls._loaded(name, rim)
        made.draws = made.draws if draws is None else draws
        return made

    @property
    def dir(self) -> DIR:
        """The purifier, as what it is."""
        return cast(DIR, self.purifier)

    @property
    def draws(self) -> int:
        """Sets of masks that are averaged at inference."""
        return self.dir.draws

    @draws.setter
    def draws(self, value: int) -> None:
        self.dir.set_draws(value)


class AToPPreprocessor(MethodPreprocessor):
    """AToP, adversarial training on purification, as a preprocessing defence.

    | Paper: Lin et al., ICLR 2024.

    | Please keep in mind the limitations of defences. The poster attacks the classifier alone; transforms are drawn at
        every call, so attack it through `art_ext.estimators.EOTClassifier`, and freeze them to see what is owed to
        chance.

    | `fit` pre-trains the restorer and needs no labels; with `classifier`, or by `AToPTrainer`, it is fine-tuned too.
    """

    kind = AToP

    def __init__(
        self, channels: int = 3, transform: str = "RT2", width: int = 48, dilations: Sequence[int] = DILATIONS,
        grid: int = 8, share: float = 0.25, noise: float = 0.25, size: int | None = None, restorer: str = "gan",
        paste: bool = False, fold: int = 1, seed: int = 0, **rim: Unpack[Rim],
    ) -> None:  # fmt: skip
        """Make an untrained AToP; see `from_pretrained` for a trained one. The defaults are the released generator's.

        :param channels: Image channels.
        :param transform: `RT1` hides blocks, `RT2` adds noise before, `RT3` does so under masks that cover the image.
        :param width: Of the network's first convolution.
        :param dilations: Of the bottleneck's convolutions.
        :param grid: Blocks a row and a column.
        :param share: Of the blocks that a mask hides.
        :param noise: Standard deviation of the noise of `RT2` and `RT3`, in units of [0, 1].
        :param size: Side to which images are resized inside; the native one unless given.
        :param restorer: `gan` for the inpainting generator, `autoencoder` for one that is not told the mask.
        :param paste: Restore the holes alone.
        :param fold: 2 or 4 to work at a half or a quarter of the resolution alone, which is faster on a CPU.
        :param seed: Of the new weights.
        :param rim: From `clip_values` to `verbose`, see `PurifierPreprocessor`.
        """
        with seeded(seed):
            purifier = AToP(
                channels, transform, width, dilations, grid=grid, share=share, noise=noise, size=size,
                restorer=restorer, paste=paste, fold=fold,
            )  # fmt: skip
        super().__init__(purifier, **rim)

    @property
    def atop(self) -> AToP:
        """The purifier, as what it is."""
        return cast(AToP, self.purifier)


class CDVAEPreprocessor(MethodPreprocessor):
    """CD-VAE, class-disentanglement, as a preprocessing defence: the classifier sees G(x).

    | Paper: Yang et al., NeurIPS 2021.

    | Please keep in mind the limitations of defences. The paper's grey-box table attacks a classifier and knows nothing
        of the purifier; an attacker who differentiates through it is far stronger. The classifier behind has to be
        trained on G(x), which `CDVAETrainer` does where asked: one trained on x relies on what is removed.

    | `fit` trains G and the classifier of residuals on clean images, and needs labels.
    """

    kind = CDVAE
    params = [*PurifierPreprocessor.params, "sample", "gamma", "beta"]
    held = ("gamma", "beta")
    gamma: float = 2e-3
    beta: float = 0.2

    def __init__(
        self, channels: int = 3, size: int | Sequence[int] = 32, width: int = 32, latent: int | None = None,
        kind: str = "vae", codes: int = 10, classes: int = 10, classifier_width: int = 32,
        mean: Sequence[float] | None = None, std: Sequence[float] | None = None, sample: bool = False,
        gamma: float = 2e-3, beta: float = 0.2, seed: int = 0, **rim: Unpack[Rim],
    ) -> None:  # fmt: skip
        """Make an untrained CD-VAE; see `from_pretrained` for a trained one. The defaults are the released code's.

        :param channels: Image channels.
        :param size: Side of the images, or height and width; multiples of 4.
        :param width: Of the latent map.
        :param latent: Latents of the VAE; as many as the map holds unless given.
        :param kind: `vae`, or `vqvae` for large images.
        :param codes: Of the VQ-VAE's book.
        :param classes: Of the classifier of residuals.
        :param classifier_width: Of that classifier.
        :param mean: Of the pixels in units of [0, 1], one value a channel; 0.5 unless given.
        :param std: Likewise; 0.25 unless given.
        :param sample: Draw the latents at inference instead of taking their mean.
        :param gamma: Weight of the classification of residuals in `fit`.
        :param beta: Weight of the KL divergence in `fit`.
        :param seed: Of the new weights.
        :param rim: From `clip_values` to `verbose`, see `PurifierPreprocessor`.
        """
        with seeded(seed):
            purifier = CDVAE(
                channels, size, width, latent, kind=kind, codes=codes, classes=classes,
                classifier_width=classifier_width, mean=mean, std=std, sample=sample,
            )  # fmt: skip
        self.gamma, self.beta = gamma, beta
        super().__init__(purifier, **rim)

    @classmethod
    def from_pretrained(
        cls, name: str | Path, *, sample: bool | None = None, gamma: float = 2e-3, beta: float = 0.2,
        **rim: Unpack[Rim],
    ) -> CDVAEPreprocessor:  # fmt: skip
        """A trained CD-VAE.

        :param name: A preset, a folder of `save_pretrained`, or an `owner/name` on the Hugging Face Hub.
        :param sample: See the constructor; as it was saved unless given.
        :param gamma: See the constructor; needed only to train further.
        :param beta: See the constructor; needed only to train further.
        :param rim: From `clip_values` to `verbose`, see `PurifierPreprocessor`.
        """
        made = cls._loaded(name, rim)
        made.set_params(gamma=gamma, beta=beta, sample=made.sample if sample is None else sample)
        return made

    @property
    def cdvae(self) -> CDVAE:
        """The purifier, as what it is."""
        return cast(CDVAE, self.purifier)

    @property
    def sample(self) -> bool:
        """Whether the latents are drawn at inference."""
        return self.cdvae.sample

    @sample.setter
    def sample(self, value: bool) -> None:
        self.cdvae.set_sampling(value)

    def _check_params(self) -> None:
        super()._check_params()
        if not (0 <= self.gamma < float("inf") and 0 <= self.beta < float("inf")):
            raise ValueError(f"expected gamma and beta >= 0, got {self.gamma!r} and {self.beta!r}")
