"""What `art-ext report` prints is what the report's tables hold."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from art_ext.evaluation import Cell, Report
from art_ext.evaluation.report.tables import more_tables

T, F = True, False


@pytest.fixture
def report() -> Report:
    cells = (
        Cell("m", "clean", "none", ((T, T, T, T), (T, T, T, F))),
        Cell("m", "dear", "full", ((T, F), (T, F)), steps=9),
        Cell("m", "cheap", "full", ((T, F, T, F), (F, F, T, F))),
        Cell("m", "bad", "full", (), refused="RuntimeError: no"),
    )
    return Report({"norm": "Linf", "eps": 0.1}, cells, (), (), {})


def test_the_terminal_shows_the_numbers_of_the_tables(
    call: Any, report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "220")
    report.save(tmp_path / "report.json")
    shown = call("report", tmp_path / "report.json", "--out", tmp_path / "out").stdout
    titles = [title for title, _, _ in more_tables(report)]
    assert titles == [
        "Randomised models, answered again", "Worst case over repeats", "Estimated for all images",
        "Attacks that do not count",
    ]  # fmt: skip
    for title, (header, rows) in [("", report.table()), *((title, found) for title, found, _ in more_tables(report))]:
        assert title in shown
        for row in [header, *rows]:
            cells = [cell for cell in row if cell]
            assert any(all(cell in line for cell in cells) for line in shown.splitlines()), row
    written = (tmp_path / "out" / "report.md").read_text("utf-8")
    assert all(cell in written for _, (_, rows), _ in more_tables(report) for row in rows for cell in row)


def test_figures_go_to_a_logger(call: Any, refused: Any, report: Report, tmp_path: Path) -> None:
    file, out = tmp_path / "report.json", tmp_path / "out"
    report.save(file)
    assert "logger out of csv, tensorboard, mlflow, wandb, got 'paper'" in refused(
        "report", file, "--logger", "paper", "--out", out
    )
    assert not out.exists()
    call("report", file, "--logger", "csv", "--out", out)
    with (out / "logs" / "csv" / "version_0" / "metrics.csv").open() as written:
        (row,) = csv.DictReader(written)
    worst = report.worst_case("m")
    assert float(row["m/worst_case/low"]) == pytest.approx(worst.low)
    assert row["step"] == "0"
