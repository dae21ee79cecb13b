"""Images that a command reads: in balanced order, but for those of an npz or of the shipped set to train on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from art_ext.cli.images import load_images
from art_ext.data import balanced_order, cifar10, fashion_mnist


def test_the_images_of_a_folder_come_in_balanced_order(files: Any) -> None:
    found = load_images(files.folder, split="test")
    files_by_class = torch.cat([files.x[files.y == label] for label in (0, 1)]) / 255
    assert found.order is not None
    assert sorted(found.order.tolist()) == list(range(12))
    assert all(sorted(pair.tolist()) == [0, 1] for pair in found.y.split(2))
    assert (found.x - files_by_class[found.order]).abs().max() < 1e-6
    assert load_images(files.folder, split="test", channels=3, size=(4, 5)).x.shape == (12, 3, 4, 5)


def test_test_images_of_an_npz_come_in_balanced_order_and_others_in_theirs(files: Any, tmp_path: Path) -> None:
    path, y = tmp_path / "sorted.npz", np.array([0] * 8 + [1] * 4)
    np.savez(path, x=files.x.numpy(), y=y)
    found = load_images(path, split="test")
    assert found.order is not None
    assert found.order.tolist() == balanced_order(y)
    assert [sorted(part.tolist()) for part in found.y.split([2] * 4 + [4])] == [[0, 1]] * 4 + [[0] * 4]
    assert torch.equal(found.x, files.x[found.order].float() / 255)
    assert torch.equal(found.y, torch.from_numpy(y)[found.order])
    training = load_images(path, split="train")
    assert training.order is None
    assert torch.equal(training.x, files.x.float() / 255)
    assert training.y.tolist() == y.tolist()


def test_images_without_labels_keep_their_order(files: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=files.x.numpy())
    found = load_images(tmp_path / "x.npz", split="test", labels_needed=False)
    assert torch.equal(found.x, files.x.float() / 255)
    assert found.order is None


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_shipped_set_is_that_of_the_package(split: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where no file has its name
    found, expected = load_images(Path("fashion_mnist"), split=split), fashion_mnist(split)
    assert torch.equal(found.x, expected.x)
    assert (found.order is None) == (split == "train")


@pytest.mark.parametrize("given", ["cifar10", "cifar-10-batches-bin"])
def test_cifar10_is_read_by_name_or_folder(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match="which is not there"):
        load_images(Path(given), split="test")
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    rows = np.random.default_rng(0).integers(0, 256, (6, 3073), dtype=np.uint8)
    rows[:, 0] = (3, 3, 3, 5, 5, 5)
    rows.tofile(folder / "test_batch.bin")
    monkeypatch.setenv("ART_EXT_DATA", str(tmp_path))
    found, stored = load_images(Path(given), split="test"), cifar10("test")
    assert [sorted(pair.tolist()) for pair in found.y.split(2)] == [[3, 5]] * 3
    assert found.order is not None
    assert torch.equal(found.x, stored.x[found.order])


def test_the_order_of_a_folders_classes_is_said(files: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = load_images(files.folder, split="test")
    assert found.classes is not None
    said = ", ".join(f"{i} {name}" for i, name in enumerate(found.classes))
    line = f"classes of {files.folder}, which have to be in the order of the classifier's logits: {said}\n"
    assert capsys.readouterr().err == line
