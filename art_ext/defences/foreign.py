"""ART's own preprocessing defences as purifiers, so that they get the same attacks and the same report."""

from __future__ import annotations

from typing import Any

import torch
from art.defences.preprocessor.preprocessor import Preprocessor
from torch import Tensor

from art_ext.defences.view import ClipValues, View
from art_ext.purifiers import Purifier


class ArtPurifier(Purifier):
    """An ART preprocessor on images (N, C, H, W) in [0, 1]; BPDA with the identity is its gradient.

    Args:
        preprocessor: JpegCompression, SpatialSmoothing, FeatureSqueezing, ...
        clip_values: what it expects images to lie in.
        channels_first: the layout that it expects.

    Raises:
        TypeError: not an ART preprocessor.
    """

    name = "art"
    paper = ""
    differentiable = False

    def __init__(
        self, preprocessor: Preprocessor, *, clip_values: ClipValues = (0.0, 1.0), channels_first: bool = True
    ) -> None:
        super().__init__()
        if not isinstance(preprocessor, Preprocessor):
            raise TypeError(f"expected an ART Preprocessor, got {type(preprocessor).__name__}")
        self.preprocessor = preprocessor
        self.view = View(clip_values, channels_first)

    def purify(self, x: Tensor) -> Tensor:
        done: Any
        done, _ = self.preprocessor(self.view.leave(x).detach().cpu().numpy())
        # ART's defences may give float64, and values a rounding error outside the range.
        return self.view.enter(torch.from_numpy(done).to(x.device)).clamp(0, 1)
