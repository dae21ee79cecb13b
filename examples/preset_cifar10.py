"""CIFAR-10 for `make_presets.py`: its classifiers, the images in a folder, SGD with a triangular rate, and figures.

The training images are those of `cifar10_jpeg75.npz` (all 50,000, encoded as JPEG of quality 75: `train_jpeg`, one
blob, `train_offsets`, `y_train`) and the exact ones of `cifar10_exact.npz` (`x_train`, `y_train`, uint8
(N, 3, 32, 32)). Figures are on the `x_test` of the latter, which the test images of the first file hold again: those
are neither trained nor measured on.
"""

from __future__ import annotations

import argparse
import io
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from art_ext.classifiers import VGG, PreActResNet, ResNet18
from art_ext.data import Images, from_arrays, shift_and_flip
from art_ext.training import Batches

EPS = 8 / 255
IMAGES = 58_068  # to train on
STATISTICS = {"mean": [0.4914, 0.4822, 0.4465], "std": [0.247, 0.2435, 0.2616]}  # of the training images
RESNET = (PreActResNet, {"channels": 3, "classes": 10, "width": 32, "blocks": 1, **STATISTICS})
CLASSIFIERS: dict[str, Any] = {
    "cifar10_resnet": RESNET,
    "cifar10_surrogate": (ResNet18, {"channels": 3, "classes": 10, "width": 16, **STATISTICS}),
    "cifar10_features": (VGG, {"channels": 3, "classes": 10, "width": 32}),
    "cifar10_robust": RESNET,
}
OBJECTIVES: dict[str, dict[str, Any]] = {name: {"smoothing": 0.1} for name in CLASSIFIERS}
OBJECTIVES["cifar10_robust"] = {"eps": EPS, "attack": "n-fgsm", "noise": 2.0}
SCHEDULE = "SGD, Nesterov momentum 0.9, weight decay 5e-4; the rate rises over a fifth of the steps and falls to 0"


def called(n: int) -> str:
    """What numbers on the first n test images are numbers on."""
    return f"CIFAR-10 (JPEG-75 training images, first {n:,} exact test images)"


def batches(args: argparse.Namespace) -> Batches:
    """Training images, shifted by up to 4 pixels and mirrored; all of them unless `--images` says how many."""
    with np.load(Path(args.data) / "cifar10_jpeg75.npz") as packed:
        ends = packed["train_offsets"][: args.images and args.images + 1]  # what is not wanted is not decoded
        x, y = _decoded(packed["train_jpeg"].tobytes(), ends), packed["y_train"][: len(ends) - 1]
    with np.load(Path(args.data) / "cifar10_exact.npz") as exact:
        x, y = np.concatenate([x, exact["x_train"]]), np.concatenate([y, exact["y_train"]])
    chosen = [torch.from_numpy(a[: args.images]) for a in (x, y.astype(np.int64))]
    return Batches(chosen[0], chosen[1], batch_size=args.batch_size, seed=args.seed, augment=_augment)


def _augment(x: Tensor) -> Tensor:
    """What is kept as uint8, a quarter of the memory, in [0, 1]."""
    return shift_and_flip(4)(x).float() / 255


def _decoded(blob: bytes, offsets: Any) -> Any:
    """uint8 (N, 3, 32, 32) of JPEG files that lie one after the other."""
    pixels = [np.asarray(Image.open(io.BytesIO(blob[a:b])).convert("RGB")) for a, b in pairwise(offsets)]
    return np.stack(pixels).transpose(0, 3, 1, 2)


def test_images(folder: Path | str, n: int) -> Images:
    """The first n exact test images."""
    with np.load(Path(folder) / "cifar10_exact.npz") as exact:
        return from_arrays(exact["x_test"][:n], exact["y_test"][:n].astype(np.int64), channels_first=True)


class Triangle:
    """A rate that rises from 0 to its peak over a share of all steps and falls to 0 over the rest, both in a line.

    `fit` steps its schedulers once an epoch; this one moves before each step of the optimiser instead, and its place is
    kept with the checkpoint.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, total_steps: int, rise: float = 0.2) -> None:
        self.total_steps, self.rise, self.steps = total_steps, rise, 0
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        optimizer.register_step_pre_hook(self._move)

    def _move(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self.steps += 1
        done = self.steps / (self.total_steps + 1)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * min(done / self.rise, (1 - done) / (1 - self.rise))

    def step(self) -> None:
        """Nothing: an epoch ended."""

    def state_dict(self) -> dict[str, int]:
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.steps = state["steps"]


def sgd(model: nn.Module, args: argparse.Namespace, steps: int) -> tuple[torch.optim.Optimizer, Triangle]:
    """SGD with Nesterov momentum 0.9 and weight decay 5e-4, and the triangle of its rate."""
    optimizer = torch.optim.SGD(model.parameters(), args.sgd_rate, momentum=0.9, nesterov=True, weight_decay=5e-4)
    return optimizer, Triangle(optimizer, steps)


def has_bf16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware; elsewhere it is slower than float32."""
    asked = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    return any(ask is not None and ask() for ask in asked)
