"""README blocks and examples run as a reader would run them, at a small scale."""

from __future__ import annotations

import argparse
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

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
    """With random images in place of CIFAR-10's, which do not ship."""
    folder = tmp_path / "data" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    rows = torch.randint(0, 256, (2, 3073), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    rows[:, 0] %= 10
    (folder / "test_batch.bin").write_bytes(rows.numpy().tobytes())
    few = ("--images", 4, "--steps", 2, "--draws", 2, "--queries", 5, "--workers", 1)
    out = run("01_quickstart.py", *few, "--cifar10", tmp_path / "data", "--out", tmp_path)
    coloured = Report.load(tmp_path / "cifar10.json")
    assert (coloured.models(), len(coloured.labels)) == (["undefended", "adversarially trained", "RDP"], 1)
    check_every_number(coloured, (tmp_path / "cifar10.html").read_text("utf-8"))
    assert "CIFAR-10, the first 1 test images:" in out
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
    pictures = ("images.png", "accuracy.png", "curves.png", "repeats.png", "cifar10.png")
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    told = re.findall(r"[\w0-9]+\.(?:json|html|png)", out.split("written to ")[1])
    assert sorted(told) == sorted(p.name for p in tmp_path.iterdir() if p.is_file())


def test_quickstart_without_cifar10_says_where_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = runpy.run_path(str(ROOT / "examples" / "01_quickstart.py"))
    assert script["on_cifar10"](argparse.Namespace(images=4, cifar10=tmp_path)) == []
    assert re.match(r"no table for CIFAR-10: expected .*kriz/cifar\.html", capsys.readouterr().out)


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


@pytest.mark.slow
@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebooks(notebook: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    NotebookClient(nbformat.read(notebook, as_version=4), timeout=900).execute(cwd=str(ROOT))
