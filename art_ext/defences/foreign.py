"""Other people's defences as purifiers, so that they get the same attacks and the same report."""

from __future__ import annotations

from typing import Any

import torch
from art.defences.preprocessor import GaussianAugmentation, TotalVarMin
from art.defences.preprocessor.cutout.cutout import Cutout
from art.defences.preprocessor.cutout.cutout_pytorch import CutoutPyTorch
from art.defences.preprocessor.preprocessor import Preprocessor, PreprocessorPyTorch
from torch import Tensor, nn

from art_ext.defences.preprocessor import PurifierPreprocessor
from art_ext.defences.view import ClipValues, View, numpy_seeded_from_torch
from art_ext.purifiers import Chain, Foreign, Purifier
from art_ext.purifiers.foreign import Unsaved

RANDOM = (GaussianAugmentation, TotalVarMin, Cutout, CutoutPyTorch)
"""ART's preprocessors of images that draw at every call."""


class ArtPurifier(Unsaved):
    """An ART preprocessor on images (N, C, H, W) in [0, 1], applied whatever its `apply_predict` is.

    | A numpy preprocessor gets BPDA with the identity. A PyTorch one keeps the gradient of its `forward`, which is what
        ART differentiates; its `estimate_forward` is the surrogate of BPDA.
    """

    def __init__(
        self,
        preprocessor: Preprocessor,
        *,
        clip_values: ClipValues = (0.0, 1.0),
        channels_first: bool = True,
        differentiable: bool | None = None,
        stochastic: bool | None = None,
        name: str | None = None,
    ) -> None:
        """Wrap a preprocessor.

        :param preprocessor: JpegCompression, SpatialSmoothing, FeatureSqueezing, ... It must keep the shape of a batch.
        :param clip_values: What it expects images to lie in.
        :param channels_first: The layout that it expects. `TotalVarMin` has no such option and takes the last axis for
                               the channels: False.
        :param differentiable: The gradient of a PyTorch `forward` is the true one; True for these unless given.
                               Impossible for a numpy preprocessor.
        :param stochastic: Two calls differ. What draws from numpy's global generator is seeded from torch's, so that
                           a seed of torch repeats it. Known for ART's own unless given.
        :param name: In reports; the class of the preprocessor unless given.
        """
        super().__init__()
        if not isinstance(preprocessor, Preprocessor):
            raise TypeError(f"expected an ART Preprocessor, got {type(preprocessor).__name__}")
        in_torch = isinstance(preprocessor, PreprocessorPyTorch)
        if differentiable and not in_torch:
            raise ValueError(f"expected a PyTorch preprocessor to differentiate, got {type(preprocessor).__name__}")
        self.preprocessor = preprocessor
        self.view = View(clip_values, channels_first)
        self.differentiable = in_torch if differentiable is None else differentiable
        self.stochastic = isinstance(preprocessor, RANDOM) if stochastic is None else stochastic
        self.name = name or type(preprocessor).__name__  # type: ignore[misc]

    def purify(self, x: Tensor) -> Tensor:
        """Purified images; the gradient is that of a PyTorch preprocessor, or none.

        :param x: Images (N, C, H, W) in [0, 1].
        :return: The same shape, in [0, 1], float32.
        """
        if isinstance(self.preprocessor, PreprocessorPyTorch):
            return self._entered(self.preprocessor.forward(self._left(x), None)[0], x)
        done: Any
        with numpy_seeded_from_torch(self.stochastic):
            done, _ = self.preprocessor(self._left(x).detach().cpu().numpy())
        # ART's defences may give float64, and values a rounding error outside the range.
        return self._entered(torch.from_numpy(done), x).clamp(0, 1)

    def surrogate(self, x: Tensor) -> Tensor:
        """What BPDA differentiates: `estimate_forward` of a PyTorch preprocessor, the identity for a numpy one.

        :param x: Images (N, C, H, W) in [0, 1].
        :return: The same shape.
        """
        if isinstance(self.preprocessor, PreprocessorPyTorch):
            return self._entered(self.preprocessor.estimate_forward(self._left(x)), x)
        return x

    def _left(self, x: Tensor) -> Tensor:
        return self.view.leave(x).to(getattr(self.preprocessor, "device", x.device))

    def _entered(self, done: Tensor, x: Tensor) -> Tensor:
        entered = self.view.enter(done.to(x.device))
        if entered.shape != x.shape:
            raise ValueError(
                f"expected {self.name!r} to keep the shape {tuple(x.shape)} of a batch, got {tuple(entered.shape)}"
            )
        return entered


def as_purifier(thing: Any, **options: Any) -> Purifier:
    """Whatever cleans images, as a purifier.

    | A purifier is returned as it is, and a `PurifierPreprocessor` gives its own. What `torch.compile` made of a
        purifier gives that purifier, not compiled: a purifier has more passes than the one that was compiled. A module
        or a function on images (N, C, H, W) in [0, 1] becomes a `Foreign`, another ART preprocessor an `ArtPurifier`,
        and a list of all these a `Chain`, applied in the order of the list.

    :param thing: What to wrap.
    :param options: Of `Foreign`, `ArtPurifier` or `Chain`; a purifier takes none.
    :return: The purifier, which shares weights and state with what was wrapped.
    """
    if isinstance(thing, PurifierPreprocessor):
        thing = thing.purifier
    compiled = getattr(thing, "_orig_mod", None)  # where torch.compile keeps what it compiled
    thing = compiled if isinstance(compiled, Purifier) else thing
    if isinstance(thing, Purifier):
        if options:
            raise TypeError(f"expected no options for a purifier, got {sorted(options)}")
        return thing
    if isinstance(thing, Preprocessor):
        return ArtPurifier(thing, **options)
    if isinstance(thing, (list, tuple)):
        return Chain([as_purifier(one) for one in thing], **options)
    if isinstance(thing, nn.Module) or callable(thing):
        return Foreign(thing, **options)
    raise TypeError(
        f"expected a purifier, a module, a function, an ART Preprocessor or a list of these, got {type(thing).__name__}"
    )
