"""Purified files are purifier(x) up to 8-bit rounding, under their names; the input stays as it was."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from art_ext.cli.code import code
from art_ext.purifiers import RDP


def read(path: Path) -> Tensor:
    """(1, C, H, W) in [0, 255], as float."""
    pixels = np.asarray(Image.open(path))
    return torch.from_numpy(pixels.copy()).float().reshape(*pixels.shape[:2], -1).permute(2, 0, 1)[None]


def tree(folder: Path) -> dict[Path, bytes]:
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def picture(path: Path, height: int, width: int, mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    pixels = np.random.default_rng(list(path.name.encode())).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three sizes, nested, in several formats, and one that shares its stem."""
    folder = tmp_path / "photos"
    for name, height, width in (
        ("b.png", 6, 8), ("deep/er/a.png", 8, 6), ("deep/c.bmp", 6, 8), ("deep/c.png", 6, 8), ("z.tif", 10, 10),
        ("deep/d.png", 6, 8), (".hidden/x.png", 6, 8),
    ):  # fmt: skip
        picture(folder / name, height, width)
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_values_and_names(call: Any, files: Any, photos: Path, tmp_path: Path, batch: int) -> None:
    before, out = tree(photos), tmp_path / "out"
    result = call("purify", "--purifier", files.rdp, photos, out, "--batch-size", batch)
    assert "6 images purified" in result.stdout
    names = {"b.png": "b.png", "deep/er/a.png": "deep/er/a.png", "deep/c.bmp": "deep/c.bmp.png"}
    names |= {"deep/c.png": "deep/c.png", "deep/d.png": "deep/d.png", "z.tif": "z.png"}
    assert set(tree(out)) == {Path(n) for n in names.values()}
    for source, target in names.items():
        expected = 255 * files.purifier(read(photos / source) / 255)
        assert (read(out / target) - expected).abs().max() <= 0.51
    assert tree(photos) == before


def test_no_batch_is_larger_than_asked(call: Any, files: Any, photos: Path, tmp_path: Path, monkeypatch: Any) -> None:
    shapes: list[tuple[int, ...]] = []
    honest = RDP.forward

    def watched(self: RDP, x: Tensor) -> Tensor:
        shapes.append(tuple(x.shape))
        return honest(self, x)

    monkeypatch.setattr(RDP, "forward", watched)
    call("purify", "--purifier", files.rdp, photos, tmp_path / "out", "--batch-size", 3)
    assert sorted(shapes) == [(1, 1, 6, 8), (1, 1, 8, 6), (1, 1, 10, 10), (3, 1, 6, 8)]
    shapes.clear()
    call("purify", "--purifier", files.rdp, files.npz, tmp_path / "out.npz", "--batch-size", 5)
    assert [s[0] for s in shapes[1:]] == [5, 5, 2]  # the first one is the look at a single image


def test_unreadable_files_do_not_stop_the_rest(call: Any, files: Any, photos: Path, tmp_path: Path) -> None:
    (photos / "cut.png").write_bytes((photos / "b.png").read_bytes()[:60])
    (photos / "deep/text.jpg").write_text("no jpeg")
    Image.fromarray(np.zeros((6, 8), np.uint16)).save(photos / "deep16.png")
    picture(photos / "colour.png", 6, 8, "RGB")
    result = call("purify", "--purifier", files.rdp, photos, tmp_path / "out", code=1)
    assert "6 images purified" in result.stdout
    assert len(tree(tmp_path / "out")) == 6
    for name in ("cut.png", "deep/text.jpg", "deep16.png", "colour.png"):
        assert f"error: {name}: " in result.stderr
    assert "4 files could not be purified" in result.stderr


def test_a_size_that_the_purifier_refuses(call: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    RDP(channels=1, width=2, blocks=2, block="residual", fold=2).save_pretrained(tmp_path / "rdp")
    picture(tmp_path / "in/even.png", 6, 8)
    picture(tmp_path / "in/odd.png", 7, 9)
    result = call("purify", "--purifier", tmp_path / "rdp", tmp_path / "in", tmp_path / "out", code=1)
    assert "1 images purified" in result.stdout
    assert "error: odd.png: " in result.stderr


def test_grey_images_become_rgb_for_a_purifier_of_three_channels(call: Any, tmp_path: Path) -> None:
    torch.manual_seed(1)
    purifier = RDP(channels=3, width=2, blocks=2, block="residual").eval()
    assert purifier(torch.rand(2, 3, 6, 8)).std() > 0.02
    purifier.save_pretrained(tmp_path / "rdp")
    picture(tmp_path / "in/grey.png", 6, 8)
    picture(tmp_path / "in/colour.png", 6, 8, "RGB")
    picture(tmp_path / "in/clear.png", 6, 8, "RGBA")
    call("purify", "--purifier", tmp_path / "rdp", tmp_path / "in", tmp_path / "out")
    for name in ("grey.png", "colour.png", "clear.png"):
        x = read(tmp_path / "in" / name)[:, :3].expand(1, 3, 6, 8)
        assert (read(tmp_path / "out" / name) - 255 * purifier(x / 255)).abs().max() <= 0.51


@pytest.mark.parametrize("layout", ["bytes", "floats", "channels last", "no channels"])
def test_npz_keeps_layout_dtype_and_other_arrays(call: Any, files: Any, tmp_path: Path, layout: str) -> None:
    x = files.x.numpy()
    given = {
        "bytes": x, "floats": (x / 255).astype(np.float64), "channels last": x.transpose(0, 2, 3, 1).copy(),
        "no channels": x[:, 0],
    }[layout]  # fmt: skip
    np.savez(tmp_path / "in.npz", images=given, y=files.y.numpy())
    before = (tmp_path / "in.npz").read_bytes()
    call("purify", "--purifier", files.rdp, tmp_path / "in.npz", tmp_path / "out.npz", "--key", "images")
    with np.load(tmp_path / "out.npz") as out:
        assert set(out) == {"images", "y"}
        assert np.array_equal(out["y"], files.y.numpy())
        found = out["images"]
    assert found.shape == given.shape
    assert found.dtype == given.dtype
    values = files.purifier(files.x.float() / 255).numpy()
    values = values.transpose(0, 2, 3, 1) if layout == "channels last" else values
    scale, tolerance = (1, 1e-6) if layout == "floats" else (255, 0.51)
    assert np.abs(found.astype(np.float64) - scale * values.reshape(given.shape)).max() <= tolerance
    assert (tmp_path / "in.npz").read_bytes() == before


def test_channels_last_of_three(call: Any, files: Any, tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((5, 6, 8, 3), dtype=np.float32)
    np.savez(tmp_path / "in.npz", x=x)
    call("purify", "--purifier", files.spec("blur"), tmp_path / "in.npz", tmp_path / "out.npz", "--batch-size", 2)
    blurred = code(files.spec("blur"))(torch.from_numpy(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    with np.load(tmp_path / "out.npz") as out:
        assert np.abs(out["x"] - blurred.numpy()).max() <= 1e-6


def test_refused_before_anything_is_written(refused: Any, files: Any, photos: Path, tmp_path: Path) -> None:
    command = ("purify", "--purifier", files.rdp)
    picture(tmp_path / "colours/a.png", 6, 8, "RGB")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(photos)
    np.savez(tmp_path / "dark.npz", x=np.full((3, 1, 6, 8), 7.0), z=np.zeros(3))
    np.savez(tmp_path / "colour.npz", x=np.zeros((3, 3, 6, 8), np.uint8))
    before = tree(tmp_path)
    assert "other than the input" in refused(*command, photos, photos, "--overwrite")
    assert "other than the input" in refused(*command, photos, tmp_path / "link", "--overwrite")
    assert "one inside the other" in refused(*command, photos, photos / "out")
    assert "one inside the other" in refused(*command, photos / "deep", photos, "--overwrite")
    assert "new or empty" in refused(*command, photos, tmp_path / "colours")
    assert "other than the input" in refused(*command, files.npz, files.npz, "--overwrite")
    assert "got none" in refused(*command, tmp_path / "empty", tmp_path / "out")
    assert "the purifier takes" in refused(*command, tmp_path / "colours", tmp_path / "out")
    assert "not there" in refused(*command, tmp_path / "missing", tmp_path / "out")
    assert "not there" not in refused(*command, tmp_path / "dark.npz", tmp_path / "out.npz", "--key", "q")
    assert "got keys: x, z" in refused(*command, tmp_path / "dark.npz", tmp_path / "out.npz", "--key", "q")
    assert "in [0, 1], got values in [7, 7]" in refused(*command, tmp_path / "dark.npz", tmp_path / "out.npz")
    assert "1 channel(s)" in refused(*command, tmp_path / "colour.npz", tmp_path / "out.npz")
    assert ".npz file as output" in refused(*command, files.npz, tmp_path / "out")
    assert tree(tmp_path) == before


def test_overwrite(call: Any, files: Any, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    picture(out / "b.png", 3, 3)
    (out / "kept.txt").write_text("mine")
    call("purify", "--purifier", files.rdp, photos, out, "--overwrite")
    assert read(out / "b.png").shape[-2:] == (6, 8)
    assert (out / "kept.txt").read_text() == "mine"
    assert (out / "b.png").stat().st_mode & 0o044 == 0o044 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
