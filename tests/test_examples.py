"""README blocks, examples and paper tables run as a reader would run them, at a small scale."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from art_ext.evaluation import Report

from .evaluation.test_page import check_every_number

ROOT = Path(__file__).parents[1]


def run(script: str, *arguments: str | Path) -> str:
    command = [sys.executable, str(ROOT / "examples" / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def python_blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), flags=re.DOTALL)


def test_the_readme_prints_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Accuracies may differ by an image where other processors round otherwise; n and the words may not."""
    monkeypatch.chdir(tmp_path)
    (block,) = python_blocks("README.md")
    exec(compile(block, "README.md", "exec"), {})
    form = re.compile(r"(blind|full) (\d+\.\d) % \[\d+\.\d, \d+\.\d\] n=32")
    shown, printed = (form.findall(text) for text in ((ROOT / "README.md").read_text("utf-8"), capsys.readouterr().out))
    assert [name for name, _ in shown] == [name for name, _ in printed] == ["blind", "full"]
    for (_, a), (_, b) in zip(shown, printed, strict=True):
        assert abs(float(a) - float(b)) <= 100 / 32 + 0.1


def test_readme_fits_on_a_screen() -> None:
    words = (ROOT / "README.md").read_text("utf-8").split()
    assert 350 <= len(words) <= 500


def test_guide_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = python_blocks("docs/guide.md")
    assert len(blocks) == 6
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "guide.md", "exec"), names)
    assert names["logits"].shape == (16, 10)
    rounded, through_art = names["models"]
    assert set((8 * rounded.purifier(names["test"].x)).unique().tolist()) <= set(range(9))
    assert torch.allclose(through_art.module(names["test"].x), torch.tensor(names["logits"]), atol=1e-4)
    x, x_adv = names["test"].x, names["x_adv"]
    assert 0.05 < float((x_adv - x).abs().max()) <= 0.1 + 1e-6
    assert "worst case" in capsys.readouterr().out
    assert (tmp_path / "runs" / "mine.pt.1").is_file()


def test_quickstart(tmp_path: Path) -> None:
    out = run("01_quickstart.py", "--images", 4, "--steps", 2, "--draws", 2, "--queries", 5, "--out", tmp_path)
    report = Report.from_json((tmp_path / "report.json").read_text())
    header, rows = report.table()
    assert header == ["model", "attack", "bare classifier", "blind", "bpda", "full"]
    expected = ["clean", "art PGD-2", "torchattacks PGD-2", "native AutoAttack-3", "worst case"]
    assert [row[1] for row in rows if row[0] == "RDP"] == expected
    assert [row[1] for row in rows if row[0] == "adversarially trained"] == expected
    assert [row[1] for row in rows if row[0] == "dynamic RDP"] == [
        "clean", "native PGD-2", "native APGD-CE and APGD-T + EOT-2", "worst case, R = 1", "worst case, R = 5",
    ]  # fmt: skip
    assert all(any(row[2:]) for row in rows)
    assert all("n=" in entry and "[" in entry for row in rows for entry in row[2:] if entry)
    for row in rows:  # what the terminal shows is what the report holds
        assert all(entry.split(" %")[0] in out for entry in row[2:])
    html = (tmp_path / "report.html").read_text("utf-8")
    check_every_number(report, html)
    assert html.count("data:image/png;base64,") == 4
    pictures = ("images.png", "accuracy.png", "curves.png", "repeats.png")
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in pictures)


def test_a_whole_evaluation_in_under_40_lines(tmp_path: Path) -> None:
    script = "03_evaluate_a_defence.py"
    assert len((ROOT / "examples" / script).read_text("utf-8").splitlines()) < 40
    out = run(script, "--images", 8, "--steps", 2, "--out", tmp_path)
    report = Report.load(tmp_path / "report.json")
    assert {c.backend for c in report.attacked("RDP")} == {"native", "art", "torchattacks", "autoattack"}
    assert {c.knowledge for c in report.attacked("RDP")} == {"transfer", "blind", "bpda", "full", "adaptive"}
    assert f"worst case: {report.worst_case('RDP')}" in out
    check_every_number(report, (tmp_path / "report.html").read_text("utf-8"))
    assert (tmp_path / "x_adv.safetensors").is_file()


def test_train_rdp(tmp_path: Path) -> None:
    arguments = ("--images", 32, "--epochs", 1, "--test", 8, "--blocks", 2, "--width", 4, "--out", tmp_path)
    out = run("02_train_rdp.py", *arguments)
    assert out.count("n=8") == 6
    assert {p.name for p in tmp_path.iterdir()} >= {"config.json", "model.safetensors", "training.pt.1"}


def test_ablation_says_that_algorithm_1_ignores_the_reconstruction_branch(tmp_path: Path) -> None:
    sizes = ("--epochs", 1, "--train", 32, "--images", 16, "--width", 4, "--blocks", 2, "--seeds", 0)
    out = run("paper_tables/rdp_ablation.py", *sizes, "--runs", tmp_path / "runs", "--out", tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found["rows"]) == 7
    assert out.count("n=16") == 21
    # The file's name ends with a stamp of the settings.
    files = {p.stem.rpartition(" ")[0]: p for p in (tmp_path / "runs").iterdir()}
    states = {name: torch.load(p, weights_only=True)["objective"] for name, p in files.items()}
    full, without = states["full (Algorithm 1) 0"], states["no reconstruction branch 0"]
    parts = [k for k in full if k.startswith(("purifier.encoder", "purifier.decoder"))]
    assert parts
    assert all(torch.equal(full[k], without[k]) for k in parts)
    shared = states["shared latent (the prose) 0"]
    assert not all(torch.equal(full[k], shared[k]) for k in parts)


def test_paper_table_of_rdp(tmp_path: Path) -> None:
    run("paper_tables/rdp_fashion_mnist.py", "--images", 8, "--quick", "--out", tmp_path, "--runs", tmp_path / "runs")
    blind, white = (
        Report.from_json((tmp_path / f"rdp_fashion_mnist_{p}.json").read_text()) for p in ("blind", "white")
    )
    assert blind.table()[0] == ["model", "attack", "bare classifier", "transfer", "blind"]
    assert white.table()[0] == ["model", "attack", "bare classifier", "bpda", "full", "adaptive"]


def test_dirs_ablation_goes_on_where_it_was(tmp_path: Path) -> None:
    out, full = tmp_path / "ablation.json", "full (alpha 2, ratio 50 %, depth 3 + 1)"
    small = ("--epochs", 1, "--pretraining-epochs", 1, "--train", 8, "--images", 4, "--draws", 2)
    kept = ("--runs", tmp_path / "runs", "--out", out)
    run("paper_tables/dir_ablation.py", *small, *kept, "--variants", full)
    first = json.loads(out.read_text())
    joint = "target trained too (released code)"
    shown = run("paper_tables/dir_ablation.py", *small, *kept, "--variants", full, joint)
    found = json.loads(out.read_text())
    assert [row["variant"] for row in found["rows"]] == [full, joint]
    assert found["rows"][0] == first["rows"][0]
    for row in found["rows"]:
        assert {k: len(v) for k, v in row["correct"].items()} == {"clean": 4, "pgd": 4, "eot": 4, "frozen": 4}
    assert found["rows"][0]["correct"]["clean"] != found["target"]["clean"]  # DIR is hardly trained, its target is
    assert "target alone" in shown


def test_paper_table_of_dir_in_shards(tmp_path: Path) -> None:
    # One image of the first shard's batch, the other of the second's: 65 images are two batches.
    options = ("--quick", "--parts", "frozen", "--images", 65, "--runs", tmp_path / "runs", "--out", tmp_path)
    for shard in (0, 1):
        run("paper_tables/dir_fashion_mnist.py", *options, "--shard", shard, 2)
    assert not (tmp_path / "dir_fashion_mnist_frozen.json").exists()
    run("paper_tables/dir_fashion_mnist.py", *options, "--merge", 2)
    frozen = Report.load(tmp_path / "dir_fashion_mnist_frozen.json")
    assert {c.images for c in frozen.cells} == {65}
    assert "Eq. 8, PGD-40" in [c.attack for c in frozen.attacked("DIR, masks frozen") if c.knowledge == "adaptive"]


def test_paper_table_of_atop(tmp_path: Path) -> None:
    run(
        "paper_tables/atop_fashion_mnist.py", "--quick", "--parts", "known", "--images", 4, "--train", 8,
        "--pretraining-epochs", 1, "--epochs", 1, "--runs", tmp_path / "runs", "--out", tmp_path,
    )  # fmt: skip
    known = Report.load(tmp_path / "atop_fashion_mnist_known.json")
    assert len(known.models()) == 2 + 7
    (averaged,) = [c for c in known.attacked("RT2 + AToP, PGD in L2") if c.knowledge == "full"]
    assert (averaged.attack, averaged.parameters["check_every"], averaged.images) == ("native PGD-3 + EOT-10", 2, 4)
    assert known.provenance["data"]["purifiers"]["pretraining_epochs"] == 1


def test_dir_on_cifar10_stops_in_time_and_goes_on(tmp_path: Path) -> None:
    cifar10_like(tmp_path)
    options = (
        "--data", tmp_path, "--runs", tmp_path / "runs", "--out", tmp_path / "found.json", "--quick",
        "--target-epochs", 1, "--pretraining-epochs", 1, "--epochs", 1, "--batch-size", 4, "--train", 8, "--images", 4,
        "--strong-images", 2, "--width", 12, "--depth", 1, "--decoder-depth", 1, "--target-width", 2, "--patch", 8,
    )  # fmt: skip
    assert "run again to go on" in run("paper_tables/dir_cifar10.py", *options, "--minutes", 0)
    assert not (tmp_path / "found.json").exists()
    assert "restoration: step 2 of 2" in run("paper_tables/dir_cifar10.py", *options)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["data"] == "CIFAR-10 (JPEG-75 training images, first 4 exact test images)"
    assert [found["schedule"][k]["steps"] for k in ("target", "pretraining", "restoration")] == [2, 2, 2]
    paper = Report.from_json(json.dumps(found["reports"]["paper"]))
    assert {c.images for c in paper.cells} == {4}


def test_atop_on_cifar10(tmp_path: Path) -> None:
    cifar10_like(tmp_path)
    shown = run(
        "paper_tables/atop_cifar10.py",
        "--data", tmp_path, "--runs", tmp_path / "runs", "--out", tmp_path / "found.json", "--quick",
        "--classifier-epochs", 1, "--pretraining-epochs", 1, "--epochs", 1, "--batch-size", 4, "--train", 8,
        "--images", 4, "--strong-images", 2, "--width", 2, "--dilations", 1, "--classifier-width", 2,
    )  # fmt: skip
    assert "fine-tuning: step 2 of 2" in shown
    found = json.loads((tmp_path / "found.json").read_text())
    assert list(found["schedule"]) == ["classifier", "pretraining", "fine-tuning"]
    blind, strong = (Report.from_json(json.dumps(found["reports"][k])) for k in ("blind", "strong"))
    assert blind.models() == strong.models() == ["undefended", "RT2", "RT2 + AToP"]
    assert [c.knowledge for c in strong.attacked("RT2 + AToP")] == ["full"]
    assert blind.provenance["images"] == 4


def cifar10_like(folder: Path) -> None:
    """The two files of `cifar10.load`, with a few random images."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    blobs = []
    for image in pixels:
        Image.fromarray(image).save(held := io.BytesIO(), "JPEG", quality=75)
        blobs.append(held.getvalue())
    ends = np.cumsum([0, *map(len, blobs)])
    labels = np.arange(6, dtype=np.uint8)
    packed = np.frombuffer(b"".join(blobs), np.uint8)
    np.savez(folder / "cifar10_jpeg75.npz", train_jpeg=packed, train_offsets=ends, y_train=labels)
    exact = pixels.transpose(0, 3, 1, 2)
    np.savez(folder / "cifar10_exact.npz", x_train=exact, y_train=labels, x_test=255 - exact, y_test=labels[::-1])


def test_cifar10_is_read_as_it_is_stored(tmp_path: Path) -> None:
    import cifar10

    with pytest.raises(ValueError, match=r"got no cifar10_jpeg75.npz, cifar10_exact.npz"):
        cifar10.load(tmp_path)
    cifar10_like(tmp_path)
    train, test = cifar10.load(tmp_path, test=4)
    exact = np.load(tmp_path / "cifar10_exact.npz")
    assert train.x.shape == (12, 3, 32, 32)
    assert torch.equal(train.x[6:], torch.tensor(exact["x_train"]).float() / 255)
    assert 0 < float((train.x[:6] - train.x[6:]).abs().mean()) < 0.2  # the same pictures, but for JPEG
    assert train.y is not None
    assert train.y.tolist() == [*range(6), *range(6)]
    assert test.x.shape == (4, 3, 32, 32)
    assert test.y is not None
    assert test.y.tolist() == [5, 4, 3, 2]
    few, _ = cifar10.load(tmp_path, train=3)
    assert torch.equal(few.x, train.x[:3])
    assert cifar10.called(tmp_path, 4) == "CIFAR-10 (JPEG-75 training images, first 4 exact test images)"


def test_cifar10_may_be_the_plain_data_set(tmp_path: Path) -> None:
    import cifar10

    last = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    y = np.arange(4, dtype=np.uint8)[:, None]
    for x in (last, last.transpose(0, 3, 1, 2)):
        np.savez(tmp_path / "cifar10.npz", x_train=x, y_train=y, x_test=255 - x[::-1], y_test=y[::-1])
        train, test = cifar10.load(tmp_path, train=3)
        assert torch.equal(train.x, torch.tensor(last[:3]).permute(0, 3, 1, 2).float() / 255)
        assert torch.allclose(test.x, 1 - torch.tensor(last[::-1].copy()).permute(0, 3, 1, 2).float() / 255)
        assert train.y is not None
        assert test.y is not None
        assert (train.y.tolist(), test.y.tolist()) == ([0, 1, 2], [3, 2, 1, 0])
    assert cifar10.called(tmp_path, 4) == "CIFAR-10, first 4 test images"
    np.savez(tmp_path / "cifar10.npz", x_train=last[:, :8], y_train=y, x_test=last, y_test=y)
    with pytest.raises(ValueError, match=r"expected x_train of shape .*, got \(4, 8, 32, 3\)"):
        cifar10.load(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebooks(notebook: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    NotebookClient(nbformat.read(notebook, as_version=4), timeout=900).execute(cwd=str(ROOT))
