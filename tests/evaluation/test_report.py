"""Reports: numbers by hand, exact round trips, and every figure recomputed from the JSON."""

from __future__ import annotations

import json
import math
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from art_ext import evaluation
from art_ext.evaluation import Cell, Knowledge, ModelInfo, Report, Tag, Verdict, paired_difference, save_page, wilson
from art_ext.evaluation.inspect import Fingerprint
from art_ext.evaluation.inspect.info import ArtGradient, BatchCheck, UnitTest
from art_ext.evaluation.report import Refusal, page
from art_ext.evaluation.report.data import Findings
from art_ext.evaluation.report.estimates import curve_over_repeats, estimate_table
from art_ext.evaluation.statistics import clopper_pearson, mcnemar

from .test_page import interval

T, F = True, False
ROOT = Path(__file__).parents[2]
PARTS = ((UnitTest, "unit_test"), (BatchCheck, "batch"), (ArtGradient, "art"), (Fingerprint, "fingerprint"))
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
    # differences 1, 0, 0, -1, 1: mean 0.2; with the added -1 and 1 the mean is 1 / 7 and the sum of squares 5, so that
    # the variance is (5 - 1 / 7) / 6 = 17 / 21; t with 6 degrees of freedom is 2.446912
    found = paired_difference([1, 1, 0, 0, 1], [0, 1, 0, 1, 0])
    assert found.mean == pytest.approx(0.2)
    assert found.high == pytest.approx(1 / 7 + 2.446912 * (17 / 21 / 7) ** 0.5, abs=1e-6)
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
    named = ("clean", "PGD", "AutoAttack <b>", "worst case, R = 1", "worst case, R = 2")
    assert [row[:2] for row in rows] == [["m", a] for a in named]
    means = [[entry.split(" %")[0] for entry in row[2:]] for row in rows]
    assert means == [
        ["75.0", "62.5", "62.5"],
        ["0.0", "62.5", "25.0"],
        ["", "", "100.0"],
        ["0.0", "62.5", "25.0"],
        ["0.0", "50.0", "0.0"],
    ]


def test_the_worst_case_of_a_part_stands_beside_the_clean_accuracy_of_that_part() -> None:
    clean = Cell("m", "clean", "none", ((T, T, F, F), (T, F, F, F)))
    whole = Cell("m", "a", "full", ((T, T, F, F), (T, F, F, F)))
    part = Cell("m", "b", "full", ((T, T), (F, T)))
    rows = {row[1]: row[2] for row in Report({}, (clean, whole, part), (), (), {}).table()[1]}
    # Right under both: image 0 in the first repeat, image 1 in the first. Clean: 3 of 4 answers, 1 of 2 images in both.
    assert rows["worst case, R = 1"] == f"{interval([0.5, 0.5])} (clean 75.0 %)"
    assert rows["worst case, R = 2"] == f"{interval([0.0, 0.0], 2)} (clean 50.0 % R=2)"
    assert rows["a"] == interval([1.0, 0.5, 0.0, 0.0], 2)
    once = [Cell(c.model, c.attack, c.knowledge, c.correct[:1]) for c in (clean, whole, part)]
    rows = {row[1]: row[2] for row in Report({}, tuple(once), (), (), {}).table()[1]}
    assert rows["worst case"] == f"{interval([1.0, 1.0])} (clean 100.0 %)"
    everywhere = Report({}, (clean, whole, Cell("m", "c", "full", whole.correct)), (), (), {})
    assert everywhere.table()[1][-1][1:] == ["worst case, R = 2", interval([1.0, 0.0, 0.0, 0.0], 2)]


def test_the_worst_case_has_the_repeats_that_all_columns_have() -> None:
    cells = (
        Cell("bare", "clean", "none", ((T, T),)),
        Cell("m", "clean", "none", ((T, T),) * 3),
        Cell("bare", "a", "undefended", ((T, F),)),
        Cell("m", "a", "blind", ((T, T), (T, F))),
        Cell("m", "b", "full", ((T, T), (T, F), (F, F))),
    )
    rows = {row[1]: row[2:] for row in Report({}, cells, (), (), {}).table()[1]}
    assert rows["worst case, R = 1"] == [interval([1.0, 0.0]), interval([1.0, 0.5]), interval([2 / 3, 1 / 3])]
    # Of the three pairs of repeats one is right twice on image 0, none on image 1.
    assert rows["worst case, R = 2"] == [interval([1.0, 0.0]), interval([1.0, 0.0], 2), interval([1 / 3, 0.0], 2)]


def test_a_row_of_a_sequence_says_what_is_left_and_no_mean() -> None:
    # The first attack breaks image 2 in both repeats, so that it is skipped, and image 1 in one of them.
    cells = (
        Cell("m", "clean", "none", ((T, T, T, T), (T, T, T, T))),
        Cell("m", "a", "full", ((T, T, F), (T, F, F))),
        Cell("m", "bent", "full", ((F, F, F, F), (F, F, F, F)), threat="StAdv bound 0.05"),
        Cell("m", "b", "blind", ((F, F, F, F), (F, F, F, F))),
        Cell("m", "b", "full", ((T, T, F, T), (T, T, F, T)), skipped=(2,)),
        Cell("m", "c", "full", ((F, F, F, F), (F, F, F, F)), skipped=(1, 2)),
    )
    report = Report({"norm": "Linf", "eps": 0.1}, cells, (), (), {})
    header, rows = report.table()
    found = {row[1]: row[header.index("full")] for row in rows}
    assert found["a"] == interval([1.0, 0.5, 0.0], 2)
    assert found["b"] == f"{interval([1.0, 0.0, 0.0, 1.0], 2)} (left after the sequence)"
    again = {tuple(row[1:3]): row[3:] for row in report.repeat_table()[1]}
    assert again["b", "full"] == ["", found["b"], ""]
    assert again["b", "blind"][0] == interval([0.0] * 4, 2)
    assert found["b"] in report.markdown()


def test_the_repeat_table_says_how_it_votes() -> None:
    # Image 0: right in both; image 1: in one, and two classes have one vote each; image 2: in none.
    right, said = ((T, T, F), (T, F, F)), ((0, 1, 2), (0, 3, 2))
    known = Cell("m", "PGD", "full", right, predicted=said)
    old = Cell("m", "PGD", "blind", right)
    fixed = Cell("m", "FGSM", "full", right[:1])
    report = Report({}, (known, fixed), (), (), {})
    header, rows = report.repeat_table()
    assert header == ["model", "attack", "knowledge", "mean", "right in every repeat", "vote (plurality)"]
    plain = [interval([1.0, 0.5, 0.0], 2), interval([1.0, 0.0, 0.0], 2)]
    assert rows == [["m", "PGD", "full", *plain, interval([1.0, 0.5, 0.0], 2)]]
    header, rows = Report({}, (old,), (), (), {}).repeat_table()
    assert header[-1] == "vote (absolute majority, classes are unknown)"
    assert rows[0][-1] == interval([1.0, 0.0, 0.0], 2)
    assert "absolute majority where classes are unknown" in Report({}, (old, known), (), (), {}).repeat_table()[0][-1]


def test_the_curve_over_repeats_by_hand() -> None:
    # Right in 3, 2, 1 and 0 of three repeats. Pairs of repeats that are both right: 3, 1, 0 and 0 of three.
    three = ((T, T, T, F), (T, T, F, F), (T, F, F, F))
    cells = (
        Cell("random", "a", "full", three),
        Cell("twice", "a", "full", ((T, F), (F, F))),
        Cell("fixed", "a", "full", ((T, F),)),
        *(Cell(m, "clean", "none", three) for m in ("random", "twice", "fixed", "clean only")),
    )
    report = Report({"norm": "Linf", "eps": 0.1}, cells, (), (), {})
    header, rows = curve_over_repeats(report)
    assert header == ["model", "R = 1", "R = 2", "R = 3"]
    at_two = interval([1.0, 1 / 3, 0.0, 0.0], 2)
    assert rows[0] == ["random", interval([1.0, 2 / 3, 1 / 3, 0.0]), at_two, interval([1.0, 0.0, 0.0, 0.0], 3)]
    assert rows[1] == ["twice", interval([0.5, 0.0]), interval([0.0, 0.0], 2), ""]
    assert len(rows) == 2
    assert "falls without limit" in report.markdown()
    many = Report({}, (Cell("m", "a", "full", ((T,),) * 11),), (), (), {})
    assert curve_over_repeats(many)[0] == ["model", "R = 1", "R = 2", "R = 3", "R = 5", "R = 10"]


def test_the_estimate_for_all_images_by_hand() -> None:
    def cell(attack: str, part: int, rest: int, n: int, **facts: Any) -> Cell:
        """Right on so many of the first 20 images, and of the others up to n."""
        return Cell("m", attack, "full", (tuple(i < part or 20 <= i < 20 + rest for i in range(n)),), **facts)

    clean = Cell("m", "clean", "none", ((T,) * 80,))
    dear = (cell("AutoAttack", 8, 0, 20), cell("mid", 9, 0, 40))
    cheap = (cell("weak", 20, 60, 80), cell("PGD", 10, 30, 80), cell("late", 15, 0, 80))
    off = (cell("sequence", 0, 0, 80, skipped=(1,)), cell("StAdv", 0, 0, 80, threat="bound 0.05"))
    report = Report({"norm": "Linf", "eps": 0.1}, (clean, *dear, *cheap, off[1]), (), (), {})
    header, rows = estimate_table(report)
    assert header == ["model", "knowledge", "worst case on m", "estimated on N", "with the help of"]
    # PGD leaves 40 of 80 and 10 of 20, where the worst case leaves 8: 50 - 10 %. The differences are two of -1 and 18
    # of 0, with the added -1 and 1 of variance (4 - 4 / 22) / 21; the worst case is 8 of 20, with the added ones of
    # variance (10 - 100 / 24) / 23. t with 21 degrees of freedom is 2.0796:
    # 2.0796 * sqrt(0.1818 * (1 / 20 - 1 / 80) + 0.2536 / 80) = 0.2078
    worst = interval([1.0] * 8 + [0.0] * 12)
    assert rows == [["m", "full", worst, "40.0 % [19.2, 60.8] n=80", "PGD"]]
    assert "Estimated for all images" in page(report)
    assert "Estimated for all images" in report.markdown()
    assert estimate_table(Report({}, (*dear, off[0]), (), (), {}))[1][0][-1] == "mid"
    equal = Report({"norm": "Linf", "eps": 0.1}, (clean, *cheap), (), (), {})
    assert estimate_table(equal)[1] == []
    assert "Estimated" not in page(equal)


def test_the_estimate_is_at_one_repeat() -> None:
    # Of two images one is right in one of two repeats under the dear attack; the cheap one leaves half of all answers.
    cells = (
        Cell("m", "dear", "full", ((T, F), (F, F))),
        Cell("m", "cheap", "full", ((T, F, T, F), (F, T, F, T))),
    )
    ((_, _, worst, estimate, _),) = estimate_table(Report({}, cells, (), (), {}))[1]
    assert worst == interval([0.5, 0.0])
    assert estimate.startswith("25.0 % ")  # 0.5 + ((0.5 - 0.5) + (0 - 0.5)) / 2


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


@pytest.mark.parametrize("name", sorted(p.name for p in RESULTS.glob("*.json") if '"cells"' in p.read_text("utf-8")))
def test_committed_reports_are_of_the_schema(name: str) -> None:
    report = Report.load(RESULTS / name)
    jsonschema.validate(json.loads(report.to_json()), json.loads(SCHEMA.read_text("utf-8")))


@pytest.mark.parametrize(
    ("kind", "at"),
    [
        (Findings, ()), (Cell, ("$defs", "cell")), (Verdict, ("properties", "checks", "items")),
        (ModelInfo, ("$defs", "model")), *((kind, ("$defs", "model", "properties", name)) for kind, name in PARTS),
    ],
)  # fmt: skip
def test_the_schema_allows_every_field(kind: Any, at: tuple[str, ...]) -> None:
    """A field that is added to a class and not to the schema makes reports that it refuses."""
    found = json.loads(SCHEMA.read_text("utf-8"))
    for step in at:
        found = found[step]
    assert {f.name for f in fields(kind)} <= found["properties"].keys()


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
    assert f"<b>m</b>: {interval([1.0, 1.0], 2)} of clean images, " in html
    # Right under all in the first of two repeats: the first image, for AutoAttack's answers are those of both repeats.
    once = f"<b>{interval([0.5, 0.0])}</b> of the same images when every attack is tried on each and answered once"
    assert f"{once} (R = 1), <b>{interval([0.0, 0.0], 2)}</b> when answered 2 times: right every time." in html


def headline(*cells: Cell, random: bool = False) -> str:
    clean = Cell("m", "clean", "none", ((T,) * 4,))
    about = {"randomised": {"m": random}}
    html = page(Report({"norm": "Linf", "eps": 0.1}, (clean, *cells), (), (), about))
    return html.split('<div class="verdict')[1].split("The strongest ")[1].split("</div>")[0]


def test_markdown_begins_with_a_sentence_a_model_and_with_what_smoke_claims(report: Report) -> None:
    lines = report.markdown().splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == [*(f"- {model}" for model in report.models()), ""]
    assert " of the same images when every attack is tried on each. The strongest attack" in lines[0]
    stamped = replace(report, suite="smoke").markdown().splitlines()
    assert stamped[0].startswith("- The suite smoke shows that everything runs. It claims nothing")
    assert stamped[1:] == lines


def test_the_classifier_alone_stands_beside_a_randomised_model() -> None:
    """Its attack has no EOT samples, so it has another title."""
    cells = [
        Cell("bare", "clean", "none", ((True,) * 4,)), Cell("m", "clean", "none", ((True,) * 4,) * 2),
        Cell("bare", "PGD-5", "undefended", ((True, False, False, False),)),
        Cell("m", "PGD-5 + EOT-4", "full", ((True, True, False, False),) * 2),
        Cell("m", "PGD-5 from bare", "transfer", ((True, True, False, True),) * 2),
    ]  # fmt: skip
    both = (ModelInfo("bare", classifier="a"), ModelInfo("m", defended=True, classifier="a"))
    report = Report({"norm": "Linf", "eps": 0.1}, tuple(cells), (), (), {}, inspected=both)
    header, rows = report.table()
    shown = {row[1]: row[header.index("bare classifier")] for row in rows}
    assert shown["PGD-5 + EOT-4"].startswith("25.0 %")
    assert not shown["PGD-5 from bare"]


def test_the_headline_says_what_it_stands_on() -> None:
    weak = Cell("m", "PGD", "blind", ((T, T, F, T),), parameters={"steps": 9, "eot_samples": 2})
    strong = Cell("m", "APGD", "full", ((T, F, F),), parameters={"steps": 7, "eot_samples": 20}, steps=100)
    assert headline(weak, strong) == "attack was APGD (full), 100 steps."
    assert headline(weak, strong, random=True) == "attack was APGD (full), 100 steps, 20 EOT samples."
    # On the three images that both saw both leave one, whatever the first leaves of the fourth.
    less = Cell("m", "PGD", "blind", ((F, T, F, T),), parameters={"steps": 1, "eot_samples": 1})
    tied = "attacks, which leave equally many, were "
    assert headline(less, strong) == f"{tied}PGD (blind), 1 step; APGD (full), 100 steps."
    own = Cell("m", "<i>", "full", ((T, F, F, F),))
    blind = Cell("m", "Square", "full", ((T, F, F, F),), steps=0)
    assert headline(own) == "attack was &lt;i&gt; (full)."
    assert headline(blind) == "attack was Square (full), no gradient steps."
    four = [Cell("m", f"a{i}", "full", own.correct) for i in range(4)]
    assert headline(*four) == f"{tied}a0 (full); a1 (full); a2 (full); and 1 more."
    # By the mean over the repeats (4 of 8 and 5 of 8), not by what is right in both (2 and 1 of 4).
    steady = Cell("m", "a", "full", ((T, T, F, F), (T, T, F, F)), parameters={"eot_samples": 1})
    moody = Cell("m", "b", "full", ((T, T, T, F), (T, F, F, T)))
    assert headline(steady, moody) == "attack was a (full), 1 EOT sample."


def test_the_headline_of_a_sequence_names_the_attack_that_broke_the_last_image() -> None:
    first = Cell("m", "a", "full", ((T, T, F, F),))
    second = Cell("m", "b", "full", ((T, F, F, F),), skipped=(2, 3))
    third = Cell("m", "c", "full", ((T, F, F, F),), skipped=(1, 2, 3))
    assert headline(first, second, third) == "attack was b (full), on what those before it had left."


def test_steps_and_losses_make_the_round_trip() -> None:
    cells = (Cell("m", "a", "full", ((T,),), steps=0, losses=("cross_entropy", "dlr")), Cell("m", "b", "full", ((T,),)))
    report = Report({"norm": "Linf", "eps": 0.1}, cells, (), (), {}, probes=cells[:1])
    data = json.loads(report.to_json())
    assert data["cells"][0]["losses"] == ["cross_entropy", "dlr"]
    assert data["cells"][1].keys().isdisjoint({"steps", "losses"})  # so do older reports
    jsonschema.validate(data, json.loads(SCHEMA.read_text("utf-8")))
    read = Report.from_json(report.to_json())
    assert read.cells == cells
    assert read.probes == cells[:1]


def test_exact_tests_by_hand() -> None:
    # 6 of 6 discordant images: 1 / 64 = 0.0156; 5 of 5: 1 / 32 = 0.031; 8 of 9: 10 / 512 = 0.0195.
    assert mcnemar(6, 0) == pytest.approx(0.5**6)
    assert mcnemar(5, 0) == pytest.approx(0.5**5)
    assert mcnemar(8, 1) == pytest.approx(10 * 0.5**9)
    assert mcnemar(0, 0) == 1
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
