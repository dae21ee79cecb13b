"""The contract of every detector: clean images to learn from, then a score an image that is high for adversaries."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from typing_extensions import Self

from art_ext.files import replacing
from art_ext.images import asks, check_images, check_layout, check_range


class Detector(nn.Module, ABC):
    """Scores each image (C, H, W) in [0, 1] by one number, higher for more probably adversarial ones.

    A method writes `name`, `paper`, `learn`, `measure` and `expected`; the rest has defaults. What `learn` finds is
    kept in buffers and moves with the module; networks that the detector looks through are borrowed and not saved.

    Attributes:
        batch_size: the most images that one call of `measure` sees.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    batch_size: int = 256

    @abstractmethod
    def learn(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """What is to be known about clean images (N, C, H, W) of classes y (N,), by name; called without gradients."""

    @abstractmethod
    def measure(self, x: Tensor) -> Tensor:
        """Scores (N,) of at most `batch_size` images. It must not mix samples, detach, or run under `no_grad`."""

    @abstractmethod
    def expected(self) -> set[str]:
        """Names of what `learn` gives."""

    def optional(self) -> set[str]:
        """Names of what may come besides; none unless overridden."""
        return set()

    @property
    def fitted(self) -> bool:
        """Whether there is something to compare images with."""
        return self.expected() <= {*self.statistics()}

    def fit(self, x: Tensor, y: Tensor) -> Self:
        """Learns from clean images and gives itself; what it knew before is forgotten.

        Args:
            x: clean images (N, C, H, W) in [0, 1].
            y: their classes (N,), int64.

        Raises:
            TypeError: x is not a floating-point tensor.
            ValueError: x is not (N, C, H, W) in [0, 1], there are none, or y does not fit.
        """
        check_images(x)
        if not len(x) or y.shape != (len(x),) or y.dtype != torch.int64:
            raise ValueError(f"expected images with one int64 label each, got {len(x)} and {tuple(y.shape)} {y.dtype}")
        with torch.no_grad():
            found = self.learn(x, y)
        self._replace(found)
        return self

    def scores(self, x: Tensor) -> Tensor:
        """One score an image, (N,), differentiable; higher means more adversarial.

        Raises:
            RuntimeError: the detector has not been fitted.
            TypeError: x is not a floating-point tensor.
            ValueError: x is not (N, C, H, W) in [0, 1].
        """
        self._check(x)
        return torch.cat([self.measure(piece) for piece in x.split(self.batch_size)]) if len(x) else x.new_zeros(0)

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(x)

    def statistics(self) -> dict[str, Tensor]:
        """What fitting found, by name; empty before."""
        return dict(self.named_buffers(recurse=False))

    def load_statistics(self, found: Mapping[str, Tensor]) -> Self:
        """Takes back what `statistics` gave, for the same network, and gives itself.

        Raises:
            ValueError: other names than this detector's; nothing is loaded then.
        """
        if not self.expected() <= {*found} <= self.expected() | self.optional():
            raise ValueError(f"expected statistics {sorted(self.expected())}, got {sorted(found)}")
        self._replace(found)
        return self

    def save(self, path: Path | str) -> None:
        """Writes the statistics as safetensors, at once or not at all.

        Raises:
            RuntimeError: the detector has not been fitted.
        """
        if not self.fitted:
            raise RuntimeError(f"expected a fitted detector, got {self.name!r} before fit(x, y)")
        with replacing(path) as temporary:
            save_file({k: v.detach().cpu().contiguous() for k, v in self.statistics().items()}, temporary)

    def load(self, path: Path | str) -> Self:
        """Reads what `save` wrote, and gives itself.

        Raises:
            ValueError: no such file, or one of another detector.
        """
        if not Path(path).is_file():
            raise ValueError(f"expected a file that save() wrote, got {str(path)!r}, which is none")
        device = next((str(p.device) for p in self.parameters()), "cpu")
        return self.load_statistics(load_file(path, device=device))

    def _check(self, x: Tensor) -> None:
        if not self.fitted:
            raise RuntimeError(f"expected a fitted detector, got {self.name!r} before fit(x, y)")
        check_layout(x)
        if asks(self, x):
            check_range(x)

    def _replace(self, found: Mapping[str, Tensor]) -> None:
        for name in self.statistics():
            delattr(self, name)
        for name, value in found.items():
            self.register_buffer(name, value)
