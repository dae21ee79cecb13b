"""Purifiers as ART preprocessing defences."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from art.defences.preprocessor.preprocessor import PreprocessorPyTorch
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import Self

from art_ext import presets
from art_ext.defences.parameters import set_checked
from art_ext.defences.training import TrainingRun
from art_ext.defences.view import ClipValues, View, as_tensor, check_array, check_clip_values
from art_ext.images import check_images
from art_ext.nn.copies import joined
from art_ext.plain import check_device_type
from art_ext.purifiers import CDVAE, DIR, RDP, AToP, Purifier
from art_ext.purifiers.atop.network import DILATIONS
from art_ext.training import Objective, Scheduler

logger = logging.getLogger(__name__)


class PurifierPreprocessor(PreprocessorPyTorch):
    """Any purifier as a preprocessing defence of an ART estimator.

    | ART calls `forward`, never `estimate_forward`, when it differentiates through PyTorch preprocessors. A purifier
        without gradients therefore carries its BPDA inside `forward`, and white-box attacks see what they should see.

    | Please keep in mind the limitations of defences. A purifier alone rarely withstands an attacker who
        differentiates through it; see `art_ext.evaluation` for how to measure what is left.
    """

    params = ["clip_values", "channels_first", "batch_size", "verbose"]

    def __init__(
        self,
        purifier: Purifier,
        clip_values: ClipValues = (0.0, 1.0),
        channels_first: bool = True,
        batch_size: int = 128,
        apply_fit: bool = False,
        apply_predict: bool = True,
        device_type: str = "gpu",
        verbose: bool = False,
    ) -> None:
        """Wrap a purifier.

        :param purifier: Images (N, C, H, W) in [0, 1] to the same. It is put into eval mode, its parameters do not
                         require gradients outside training, and it is moved to the device.
        :param clip_values: Smallest and largest value of the estimator's images.
        :param channels_first: Whether the estimator's images are (N, C, H, W) or (N, H, W, C).
        :param batch_size: The most images that one call of the purifier sees, whatever ART sends.
        :param apply_fit: Whether to purify what the estimator is fitted on.
        :param apply_predict: Whether to purify what the estimator predicts.
        :param device_type: `cpu`, or `gpu` where there is one.
        :param verbose: Show a progress bar while fitting.
        """
        if not isinstance(purifier, Purifier):
            raise TypeError(f"expected an art_ext Purifier, got {type(purifier).__name__}")
        check_device_type(device_type)
        super().__init__(device_type=device_type, is_fitted=True, apply_fit=apply_fit, apply_predict=apply_predict)
        self.purifier = purifier
        self.clip_values = clip_values
        self.channels_first = channels_first
        self.batch_size = batch_size
        self.verbose = verbose
        self._check_params()
        purifier.to(self._device).eval().requires_grad_(False)

    def forward(self, x: Tensor, y: Any | None = None) -> tuple[Tensor, Any | None]:
        """Purify a batch; differentiable. What lies outside the range is clamped, with one warning.

        :param x: Images in the estimator's range and layout.
        :param y: Labels, passed through.
        :return: Purified images (float32, same range, layout and device), labels.
        """
        view = self._view()
        self.purifier.batch_size = self.batch_size
        pieces = x.split(self.batch_size) if x.ndim else (x,)
        done = (view.leave(self.purifier(view.enter(piece).to(self._device)).to(x.device)) for piece in pieces)
        return joined(done, len(x) if x.ndim else 1), y

    def __call__(
        self, x: NDArray[Any], y: NDArray[Any] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[Any] | None]:
        """Purify an array, a batch at a time, so that the device holds one batch only. Other ranges are refused.

        :param x: Images in the estimator's range and layout; any numeric dtype, left as it is.
        :param y: Labels, passed through.
        :return: Purified images (float32, same range and layout), labels.
        """
        check_array(x)
        done = np.empty(x.shape, dtype=np.float32)
        with torch.no_grad():
            for at in range(0, len(x), self.batch_size):
                images = as_tensor(x[at : at + self.batch_size])
                check_images(self._view().enter(images), channels=self.purifier.channels)
                done[at : at + self.batch_size] = self.forward(images)[0].cpu().numpy()
        return done, y

    def fit(
        self,
        x: NDArray[Any],
        y: NDArray[Any] | None = None,
        *,
        nb_epochs: int = 20,
        batch_size: int = 64,
        schedulers: Sequence[Scheduler] = (),
        seed: int = 0,
        checkpoint: str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        """Train the purifier.

        :param x: Training images in the estimator's range and layout.
        :param y: Labels, for purifiers that need them.
        :param nb_epochs: Passes over the images, for each stage of the method.
        :param batch_size: Images a step.
        :param schedulers: Objects with `step`, stepped at the end of each epoch.
        :param seed: Of the order of the images and of everything random in a step.
        :param checkpoint: A file to keep the state of the training in; an existing one is resumed.
        :param kwargs: Refused; ART's signature has them.
        """
        if kwargs:
            raise TypeError(f"expected no further arguments, got {sorted(kwargs)}")
        view, classes = self._view(), self._classes()
        if y is None and classes is not None:
            raise ValueError(f"expected labels to train {self.purifier.name!r}, got None")
        run = TrainingRun(self._stages(), view, seed, checkpoint, self.verbose, classes)
        run.fit(x, y, epochs=nb_epochs, batch_size=batch_size, schedulers=schedulers)
        self._is_fitted = True

    def set_params(self, **kwargs: Any) -> None:
        """Set parameters by name; nothing is changed if one of them is refused.

        :param kwargs: Names out of `params`.
        """
        set_checked(self, self.params, kwargs)

    def _stages(self) -> list[Objective]:
        stages = self.purifier.stages()
        if not stages:
            raise ValueError(
                f"expected a purifier that can be trained, got {self.purifier.name!r}, which has no stages"
            )
        return stages

    def _classes(self) -> int | None:
        """How many classes there are, for a method whose `fit` needs labels; None for the others."""
        return None

    def __repr__(self) -> str:
        names = [*self.params, "apply_fit", "apply_predict"]
        given = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__name__}(purifier={self.purifier.name!r}, {given})"

    def _view(self) -> View:
        sides = (self.purifier.channels, None, None)
        return View(self.clip_values, self.channels_first, sides if self.channels_first else sides[::-1])

    def _check_params(self) -> None:
        check_clip_values(self.clip_values)
        if not isinstance(self.channels_first, bool):
            raise ValueError(f"expected channels_first to be a bool, got {self.channels_first!r}")
        self._view()
        if not isinstance(self.batch_size, int) or self.batch_size < 1:
            raise ValueError(f"expected batch_size to be a whole number >= 1, got {self.batch_size!r}")
        if not isinstance(self.verbose, bool):
            raise ValueError(f"expected verbose to be a bool, got {self.verbose!r}")


class MethodPreprocessor(PurifierPreprocessor):
    """What the preprocessors of the package's own methods share: trained ones are loaded and saved.

    | Attributes: `kind`, the class of the purifier.
    """

    kind: ClassVar[type[Purifier]]

    @classmethod
    def _loaded(cls, name: str | Path, rim: dict[str, Any]) -> Self:
        """An instance around the trained purifier `name`, made without the constructor."""
        made = cls.__new__(cls)
        PurifierPreprocessor.__init__(made, _pretrained(cls.kind, name), **rim)
        return made

    def save_pretrained(self, folder: str | Path) -> None:
        """Write configuration and weights (safetensors), for `from_pretrained`.

        :param folder: Made if it is not there.
        """
        self.purifier.save_pretrained(folder)


class RDPPreprocessor(MethodPreprocessor):
    """RDP, Representation Disentangled Purification, as a preprocessing defence.

    | Paper link: https://arxiv.org/abs/2110.07801

    | Please keep in mind the limitations of defences. The paper measures transfer attacks; an attacker who
        differentiates through the purifier is far stronger.
    """

    kind = RDP
    params = [*PurifierPreprocessor.params, "noise_std", "noise_position"]

    def __init__(
        self,
        channels: int = 3,
        width: int = 64,
        blocks: int = 23,
        block: str = "rrdb",
        fold: int = 1,
        noise_std: float = 0.0,
        noise_position: str = "input",
        features: nn.Module | None = None,
        clip_values: ClipValues = (0.0, 1.0),
        channels_first: bool = True,
        batch_size: int = 128,
        apply_fit: bool = False,
        apply_predict: bool = True,
        device_type: str = "gpu",
        verbose: bool = False,
    ) -> None:
        """Make an untrained RDP; see `from_pretrained` for a trained one. The defaults are the paper's.

        :param channels: Image channels.
        :param width: Channels of the trunk.
        :param blocks: Blocks of the purifier.
        :param block: `rrdb`, or `residual` for the light variant.
        :param fold: Side of the pixel squares that are folded into channels; 2 suits a CPU.
        :param noise_std: Gaussian noise at inference, in units of [0, 1]; 0.05 is the paper's dynamic defence.
        :param noise_position: `input` or `output` of the purifier.
        :param features: F, what `fit` measures features with: images (N, C, H, W) in [0, 1] to any tensor, for example
                         `art_ext.nn.FeatureExtractor(network, layer)`.
        :param clip_values: Smallest and largest value of the estimator's images.
        :param channels_first: Whether the estimator's images are (N, C, H, W) or (N, H, W, C).
        :param batch_size: The most images that one call of the purifier sees.
        :param apply_fit: Whether to purify what the estimator is fitted on.
        :param apply_predict: Whether to purify what the estimator predicts.
        :param device_type: `cpu`, or `gpu` where there is one.
        :param verbose: Show a progress bar while fitting.
        """
        purifier = RDP(
            channels, width, blocks, block, fold=fold, noise_std=noise_std, noise_position=noise_position
        )  # fmt: skip
        super().__init__(
            purifier, clip_values, channels_first, batch_size, apply_fit, apply_predict, device_type, verbose
        )
        self.features = features
        self._is_fitted = False

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        noise_std: float | None = None,
        noise_position: str | None = None,
        features: nn.Module | None = None,
        **rim: Any,
    ) -> RDPPreprocessor:
        """A trained RDP.

        :param name: A preset of the package, a folder made by `save_pretrained`, or an `owner/name` on the Hugging
                     Face Hub.
        :param noise_std: See the constructor; as it was saved unless given.
        :param noise_position: See the constructor; as it was saved unless given.
        :param features: See the constructor; needed only to train further.
        :param rim: The remaining arguments of the constructor, from `clip_values` on.
        """
        made = cls._loaded(name, rim)
        made.rdp.set_noise(
            made.noise_std if noise_std is None else noise_std,
            made.noise_position if noise_position is None else noise_position,
        )
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

    def _stages(self) -> list[Objective]:
        if self.features is None:
            raise ValueError(
                "expected a feature extractor to train RDP with, got None: "
                "pass features=FeatureExtractor(network, layer)"
            )
        elsewhere = [p.device for p in self.features.parameters() if p.device.type != self._device.type]
        if elsewhere:
            raise ValueError(
                f"expected the feature extractor on {self._device}, where RDP is, got one on {elsewhere[0]}: move it "
                "there, or make the preprocessor with another device_type"
            )
        return list(self.rdp.stages(self.features))


class DIRPreprocessor(MethodPreprocessor):
    """DIR, information discard and robust representation restoration, as a preprocessing defence.

    | Paper: Zhou et al., ICML 2023.

    | Please keep in mind the limitations of defences. Masks are drawn at every call: attack it through
        `art_ext.estimators.EOTClassifier`, and freeze the masks to see what is owed to chance.
    """

    kind = DIR
    params = [*PurifierPreprocessor.params, "draws"]

    def __init__(
        self,
        channels: int = 3,
        patch: int = 2,
        width: int = 192,
        heads: int = 3,
        depth: int = 8,
        decoder_depth: int = 2,
        masks: int = 2,
        ratio: float = 0.5,
        masking: str = "tokens",
        draws: int = 1,
        clip_values: ClipValues = (0.0, 1.0),
        channels_first: bool = True,
        batch_size: int = 128,
        apply_fit: bool = False,
        apply_predict: bool = True,
        device_type: str = "gpu",
        verbose: bool = False,
    ) -> None:
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
        :param clip_values: Smallest and largest value of the estimator's images.
        :param channels_first: Whether the estimator's images are (N, C, H, W) or (N, H, W, C).
        :param batch_size: The most images that one call of the purifier sees.
        :param apply_fit: Whether to purify what the estimator is fitted on.
        :param apply_predict: Whether to purify what the estimator predicts.
        :param device_type: `cpu`, or `gpu` where there is one.
        :param verbose: Show a progress bar while fitting.
        """
        purifier = DIR(
            channels, patch, width, heads, depth, decoder_depth, masks=masks, ratio=ratio, masking=masking, draws=draws
        )  # fmt: skip
        super().__init__(
            purifier, clip_values, channels_first, batch_size, apply_fit, apply_predict, device_type, verbose
        )
        self._is_fitted = False

    @classmethod
    def from_pretrained(cls, name: str | Path, *, draws: int | None = None, **rim: Any) -> DIRPreprocessor:
        """A trained DIR.

        :param name: A preset of the package, a folder made by `save_pretrained`, or an `owner/name` on the Hugging
                     Face Hub.
        :param draws: See the constructor; as it was saved unless given.
        :param rim: The arguments of the constructor from `clip_values` on.
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

    def _stages(self) -> list[Objective]:
        raise ValueError("expected a target classifier to train DIR against: use DIRTrainer")


class AToPPreprocessor(MethodPreprocessor):
    """AToP, adversarial training on purification, as a preprocessing defence.

    | Paper: Lin et al., ICLR 2024.

    | Please keep in mind the limitations of defences. The poster attacks the classifier alone; transforms are drawn at
        every call, so attack it through `art_ext.estimators.EOTClassifier`, and freeze them to see what is owed to
        chance.

    | `fit` pre-trains the restorer and needs no labels; `AToPTrainer` fine-tunes it for a classifier.
    """

    kind = AToP

    def __init__(
        self,
        channels: int = 3,
        transform: str = "RT2",
        width: int = 48,
        dilations: Sequence[int] = DILATIONS,
        grid: int = 8,
        share: float = 0.25,
        noise: float = 0.25,
        size: int | None = None,
        restorer: str = "gan",
        paste: bool = False,
        fold: int = 1,
        clip_values: ClipValues = (0.0, 1.0),
        channels_first: bool = True,
        batch_size: int = 128,
        apply_fit: bool = False,
        apply_predict: bool = True,
        device_type: str = "gpu",
        verbose: bool = False,
    ) -> None:
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
        :param clip_values: Smallest and largest value of the estimator's images.
        :param channels_first: Whether the estimator's images are (N, C, H, W) or (N, H, W, C).
        :param batch_size: The most images that one call of the purifier sees.
        :param apply_fit: Whether to purify what the estimator is fitted on.
        :param apply_predict: Whether to purify what the estimator predicts.
        :param device_type: `cpu`, or `gpu` where there is one.
        :param verbose: Show a progress bar while fitting.
        """
        purifier = AToP(
            channels, transform, width, dilations, grid=grid, share=share, noise=noise, size=size, restorer=restorer,
            paste=paste, fold=fold,
        )  # fmt: skip
        super().__init__(
            purifier, clip_values, channels_first, batch_size, apply_fit, apply_predict, device_type, verbose
        )
        self._is_fitted = False

    @classmethod
    def from_pretrained(cls, name: str | Path, **rim: Any) -> AToPPreprocessor:
        """A trained AToP.

        :param name: A preset of the package, a folder made by `save_pretrained`, or an `owner/name` on the Hugging
                     Face Hub.
        :param rim: The arguments of the constructor from `clip_values` on.
        """
        return cls._loaded(name, rim)

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
    gamma: float = 2e-3
    beta: float = 0.2

    def __init__(
        self,
        channels: int = 3,
        size: int | Sequence[int] = 32,
        width: int = 32,
        latent: int | None = None,
        kind: str = "vae",
        codes: int = 10,
        classes: int = 10,
        classifier_width: int = 32,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        sample: bool = False,
        gamma: float = 2e-3,
        beta: float = 0.2,
        clip_values: ClipValues = (0.0, 1.0),
        channels_first: bool = True,
        batch_size: int = 128,
        apply_fit: bool = False,
        apply_predict: bool = True,
        device_type: str = "gpu",
        verbose: bool = False,
    ) -> None:
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
        :param clip_values: Smallest and largest value of the estimator's images.
        :param channels_first: Whether the estimator's images are (N, C, H, W) or (N, H, W, C).
        :param batch_size: The most images that one call of the purifier sees.
        :param apply_fit: Whether to purify what the estimator is fitted on.
        :param apply_predict: Whether to purify what the estimator predicts.
        :param device_type: `cpu`, or `gpu` where there is one.
        :param verbose: Show a progress bar while fitting.
        """
        purifier = CDVAE(
            channels, size, width, latent, kind=kind, codes=codes, classes=classes, classifier_width=classifier_width,
            mean=mean, std=std, sample=sample,
        )  # fmt: skip
        self.gamma, self.beta = gamma, beta
        super().__init__(
            purifier, clip_values, channels_first, batch_size, apply_fit, apply_predict, device_type, verbose
        )
        self._is_fitted = False

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        sample: bool | None = None,
        gamma: float = 2e-3,
        beta: float = 0.2,
        **rim: Any,
    ) -> CDVAEPreprocessor:
        """A trained CD-VAE.

        :param name: A preset of the package, a folder made by `save_pretrained`, or an `owner/name` on the Hugging
                     Face Hub.
        :param sample: See the constructor; as it was saved unless given.
        :param gamma: See the constructor; needed only to train further.
        :param beta: See the constructor; needed only to train further.
        :param rim: The arguments of the constructor from `clip_values` on.
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

    def _classes(self) -> int | None:
        return self.cdvae.classes

    def _stages(self) -> list[Objective]:
        return self.cdvae.stages(gamma=self.gamma, beta=self.beta)

    def _check_params(self) -> None:
        super()._check_params()
        if not (0 <= self.gamma < float("inf") and 0 <= self.beta < float("inf")):
            raise ValueError(f"expected gamma and beta >= 0, got {self.gamma!r} and {self.beta!r}")


def _pretrained(kind: Any, name: str | Path) -> Any:
    if str(name) in presets.names():
        purifier = presets.load(str(name))
        if not isinstance(purifier, kind):
            raise ValueError(f"expected a preset of {kind.__name__}, got {name!r}, a {type(purifier).__name__}")
        return purifier
    if Path(name).is_dir() or re.fullmatch(r"[\w.-]+/[\w.-]+", str(name)):
        return kind.from_pretrained(str(name))
    raise ValueError(
        f"expected a preset ({', '.join(presets.names())}), a folder or an owner/name on the Hub, got {str(name)!r}"
    )
