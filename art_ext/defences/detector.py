"""Detectors of adversarial images under ART's name and base class."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from art.defences.detector.evasion import EvasionDetector
from numpy.typing import NDArray
from torch import Tensor

from art_ext.defences.parameters import set_checked
from art_ext.defences.view import ClipValues, View, as_tensor, check_array, check_clip_values, class_indices
from art_ext.detectors import Detector, auc, roc, threshold_at, tnr_at_tpr
from art_ext.plain import check_device_type


class CDVAEDetector(EvasionDetector):
    """Any detector of the package behind ART's interface; CD-VAE's is one on residuals x - G(x).

    | With `art_ext.detectors`: `CDVAEDetector(Mahalanobis(on_residuals(purifier, residual_classifier), layers))`.

    | A detector that is calibrated, or given another noise, after `fit` gets its threshold anew from the images that
        were held out, which must not be among those of the calibration.

    | Paper: Yang et al., Class-Disentanglement and Applications in Adversarial Detection and Defense, NeurIPS 2021,
        section 3.3.

    | Please keep in mind the limitations of defences. The paper's attacks do not know that there is a detector; one who
        does finds images that fool classifier and detector at once (`art_ext.detectors.attacks`).
    """

    defence_params = ["clip_values", "channels_first", "false_positive_rate"]

    def __init__(
        self,
        detector: Detector,
        clip_values: ClipValues = (0.0, 1.0),
        channels_first: bool = True,
        false_positive_rate: float = 0.05,
        holdout: float = 0.2,
        seed: int = 0,
        device_type: str = "gpu",
    ) -> None:
        """Wrap a detector.

        :param detector: Images (N, C, H, W) in [0, 1] to scores. It is moved to the device.
        :param clip_values: Smallest and largest value of the user's images.
        :param channels_first: Whether the user's images are (N, C, H, W) or (N, H, W, C).
        :param false_positive_rate: Share of clean images that may be flagged; another one moves the threshold at once.
        :param holdout: Share of the images of `fit` that the detector does not learn from, but has its threshold from:
                        its scores of images that it knows are too low.
        :param seed: Of the choice of those images.
        :param device_type: `cpu`, or `gpu` where there is one.
        """
        if not isinstance(detector, Detector):
            raise TypeError(f"expected an art_ext Detector, got {type(detector).__name__}")
        if not 0 < holdout < 1:
            raise ValueError(f"expected holdout in (0, 1), got {holdout!r}")
        check_device_type(device_type)
        super().__init__()
        self.detector = detector
        self.clip_values = clip_values
        self.channels_first = channels_first
        self.false_positive_rate = false_positive_rate
        self.holdout, self.seed = holdout, seed
        self._held: Tensor | None = None
        self._known: list[Any] = []
        self._clean_scores: NDArray[np.float64] | None = None
        self._check_params()
        self._device = torch.device("cuda" if device_type == "gpu" and torch.cuda.is_available() else "cpu")
        detector.to(self._device)

    @property
    def clean_scores(self) -> NDArray[np.float64] | None:
        """Scores of the images that `fit` held out, None before."""
        return None if self._held is None else self._held_out()

    @property
    def threshold(self) -> float:
        """The score above which an image is flagged."""
        return threshold_at(self._held_out(), self.false_positive_rate)

    def fit(self, x: NDArray[Any], y: NDArray[Any], batch_size: int = 128, nb_epochs: int = 20, **kwargs: Any) -> None:
        """Learn from clean images, all but the share `holdout`, and take the threshold from that.

        :param x: Clean images in the user's range and layout.
        :param y: Their labels, one-hot or indices.
        :param batch_size: The most images that one call of the detector sees.
        :param nb_epochs: Ignored; these detectors need no epochs. ART's signature has it.
        :param kwargs: Refused; ART's signature has them.
        """
        _refuse(kwargs)
        images, labels = self._images(x), _labels(y, len(x))
        held = round(self.holdout * len(images))
        if not 0 < held < len(images):
            raise ValueError(f"expected enough images to hold out {self.holdout:g} of them, got {len(images)}")
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(self.seed))
        self.detector.batch_size = _positive(batch_size)
        self.detector.fit(images[order[held:]].to(self._device), labels[order[held:]].to(self._device))
        self._held, self._known = images[order[:held]], []
        self._held_out()

    def detect(
        self, x: NDArray[Any], batch_size: int = 128, truth: NDArray[Any] | None = None, **kwargs: Any
    ) -> tuple[dict[str, Any], NDArray[np.bool_]]:
        """Tell which images are adversarial.

        :param x: Images in the user's range and layout.
        :param batch_size: The most images that one call of the detector sees.
        :param truth: Whether each image is adversarial, where that is known; the report then says how well it was told.
        :param kwargs: Refused; ART's signature has them.
        :return: (report, is_adversarial): report has `scores`, higher for adversarial images; `p_values`, the share of
                 clean images that score as high; `threshold` and `false_positive_rate`. With `truth` also `roc` (false
                 positive rates, true positive rates, thresholds), `auc`, and `tnr_at_95_tpr` as the literature has it,
                 the share of adversarial images flagged while 95 % of the clean ones pass. is_adversarial is one
                 boolean an image.
        """
        _refuse(kwargs)
        clean, threshold = self._held_out(), self.threshold
        images, kinds = self._images(x), None if truth is None else _kinds(truth, len(x))
        self.detector.batch_size = _positive(batch_size)
        scores = self._scores(images)
        as_high = len(clean) - np.searchsorted(np.sort(clean), scores, side="left")
        report: dict[str, Any] = {
            "scores": scores,
            "p_values": (1 + as_high) / (1 + len(clean)),
            "threshold": threshold,
            "false_positive_rate": self.false_positive_rate,
        }
        if kinds is not None:
            low, high = scores[~kinds], scores[kinds]
            report |= {"roc": roc(low, high), "auc": auc(low, high), "tnr_at_95_tpr": tnr_at_tpr(low, high)}
        return report, scores > threshold

    def set_params(self, **kwargs: Any) -> None:
        """Set parameters by name; nothing is changed if one of them is refused.

        :param kwargs: Names out of `defence_params`.
        """
        set_checked(self, self.defence_params, kwargs)

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.defence_params)
        return f"{type(self).__name__}(detector={type(self.detector).__name__}, {given})"

    def _scores(self, images: Tensor) -> NDArray[np.float64]:
        pieces = images.split(self.detector.batch_size)
        with torch.no_grad():  # a batch at a time, so that the device holds one batch only
            found = [self.detector.scores(piece.to(self._device)).cpu() for piece in pieces]
        return np.concatenate([np.empty(0), *(piece.double().numpy() for piece in found)])

    def _images(self, x: Any) -> Tensor:
        check_array(x)
        return View(self.clip_values, self.channels_first).enter(as_tensor(x)).contiguous()

    def _held_out(self) -> NDArray[np.float64]:
        """Scores of the held-out images, anew where the detector is no longer what it was (calibrated, other noise)."""
        if self._held is None:
            raise RuntimeError("expected a fitted detector, got one before fit(x, y)")
        now = [*self.detector.statistics().values(), getattr(self.detector, "noise", None)]
        if self._clean_scores is None or not _same(now, self._known):
            self._clean_scores, self._known = self._scores(self._held), now
        return self._clean_scores

    def _check_params(self) -> None:
        check_clip_values(self.clip_values)
        if not isinstance(self.channels_first, bool):
            raise ValueError(f"expected channels_first to be a bool, got {self.channels_first!r}")
        if not 0 <= self.false_positive_rate < 1:
            raise ValueError(f"expected false_positive_rate in [0, 1), got {self.false_positive_rate!r}")


def _same(now: list[Any], before: list[Any]) -> bool:
    return len(now) == len(before) and all(
        bool(torch.equal(a, b)) if isinstance(a, Tensor) and isinstance(b, Tensor) else a is b or a == b
        for a, b in zip(now, before, strict=True)
    )


def _refuse(kwargs: dict[str, Any]) -> None:
    if kwargs:
        raise TypeError(f"expected no further arguments, got {sorted(kwargs)}")


def _positive(batch_size: int) -> int:
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"expected batch_size to be a whole number >= 1, got {batch_size!r}")
    return batch_size


def _labels(y: Any, images: int) -> Tensor:
    """Class indices; so many classes as one-hot labels have columns, or as indices need."""
    labels: NDArray[Any] = np.asarray(y)
    one_hot = labels.ndim == 2 and labels.shape[1] > 1
    numeric = labels.dtype.kind in "fiub" and labels.size and np.isfinite(labels).all()
    classes = labels.shape[1] if one_hot else 1 + int(labels.max()) if numeric else 1
    return class_indices(labels, images, classes)


def _kinds(truth: Any, images: int) -> NDArray[np.bool_]:
    kinds: NDArray[Any] = np.asarray(truth)
    if kinds.shape != (images,) or not np.isin(kinds, (0, 1)).all() or len(np.unique(kinds)) != 2:
        raise ValueError(f"expected truth as {images} booleans, both kinds among them, got {kinds!r}")
    return kinds.astype(bool)
