"""Purifiers as ART preprocessing defences."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypedDict

import numpy as np
import torch
from art.defences.preprocessor.preprocessor import PreprocessorPyTorch
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import Self, Unpack

from art_ext import presets
from art_ext.data.augmentations import Augmentation
from art_ext.defences.parameters import set_checked
from art_ext.defences.training import How, TrainingRun
from art_ext.defences.view import ClipValues, View, as_tensor, check_array, check_clip_values
from art_ext.images import check_images
from art_ext.nn.copies import joined
from art_ext.nn.modes import evaluating, seeded
from art_ext.objectives import check_options, needs_labels
from art_ext.plain import check_device_type
from art_ext.purifiers import Purifier
from art_ext.training import Objective, Scheduler


class Rim(TypedDict, total=False):
    """The arguments that all preprocessors share, see `PurifierPreprocessor`."""

    clip_values: ClipValues
    channels_first: bool
    batch_size: int
    apply_fit: bool
    apply_predict: bool
    device_type: str
    verbose: bool


class PurifierPreprocessor(PreprocessorPyTorch):
    """Any purifier as a preprocessing defence of an ART estimator.

    | ART calls `forward`, never `estimate_forward`, when it differentiates through PyTorch preprocessors. A purifier
        without gradients therefore carries its BPDA inside `forward`, and white-box attacks see what they should see.

    | Please keep in mind the limitations of defences. A purifier alone rarely withstands an attacker who
        differentiates through it; see `art_ext.evaluation` for how to measure what is left.

    | Attributes: `held`, the options of the method's training that are attributes of the preprocessor.
    """

    params = ["clip_values", "channels_first", "batch_size", "verbose"]
    held: ClassVar[tuple[str, ...]] = ()
    _device: torch.device

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

    def move_to(self, device: torch.device) -> None:
        """Move the purifier to a device, with a warning where it was elsewhere.

        :param device: Where it is to purify from now on.
        """
        if device == self._device:
            return
        warnings.warn(
            f"the purifier moves from {self._device} to {device}, where its classifier is: give both the same "
            "device_type",
            stacklevel=3,
        )
        self.purifier.to(device)
        self._device = device

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
        schedulers: Sequence[Scheduler] | None = None,
        seed: int = 0,
        checkpoint: str | Path | None = None,
        classifier: nn.Module | None = None,
        precision: str = "32-true",
        devices: int = 1,
        augment: str | Augmentation | None = None,
        **kwargs: Any,
    ) -> None:
        """Train the purifier.

        :param x: Training images in the estimator's range and layout.
        :param y: Labels, for purifiers that need them.
        :param nb_epochs: Passes over the images, for each stage of the method.
        :param batch_size: Images a step.
        :param schedulers: Objects with `step`, stepped at the end of each epoch; the paper's unless given.
        :param seed: Of the order of the images and of everything random in a step.
        :param checkpoint: A file to keep the state of the training in; an existing one is resumed.
        :param classifier: Images (N, C, H, W) in [0, 1] to logits, for methods that are trained against one.
        :param precision: `32-true`, `bf16-mixed` or `16-mixed`.
        :param devices: Of the machine, on the CPU processes; see `art_ext.defences.training.How`.
        :param augment: Changes the images of each batch: `shift_and_flip:2`, `crop:32`, or a function of images
                        (N, C, H, W) in [0, 1].
        :param kwargs: Options of the method, see `art_ext.objectives.options_of`; others are refused.
        """
        how = How(seed, checkpoint, self.verbose, precision, devices, augment)
        how.check(self.device)
        with seeded(seed):  # helper networks are new
            stages = self._stages(classifier, kwargs)
        run = TrainingRun(stages, self._view(), how)
        run.classes = None if y is None else self._classes(run, x, y, classifier)
        run.fit(x, y, epochs=nb_epochs, batch_size=batch_size, schedulers=schedulers)
        self._is_fitted = True

    def set_params(self, **kwargs: Any) -> None:
        """Set parameters by name; nothing is changed if one of them is refused.

        :param kwargs: Names out of `params`.
        """
        set_checked(self, self.params, kwargs)

    def _stages(self, classifier: nn.Module | None = None, options: Mapping[str, Any] | None = None) -> list[Objective]:
        """The stages of the method, with the options that were given and those that are held."""
        options = {name: getattr(self, name) for name in self.held} | dict(options or {})
        check_options(type(self.purifier), options)
        for name, module in {"classifier": classifier, **options}.items():
            elsewhere = [p.device for p in _parameters(module) if p.device.type != self._device.type]
            if elsewhere:
                raise ValueError(
                    f"expected {name} on {self._device}, where the purifier is, got one on {elsewhere[0]}: move it "
                    "there, or make the preprocessor with another device_type"
                )
        stages = self.purifier.stages(classifier, **options)
        if not stages:
            raise ValueError(
                f"expected a purifier that can be trained, got {self.purifier.name!r}, which has no stages"
            )
        return stages

    def _classes(self, run: TrainingRun, x: Any, y: Any, classifier: nn.Module | None) -> int | None:
        """How many classes labels may have, by the purifier, the classifier or themselves; None where no one asks."""
        known = getattr(self.purifier, "classes", None)
        if isinstance(known, int) and known:
            return known
        if classifier is not None:
            with torch.no_grad(), evaluating(classifier):
                return int(classifier(run.images(x[:1]).to(self._device)).shape[1])
        return _classes_of(np.asarray(y)) if needs_labels(run.stages) else None

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

    def __init__(self, purifier: Purifier, **rim: Unpack[Rim]) -> None:
        """Wrap a new, untrained purifier of the method.

        :param purifier: See `PurifierPreprocessor`.
        :param rim: From `clip_values` to `verbose`, see `PurifierPreprocessor`.
        """
        super().__init__(purifier, **rim)
        self._is_fitted = False

    @classmethod
    def from_pretrained(cls, name: str | Path, **rim: Unpack[Rim]) -> Self:
        """A trained purifier of the method.

        :param name: A preset of the package, a folder made by `save_pretrained`, or an `owner/name` on the Hugging
                     Face Hub.
        :param rim: From `clip_values` to `verbose`, see `PurifierPreprocessor`.
        """
        return cls._loaded(name, rim)

    @classmethod
    def _loaded(cls, name: str | Path, rim: Rim) -> Self:
        """An instance around the trained purifier `name`, made without the constructor."""
        made = cls.__new__(cls)
        PurifierPreprocessor.__init__(made, _pretrained(cls.kind, name), **rim)
        return made

    def save_pretrained(self, folder: str | Path) -> None:
        """Write configuration and weights (safetensors), for `from_pretrained`.

        :param folder: Made if it is not there.
        """
        self.purifier.save_pretrained(folder)


def _parameters(module: Any) -> list[nn.Parameter]:
    return list(module.parameters()) if isinstance(module, nn.Module) else []


def _classes_of(labels: NDArray[Any]) -> int:
    """How many classes labels have, one-hot (N, K) or indices; 1 where they are no labels, which are refused later."""
    if labels.ndim == 2 and labels.shape[1] > 1:
        return labels.shape[1]
    numbers = labels.dtype.kind in "fiub" and labels.size and bool(np.isfinite(labels).all())
    return max(1, int(labels.max()) + 1) if numbers else 1


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
