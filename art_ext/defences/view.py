"""The door between ART's images and ours: any clip values and channel order outside, (N, C, H, W) in [0, 1] inside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from art.defences.postprocessor.postprocessor import Postprocessor
from art.defences.preprocessor.preprocessor import Preprocessor, PreprocessorPyTorch
from art.estimators.classification import PyTorchClassifier
from numpy.typing import NDArray
from torch import Tensor, nn

ClipValues = tuple[Any, Any]
"""Smallest and largest value: two numbers, or two arrays that broadcast against an image in the caller's layout."""


class View:
    """Maps a user's image batches to (N, C, H, W) in [0, 1], float32, and back; differentiable both ways.

    Args:
        clip_values: (low, high) of the user's images: two numbers, or two arrays that broadcast against an image, of
            which those with one axis hold a value a channel in either layout.
        channels_first: whether the user's batches are (N, C, H, W) or (N, H, W, C).
        shape: of one image in the user's layout, None for sides that are not known.

    Raises:
        ValueError: clip_values are not two finite values with low < high, or arrays that fit no image of that shape.
    """

    def __init__(
        self, clip_values: ClipValues, channels_first: bool, shape: Sequence[int | None] = (None, None, None)
    ) -> None:
        check_clip_values(clip_values)
        self.channels_first = channels_first
        self.low, self.high = (self._bound(v, shape) for v in clip_values)

    def _bound(self, value: Any, shape: Sequence[int | None]) -> Tensor:
        bound = torch.as_tensor(np.asarray(value, dtype=np.float32))
        if bound.ndim == 1 and self.channels_first:
            bound = bound.view(-1, 1, 1)
        sides = [1] * (bound.ndim - len(shape)) + [*shape]
        known = zip(reversed(bound.shape), reversed(sides), strict=False)
        if any(side not in (1, wanted) for side, wanted in known if wanted is not None):
            raise ValueError(
                f"expected clip_values as two numbers, or two arrays of one value a channel or a pixel of images "
                f"{tuple('?' if side is None else side for side in shape)}, got arrays {np.shape(value)}"
            )
        return bound

    def enter(self, x: Tensor) -> Tensor:
        """To (N, C, H, W) in [0, 1], float32."""
        unit = (x.float() - self.low.to(x.device)) / (self.high - self.low).to(x.device)
        return unit if self.channels_first or unit.ndim != 4 else unit.permute(0, 3, 1, 2)

    def leave(self, unit: Tensor) -> Tensor:
        """From (N, C, H, W) in [0, 1] to the user's range and layout, float32."""
        x = unit if self.channels_first or unit.ndim != 4 else unit.permute(0, 2, 3, 1)
        return x * (self.high - self.low).to(x.device) + self.low.to(x.device)


def check_clip_values(clip_values: Any) -> None:
    """Refuses what is not a pair (low, high) with low < high.

    Raises:
        ValueError: with the value that came.
    """
    if not isinstance(clip_values, (tuple, list, np.ndarray)) or len(clip_values) != 2:
        raise ValueError(f"expected clip_values as a pair (low, high), got {clip_values!r}")
    low, high = (np.asarray(v, dtype=np.float64) for v in clip_values)
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
        raise ValueError(f"expected finite clip_values with low < high, got {clip_values!r}")


def check_array(x: Any) -> None:
    """Refuses what cannot be a numpy batch of images.

    Raises:
        TypeError: not an array, or not numeric.
        ValueError: not of rank 4.
    """
    if not isinstance(x, np.ndarray):
        raise TypeError(f"expected images as a numpy array, got {type(x).__name__}")
    if x.dtype.kind not in "fiu":
        raise TypeError(f"expected numeric images, got dtype {x.dtype}")
    if x.ndim != 4:
        raise ValueError(f"expected images of rank 4, (N, C, H, W) or (N, H, W, C), got shape {x.shape}")


def as_tensor(x: NDArray[Any]) -> Tensor:
    """A copy of an array as a tensor, whatever its strides and byte order, which torch is particular about."""
    return torch.tensor(np.ascontiguousarray(x, dtype=x.dtype.newbyteorder("=")))


def class_indices(y: Any, images: int, classes: int) -> Tensor:
    """Labels as int64 indices (N,), from indices (N,) or (N, 1) or one-hot (N, classes).

    Raises:
        TypeError: labels are not numeric.
        ValueError: wrong number of labels, soft labels, or a label outside [0, classes).
    """
    labels: NDArray[Any] = np.asarray(y)
    if labels.dtype.kind not in "fiub":
        raise TypeError(f"expected numeric labels, got dtype {labels.dtype}")
    if not np.isfinite(labels).all():
        raise ValueError("expected finite labels, got NaN or Inf values")
    if len(labels.shape) == 0 or len(labels) != images:
        raise ValueError(f"expected {images} labels, one an image, got shape {labels.shape}")
    if labels.ndim == 2 and labels.shape[1] == classes and classes > 1:
        if not (np.isin(labels, (0, 1)).all() and (labels.sum(1) == 1).all()):
            raise ValueError("expected one-hot labels with a single 1 a row, got soft or multiple labels")
        labels = labels.argmax(1)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise ValueError(f"expected labels (N,) or one-hot (N, {classes}), got shape {labels.shape}")
    if images and (labels.min() < 0 or labels.max() >= classes or (labels != labels.astype(np.int64)).any()):
        raise ValueError(f"expected labels to be whole numbers in [0, {classes}), got {np.unique(labels)[:10]}")
    return torch.from_numpy(labels.astype(np.int64))


class Logits(nn.Module):
    """A classifier's network behind its own range, layout and standardisation, and before its postprocessing."""

    def __init__(
        self, model: nn.Module, view: View, standardise: Preprocessor | None, postprocess: Sequence[Postprocessor] = ()
    ) -> None:
        super().__init__()
        self.model, self.view, self.standardise, self.postprocess = model, view, standardise, tuple(postprocess)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(self.enter(x))
        for defence in self.postprocess:
            with numpy_seeded_from_torch():
                value = torch.as_tensor(defence(logits.detach().cpu().numpy().copy())).to(logits)
            logits = value + (logits - logits.detach())
        return logits

    def enter(self, x: Tensor) -> Tensor:
        """What the network gets for images (N, C, H, W) in [0, 1]."""
        x = self.view.leave(x)
        if isinstance(self.standardise, PreprocessorPyTorch):
            return self.standardise.forward(x, None)[0]
        if self.standardise is not None:
            x = cast(Tensor, _InNumpy.apply(x, self.standardise))
        return x


class _InNumpy(torch.autograd.Function):
    """A numpy preprocessor with the gradient that it estimates itself."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, preprocessor: Preprocessor) -> Tensor:
        ctx.before, ctx.preprocessor = x.detach().cpu().numpy(), preprocessor
        with numpy_seeded_from_torch():
            after, _ = preprocessor(ctx.before.copy())
        return torch.as_tensor(after).to(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        found = ctx.preprocessor.estimate_gradient(ctx.before.copy(), gradient.cpu().numpy().copy())
        return torch.as_tensor(found).to(gradient), None


def as_module(classifier: PyTorchClassifier, *, postprocessing: bool = True) -> Logits:
    """The undefended classifier as a module: images (N, C, H, W) in [0, 1] to what its `predict` gives.

    Its clip values, channel order and standardisation (`preprocessing`, in numpy too) are applied, its preprocessing
    defences are not. Its postprocessing defences are: they compute in numpy, so the module has their values, with the
    gradient of what they were given. Those that draw from numpy's global generator are seeded from torch's. The model
    is shared, not copied.

    Args:
        classifier: any ART PyTorchClassifier of images with clip values.
        postprocessing: whether its postprocessing defences take part; ART's own training leaves them out.

    Raises:
        TypeError: not an ART PyTorchClassifier.
        ValueError: it has no clip_values, so its range is unknown, or some that do not fit its images.
    """
    if not isinstance(classifier, PyTorchClassifier):
        raise TypeError(f"expected an ART PyTorchClassifier, got {type(classifier).__name__}")
    if classifier.clip_values is None:
        raise ValueError("expected a classifier with clip_values, got None: the range of its images is unknown")
    shape = classifier.input_shape if len(classifier.input_shape) == 3 else (None, None, None)
    last = classifier.preprocessing
    after = [p for p in classifier.postprocessing_defences or [] if p.apply_predict] if postprocessing else []
    view = View(tuple(classifier.clip_values), classifier.channels_first, shape)
    return Logits(classifier.model, view, last if last is not None and last.apply_predict else None, after)


@contextmanager
def numpy_seeded_from_torch(wanted: bool = True) -> Iterator[None]:
    """Numpy's global generator starts from a draw of torch's inside and goes on as if nothing had happened after.

    Args:
        wanted: False does nothing.
    """
    if not wanted:
        yield
        return
    before = np.random.get_state()  # noqa: NPY002  ART draws from the legacy generator
    np.random.seed(int(torch.randint(2**31, ())))  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002
