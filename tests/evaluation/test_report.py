"""Reports: numbers by hand, exact round trips, and every figure recomputed from the JSON."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import jsonschema
import pytest

from art_ext import evaluation
from art_ext.evaluation import Cell, Knowledge, ModelInfo, Report, Tag, Verdict, paired_difference, save_page, wilson
from art_ext.evaluation.inspect import Fingerprint
from art_ext.evaluation.report import Refusal, page
from art_ext.evaluation.statistics import clopper_pearson, surely_more

T, F = True, False
ROOT = Path(__file__).parents[2]
RESULTS, SCHEMA = ROOT / "results", ROOT / "art_ext" / "evaluation" / "report.schema.json"


@pytest.fixture
def report() -> Report:
    cells = (
        Cell("bare", "clean", "none", ((T, T, T, F),)),
        Cell("m", "clean", "none", ((T, T, T, F), (T, T, F, F))),
        Cell("bare", "PGD", Knowledge.UNDEFENDED.value, ((F, F, F, F),), "native", {"steps": 3, "eot_samples": 1}, 1.5),
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
    assert report.cell("m", "PGD", "blind").accuracy.n == 4  # images, not images x repeats
    # Over the two images that every attack saw: the first fails in a repeat of PGD full, the second in PGD.
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
        shown = re.sub("</?span>", "", html)
        assert all(entry in shown for entry in entries[1:] if entry)
        assert all(entry in report.markdown() for entry in entries[1:])
    save_page(report, tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text("utf-8").startswith("<!doctype html>")


def test_mean_worst_and_majority_by_hand() -> None:
    # Images over four repeats: right in 4, 3, 2 and 0 of them.
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
    few = Cell("m", "autoattack rand", "full", ((T, F),), "autoattack")
    found = Report(plain.threat, (*plain.cells, few), (), (), {}).robustbench("m")
    # Of the two images that AutoAttack saw, four clean answers of four are right; the first image survives all attacks.
    assert (found["clean_acc"], found["autoattack_acc"], found["n"]) == (100.0, 50.0, 2)


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


def test_reports_of_schema_1_and_2_are_read() -> None:
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
    attacked = {"model": "m", "attack": "PGD", "knowledge": "own", "correct": ["10"], "probe": "base, draws",
                "parameters": {"draws": 4}}  # fmt: skip
    facts = {"randomised": {"m": True}, "defended": ["m"], "classes": 3}
    two = old | {"schema": 2, "cells": [attacked], "probes": [attacked], "provenance": facts}
    read = Report.from_json(json.dumps(two))
    assert read.cells[0].knowledge == "adaptive"
    assert read.probes[0].tags == {Tag.BASE, Tag.EOT_SAMPLES}
    assert read.probes[0].parameters == {"eot_samples": 4}
    info = read.info("m")
    assert (info.random, info.defended, info.robust, info.classes, info.fingerprint) == (True, True, False, 3, None)
    assert Report.from_json(read.to_json()) == read


@pytest.mark.parametrize("name", sorted(p.name for p in RESULTS.glob("*_white.json")))
def test_committed_reports_are_read_and_written_again(name: str) -> None:
    report = Report.load(RESULTS / name)
    again = Report.from_json(report.to_json())
    assert again == report
    assert again.markdown() == report.markdown()
    jsonschema.validate(json.loads(report.to_json()), json.loads(SCHEMA.read_text("utf-8")))


def test_damaged_reports_are_named(report: Report) -> None:
    for text in ("[]", "{}", '{"schema": 4}', '{"schema": true}'):
        with pytest.raises(ValueError, match="schema 1, 2, 3"):
            Report.from_json(text)
    whole = json.loads(report.to_json())
    cell = {"model": "m", "attack": "a", "knowledge": "full"}
    damages: list[dict[str, object]] = [
        {"cells": None}, {"cells": [cell | {"correct": ["1"], "more": 1}]}, {"checks": [{"check": "c"}]}, {"more": 1},
        {"cells": [cell | {"predicted": ["01"]}]},  # classes of images that have no label
    ]  # fmt: skip
    for damage in damages:
        with pytest.raises(ValueError, match="got a damaged one"):
            Report.from_json(json.dumps(whole | damage))
    with pytest.raises(ValueError, match="as JSON, got a damaged one"):
        Report.from_json(report.to_json()[:-9])


@pytest.mark.parametrize("classes", [4, 36, 37, 1000])
def test_classes_make_the_round_trip(classes: int) -> None:
    labels = (0, classes - 1, 1, 2)
    answers = ((0, classes - 1, -1, 2), (0, -1, 1, 0))
    right = tuple(tuple(a == b for a, b in zip(row, labels, strict=True)) for row in answers)
    part = Cell("m", "PGD", "full", ((F, T, F),), predicted=((-1, 2, 0),), indices=(0, 3, 2), skipped=(0,),
                hits=((F, F, T),), tags=frozenset({Tag.BASE, Tag.EPS}))  # fmt: skip
    none = Cell("m", "none of the shard", "full", ((), ()), predicted=((), ()))
    refused = Cell("m", "bad", "bpda", (), refused="RuntimeError: no", refusal=Refusal.ERROR)
    by_hand = Cell("m", "by hand", "full", ((T, T, T, T),), predicted=((3, 3, 3, 3),))  # flags of their own
    numbers = Fingerprint((0, -1), ((0.5, math.inf), (math.nan, -math.inf)))
    info = ModelInfo("m", classes, fingerprint=numbers, slopes=(math.nan, 0.25))
    cells = (Cell("m", "clean", "none", right, predicted=answers), part, none, refused, by_hand)
    report = Report({"norm": "Linf", "eps": 0.1}, cells, (), (), {"data": {"far": math.inf}}, (), (info,), labels)
    text = report.to_json()
    json.loads(text, parse_constant=pytest.fail)  # neither NaN nor Infinity: other readers have no such words
    read = Report.from_json(text)
    assert read == report
    assert read.cells == cells
    assert math.isnan(read.info("m").fingerprint.logits[1][0])  # type: ignore[union-attr]
    assert read.provenance["data"]["far"] == math.inf
    written = json.loads(text)["cells"]
    assert ["correct" in c for c in written] == [False, False, False, True, True]
    assert isinstance(written[0]["predicted"][0], str) == (classes <= 36)
    assert report != Report(report.threat, cells, (), (), {}, (), (info,), labels)


def test_old_spellings_of_cells_are_taken() -> None:
    with pytest.warns(DeprecationWarning, match="probe of Cell"):
        cell = Cell("m", "PGD", "own", ((T,),), parameters={"draws": 4}, probe="base, draws")  # type: ignore[call-arg]
    assert cell.tags == {Tag.BASE, Tag.EOT_SAMPLES}
    assert cell.probe == "base, draws"
    assert (cell.knowledge, cell.parameters) == ("adaptive", {"eot_samples": 4})
    report = Report({}, (Cell("m", "clean", "none", ((T,),)), cell), (), (), {})
    assert report.cell("m", "PGD", "own") is report.cell("m", "PGD", "adaptive")
    assert report.worst_case("m", "own").mean == 1
    with pytest.warns(DeprecationWarning, match="repeat_table"):
        assert report.redraw_table() == report.repeat_table()


def test_an_attack_that_is_called_clean_counts() -> None:
    cells = (Cell("m", "clean", "none", ((T, T),)), Cell("m", "clean", "full", ((F, T),)))
    report = Report({"norm": "Linf", "eps": 0.1}, cells, (), (), {})
    assert report.worst_case("m").mean == 0.5
    assert [row[2].split(" %")[0] for row in report.table()[1]] == ["100.0", "50.0"]


def test_a_shard_without_images_has_a_page() -> None:
    cells = (Cell("m", "clean", "none", ((),)), Cell("m", "PGD", "full", ((),)),
             Cell("m", "bad", "full", (), refused="out", refusal=Refusal.OUT_OF_MEMORY))  # fmt: skip
    report = Report({"norm": "Linf", "eps": 0.1}, cells, (), (), {})
    assert "<b>m</b>: no images." in page(report)
    assert "refused" in report.markdown()
    with pytest.raises(ValueError, match="at least one image"):
        report.robustbench("m")


def test_the_headline_compares_the_same_images(report: Report) -> None:
    # AutoAttack saw two images: of four clean answers to them four are right, of all eight five.
    html = page(report)
    assert "<b>m</b>: 100.0 % [34.2, 100.0] n=2 of clean images, " in html
    assert "<b>0.0 % [0.0, 65.8] n=2</b> of the same images" in html
    assert "when every attack is tried on each and answered 2 times: right every time." in html


def test_exact_tests_by_hand() -> None:
    # 6 of 6 discordant images: 1 / 64 = 0.0156; 5 of 5: 1 / 32 = 0.031; 8 of 9: 10 / 512 = 0.0195.
    assert surely_more(6, 0)
    assert not surely_more(5, 0)
    assert surely_more(8, 1)
    assert not surely_more(0, 0)
    # 0 of 10: the upper end p solves (1 - p)^10 = 0.025.
    assert clopper_pearson(0, 10)[:3] == pytest.approx((0, 0, 1 - 0.025**0.1))
    with pytest.raises(ValueError, match="right=3 and n=2"):
        clopper_pearson(3, 2)


def test_curves_have_three_axes(report: Report) -> None:
    with pytest.raises(ValueError, match="restarts"):
        report.curve("m", "restarts")
    assert report.curve("m", "eps") == []


@pytest.mark.filterwarnings("error")
def test_every_name_of_the_first_version_is_still_there() -> None:
    first = {"BACKENDS", "PLANS", "Knowledge", "Probe", "Report", "merged", "paired_difference", "plan", "wilson"}
    assert first <= {name for name in evaluation.__all__ if hasattr(evaluation, name)}
    assert evaluation.PLANS == evaluation.SUITES
    threat = evaluation.Threat("Linf", 0.1)
    with pytest.warns(DeprecationWarning, match="plan is called suite now"):
        old = evaluation.plan("smoke", threat, classes=4)
    assert old == evaluation.suite("smoke", threat, classes=4)


def test_parameters_answer_to_their_old_names() -> None:
    cell = Cell("m", "a", "own", ((True,),), parameters={"draws": 3})
    assert (cell.parameters["draws"], cell.parameters.get("draws"), dict(cell.parameters)) == (3, 3, {"eot_samples": 3})
    with pytest.raises(KeyError, match="draws"):
        Cell("m", "a", "own", ((True,),)).parameters["draws"]
