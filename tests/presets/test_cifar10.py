"""What make_presets.py needs for CIFAR-10: images out of two files, a rate for each step, operations counted."""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from art_ext.classifiers import ClassifierObjective
from art_ext.nn import seeded
from art_ext.training import Batches, Checkpoint, fit

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cifar10(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "examples")
    monkeypatch.delitem(sys.modules, "preset_cifar10", raising=False)
    import preset_cifar10

    return preset_cifar10


def test_operations_are_those_of_every_epoch_for_each_image(cifar10: ModuleType) -> None:
    """A layer of 4 x 2 weights: 16 forward and 16 for its gradient, over three epochs; the images have none."""
    import preset_makers

    model = linear()
    batches = Batches(torch.rand(12, 1, 2, 2), torch.arange(12) % 2, batch_size=6)
    optimizers = {"classifier": torch.optim.SGD(model.parameters(), lr=0.1)}
    assert preset_makers.counted(ClassifierObjective(model), 3, optimizers, batches) == 96.0


def linear() -> nn.Sequential:
    with seeded(0):
        return nn.Sequential(nn.Flatten(), nn.Linear(4, 2))


def test_the_rate_rises_and_falls_by_the_step(cifar10: ModuleType) -> None:
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=2.0)
    cifar10.Triangle(optimizer, total_steps=9, rise=0.4)
    rates = []
    for _ in range(9):
        optimizer.step()
        rates.append(optimizer.param_groups[0]["lr"])
    # Step k of 9 is at k / 10; up to 0.4 the rate is 2 k / 4, then 2 (10 - k) / 6
    assert rates == pytest.approx([0.5, 1.0, 1.5, 2.0, 10 / 6, 8 / 6, 1.0, 4 / 6, 2 / 6])


def test_a_resumed_run_goes_on_at_its_place_in_the_triangle(cifar10: ModuleType, tmp_path: Path) -> None:
    with seeded(1):
        x, y = torch.rand(12, 1, 2, 2), torch.arange(12) % 2
    weights = []
    for stops in ([6], [2, 6]):  # epochs of two steps
        for i, epochs in enumerate(stops):
            model = linear()
            optimizer, triangle = cifar10.sgd(model, argparse.Namespace(sgd_rate=0.5), 12)
            run = fit(
                ClassifierObjective(model), Batches(x, y, batch_size=6), epochs=epochs, schedulers=[triangle],
                optimizers={"classifier": optimizer}, checkpoint=Checkpoint(tmp_path / f"{len(stops)}.pt", every=2),
            )  # fmt: skip
            assert len(list(run)) == 2 * (epochs - ([0, *stops][i]))
        weights.append(model[1].weight.detach().clone())
    assert torch.equal(*weights)


def test_training_images_are_jpeg_and_exact_ones_and_no_test_image(cifar10: ModuleType, tmp_path: Path) -> None:
    """Each image has a brightness of its own, which JPEG keeps: 40 and 80, then 120; tests 160 and 200."""
    flat = {v: np.full((3, 32, 32), v, np.uint8) for v in (40, 80, 120, 160, 200)}
    files = {}
    for split, values in {"train": (40, 80), "test": (160, 200)}.items():
        blobs = []
        for value in values:
            file = io.BytesIO()
            Image.fromarray(flat[value].transpose(1, 2, 0)).save(file, "JPEG")
            blobs.append(file.getvalue())
        files[f"{split}_jpeg"] = np.frombuffer(b"".join(blobs), np.uint8)
        files[f"{split}_offsets"] = np.cumsum([0, *map(len, blobs)])
        files[f"y_{split}"] = np.array(values, np.uint8) // 40
    np.savez(tmp_path / "cifar10_jpeg75.npz", **files)
    np.savez(
        tmp_path / "cifar10_exact.npz", x_train=flat[120][None], y_train=np.uint8([3]),
        x_test=np.stack([flat[160], flat[200]]), y_test=np.uint8([4, 5]),
    )  # fmt: skip
    args = argparse.Namespace(data=str(tmp_path), images=None, batch_size=8, seed=0)
    batches = cifar10.batches(args)
    assert batches.y.tolist() == [1, 2, 3]
    x, y = next(batches.epoch(0))
    assert x.dtype == torch.float32
    assert x.shape == (3, 3, 32, 32)
    assert torch.allclose(x[:, :, 16, 16] * 255, 40.0 * y[:, None].expand(3, 3), atol=2)  # as shifted, still inside
    args.images = 2
    assert cifar10.batches(args).y.tolist() == [1, 2]
    test = cifar10.test_images(tmp_path, 1)
    assert test.y.tolist() == [4]
    assert torch.allclose(test.x, torch.full((1, 3, 32, 32), 160 / 255))


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("amx", [False, True])
def test_bf16_is_for_processors_that_have_it(
    cifar10: ModuleType, monkeypatch: pytest.MonkeyPatch, bf16: bool, amx: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert cifar10.has_bf16() is (bf16 or amx)


def test_numbers_are_called_what_they_are(cifar10: ModuleType) -> None:
    assert cifar10.called(1000) == "CIFAR-10 (JPEG-75 training images, first 1,000 exact test images)"
