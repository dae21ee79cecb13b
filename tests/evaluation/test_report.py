"""Reports: numbers by hand, exact round trips, and every figure recomputed from the JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from art_ext.evaluation import Cell, Knowledge, Report, paired_difference, wilson
from art_ext.evaluation.page import page, save_page
from art_ext.evaluation.report import Verdict

T, F = True, False


@pytest.fixture
def report() -> Report:
    cells = (
        Cell("bare", "clean", "none", ((T, T, T, F),)),
        Cell("m", "clean", "none", ((T, T, T, F), (T, T, F, F))),
        Cell("bare", "PGD", Knowledge.UNDEFENDED.value, ((F, F, F, F),), "native", {"steps": 3, "draws": 1}, 1.5),
        Cell("m", "PGD", "blind", ((T, F, T, F), (T, T, T, F)), "native", {"steps": 3}, 0.0),
        Cell("m", "PGD", "full", ((T, F, F, F), (F, F, T, F)), "native", {"steps": 3}, 2.0),
        Cell("m", "AutoAttack <b>", "full", ((T, T),), "autoattack", {}, 2.0),
    )
    checks = (Verdict("gives logits", "m", "fail", "outputs & <script>"),)
    return Report({"norm": "Linf", "eps": 0.1}, cells, checks, ("L2 attacks",), {"seed": 0, "versions": {"torch": "2"}})


def test_wilson_by_hand() -> None:
    # n = 512 at 50 %: centre 0.5, half width
    # 1.96 * sqrt(0.25 / 512 + 1.96^2 / (4 * 512^2)) / (1 + 1.96^2 / 512) = 0.0431
    found = wilson(0.5, 512)
    assert found.low == pytest.approx(0.457, abs=5e-4)
    assert found.high == pytest.approx(0.543, abs=5e-4)
    # 0 of 10: 0 to z^2 / (n + z^2) = 3.8415 / 13.8415
    assert wilson(0, 10)[:3] == pytest.approx((0, 0, 0.27753), abs=1e-5)
    assert wilson(1, 10)[:3] == pytest.approx((1, 0.72247, 1), abs=1e-5)
    with pytest.raises(ValueError, match="n=0"):
        wilson(0.5, 0)
    with pytest.raises(ValueError, match=r"mean=1\.1"):
        wilson(1.1, 4)


def test_paired_difference_by_hand() -> None:
    # differences 1, 0, 0, -1, 1: mean 0.2, sample variance (0.64 + 0.04 + 0.04 + 1.44 + 0.64) / 4 = 0.7
    found = paired_difference([1, 1, 0, 0, 1], [0, 1, 0, 1, 0])
    assert found.mean == pytest.approx(0.2)
    assert found.high - found.mean == pytest.approx(1.959964 * (0.7 / 5) ** 0.5, abs=1e-6)
    with pytest.raises(ValueError, match="2 and 1"):
        paired_difference([1, 1], [1])


def test_numbers_by_hand(report: Report) -> None:
    assert report.cell("m", "PGD", "blind").survived == [1, 0.5, 1, 0]
    assert report.cell("m", "PGD", "blind").accuracy.mean == 0.625
    assert report.cell("m", "PGD", "blind").accuracy.n == 4  # images, not images x redraws
    # Over the two images that every attack saw: the first fails in a redraw of PGD full, the second in PGD.
    assert report.worst_case("m")[::3] == (0, 2)
    assert report.worst_case("m", "blind")[::3] == (0.5, 4)
    assert report.worst_case("m", "full")[::3] == (0, 2)
    assert report.undefended() == "bare"
    with pytest.raises(ValueError, match="nobody"):
        report.worst_case("nobody")
    with pytest.raises(ValueError, match="clean"):
        report.cell("m", "PGD", "bpda")


def test_worst_case_is_per_example() -> None:
    # Each attack leaves half of the images, but not the same half.
    cells = [
        Cell("m", "clean", "none", ((T, T),)),
        Cell("m", "a", "full", ((T, F),)),
        Cell("m", "b", "full", ((F, T),)),
    ]
    assert Report({}, tuple(cells), (), (), {}).worst_case("m").mean == 0


def test_json_round_trip_is_exact(report: Report, tmp_path: Path) -> None:
    assert Report.from_json(report.to_json()) == report
    report.save(tmp_path / "new" / "report.json")
    assert Report.from_json((tmp_path / "new" / "report.json").read_text()) == report
    other = json.dumps(json.loads(report.to_json()) | {"schema": 99})
    with pytest.raises(ValueError, match="got 99"):
        Report.from_json(other)


def test_table_puts_everything_in_its_place(report: Report) -> None:
    header, rows = report.table()
    assert header == ["model", "attack", "bare classifier", "blind", "full"]
    assert [row[:2] for row in rows] == [["m", a] for a in ("clean", "PGD", "AutoAttack <b>", "worst case")]
    means = [[entry.split(" %")[0] for entry in row[2:]] for row in rows]
    assert means == [
        ["75.0", "62.5", "62.5"],
        ["0.0", "62.5", "25.0"],
        ["", "", "100.0"],
        ["0.0", "50.0", "0.0"],
    ]


def test_page_and_markdown_escape_and_stand_alone(report: Report, tmp_path: Path) -> None:
    html = page(report, {"A picture": b"\x89PNG"})
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert not re.search(r"(src|href)=\"(?!data:)", html)
    for _, *entries in report.table()[1]:
        assert all(entry in html for entry in entries[1:] if entry)
        assert all(entry in report.markdown() for entry in entries[1:])
    save_page(report, tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text("utf-8").startswith("<!doctype html>")


def test_mean_worst_and_majority_by_hand() -> None:
    # Images over four redraws: right in 4, 3, 2 and 0 of them.
    cell = Cell("m", "PGD", "full", ((T, T, T, F), (T, T, F, F), (T, T, T, F), (T, F, F, F)))
    assert cell.accuracy.mean == pytest.approx((1 + 0.75 + 0.5 + 0) / 4)
    assert cell.worst.mean == 0.25
    assert cell.majority.mean == 0.5  # two of four is no majority
    assert cell.success is None
    aimed = Cell("m", "PGD", "full", ((F, F),), hits=((T, F),))
    assert aimed.success is not None
    assert aimed.success.mean == 0.5


def test_robustbench_entry(report: Report) -> None:
    plain = Report(report.threat | {"eps": 8 / 255}, report.cells, (), (), {"randomised": {"bare": False, "m": True}})
    auto = Cell("bare", "autoattack standard", "undefended", ((T, F, F, F),), "autoattack")
    both = Report(plain.threat, (*plain.cells, auto), (), (), plain.provenance)
    entry = both.robustbench("bare")
    assert entry == {"clean_acc": 75.0, "autoattack_acc": 25.0, "eps": "8/255", "n": 4, "unreliable": False}
    assert both.robustbench("m")["unreliable"]
    assert report.robustbench("bare")["eps"] == "0.1"
    assert report.robustbench("bare")["autoattack_acc"] is None


def test_what_does_not_count_does_not_count() -> None:
    cells = (
        Cell("m", "clean", "none", ((T, T),)),
        Cell("m", "PGD", "full", ((T, F),)),
        Cell("m", "StAdv", "full", ((F, F),), threat="StAdv bound 0.05"),
        Cell("m", "cheat", "full", (), refused="left the ball"),
    )
    report = Report({"norm": "Linf", "eps": 0.1}, cells, (), (), {})
    assert report.worst_case("m").mean == 0.5
    rows = {row[1]: row[2] for row in report.table()[1]}
    assert rows["StAdv"].startswith("0.0 %")
    assert rows["cheat"] == "refused"
    assert "worst case" not in rows  # of a single attack that counts
    assert Report.from_json(report.to_json()) == report


def test_reports_of_schema_1_are_read(report: Report) -> None:
    old = {
        "schema": 1,
        "threat": {"norm": "Linf", "eps": 0.1},
        "cells": [{"model": "m", "attack": "clean", "knowledge": "none", "correct": [[True, False]], "backend": "",
                   "parameters": {}, "seconds": 0.0}],
        "checks": [{"check": "c", "model": "m", "verdict": "pass", "detail": ""}],
        "not_tested": ["x"],
        "provenance": {"seed": 0},
    }  # fmt: skip
    read = Report.from_json(json.dumps(old))
    assert read.cells[0].correct == ((T, F),)
    assert Report.from_json(read.to_json()) == read
    for text in ("[]", "{}", '{"schema": 3}'):
        with pytest.raises(ValueError, match="schema 1 or 2"):
            Report.from_json(text)


def test_curves_have_three_axes(report: Report) -> None:
    with pytest.raises(ValueError, match="restarts"):
        report.curve("m", "restarts")
    assert report.curve("m", "eps") == []
