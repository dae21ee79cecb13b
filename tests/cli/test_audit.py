"""Criteria decide an exit code; verify finds a changed digit; compare puts reports side by side."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from art_ext.evaluation import Report
from art_ext.evaluation.report import compare

QUICK = ("--attack", "native:FGSM", "--knowledge", "blind", "--eps", 0.02, "--device", "cpu", "--eot-samples", 2)


@pytest.fixture(scope="module")
def command(files: Any) -> tuple[Any, ...]:
    models = ("--classifier", files.spec("make"), "--purifier", files.rdp)
    return ("evaluate", *models, "--data", files.npz, *QUICK)


@pytest.fixture(scope="module")
def done(call: Any, command: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation with a criterion that is met, texts and every export."""
    root = tmp_path_factory.mktemp("audit")
    (root / "about.toml").write_text('system = "Halves <b>"\nresponsible = "the tests"\n')
    out: Path = root / "out"
    shown = call(
        *command, "--out", out, "--require", "clean >= 0.001", "--about", root / "about.toml",
        "--export", "csv, latex,junit,sarif",
    ).stdout  # fmt: skip
    assert "What the defence had to reach" in shown
    return out


def test_what_was_asked_for_is_there(done: Path) -> None:
    report = Report.load(done / "report.json")
    assert report.required == ("clean >= 0.001",)
    assert report.about == {"system": "Halves <b>", "responsible": "the tests"}
    assert {"report.csv", "report.tex", "report.junit.xml", "report.sarif", "manifest.json"} <= {
        p.name for p in done.iterdir()
    }
    page = (done / "report.html").read_text("utf-8")
    assert "Halves &lt;b&gt;" in page
    assert page.index("clean &gt;= 0.001") < page.index(str(report.clean("rdp").accuracy)[:6])  # before the numbers


def test_a_criterion_that_is_not_met_ends_with_four(call: Any, command: Any, tmp_path: Path) -> None:
    """Twelve images cannot show 99 %."""
    shown = call(*command, "--out", tmp_path / "out", "--require", "worst_case >= 0.99", code=None)
    assert shown.exit_code == 4
    assert "a criterion of --require is not met" in shown.stderr
    assert "not met" in shown.stdout or "not shown" in shown.stdout


def test_verify_finds_a_changed_digit(call: Any, done: Path, tmp_path: Path) -> None:
    assert "every number follows from the answers" in call("verify", done).stdout
    copy = Path(shutil.copytree(done, tmp_path / "copy"))
    text = (copy / "report.md").read_text("utf-8")
    at = text.index(" %") - 1
    (copy / "report.md").write_text(text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :], "utf-8")
    shown = call("verify", copy, code=3).stdout
    assert "does not fit: report.md is not what manifest.json lists" in shown
    assert "does not fit: report.md does not follow from the answers" in shown


def test_compare_prints_what_python_gives(
    call: Any, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "240")
    copy = Path(shutil.copytree(done, tmp_path / "copy"))
    shown = call("compare", done, copy / "report.json", "--out", tmp_path / "compared.md").stdout
    reports = {"out": Report.load(done / "report.json"), "copy": Report.load(copy / "report.json")}
    for _, rows in (compare.side_by_side(reports), compare.differences(reports)):
        assert rows
        for row in rows:
            assert any(all(cell in line for cell in row) for line in shown.splitlines()), row
    assert (tmp_path / "compared.md").read_text("utf-8") == compare.markdown(reports)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--require", "robust >= 0.4"), "expected a criterion such as"),
        (("--export", "pdf"), "expected exports out of csv, latex, junit, sarif"),
        (("--about", "missing.toml"), "expected --about as a TOML file"),
    ],
)
def test_refused_before_anything_is_written(
    refused: Any, command: Any, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    assert message in refused(*command, "--out", tmp_path / "out", *words)
    assert not (tmp_path / "out").exists()


def test_what_is_no_folder_of_reports_is_refused(refused: Any, done: Path, tmp_path: Path) -> None:
    assert "no manifest.json" in refused("verify", tmp_path)
    assert "expected each report once" in refused("compare", done, done / "report.json")
    assert "expected one model to compare with" in refused("compare", done, "--against", "nothing")
    (tmp_path / "about.toml").write_text("purpose = 3\n")
    words = ("evaluate", "--classifier", "fashion_mnist_cnn", "--data", "fashion_mnist", "--out", tmp_path / "out")
    assert "expected texts" in refused(*words, "--about", tmp_path / "about.toml")
