"""Worst cases in the tables, by hand: at one redraw and at five, on the same images, and estimated for more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from art_ext.evaluation import Cell, Report
from art_ext.evaluation.report import several
from experiments import atop, page
from tests.experiments.made import cell, rows


def drawn(model: str, attack: str, knowledge: str, *correct: str, **more: object) -> Cell:
    """A cell of several redraws, one string each."""
    return Cell(model, attack, knowledge, tuple(tuple(c == "1" for c in row) for row in correct), **more)  # type: ignore[arg-type]


def report(*cells: Cell) -> Report:
    return Report({"norm": "Linf", "eps": 0.1}, cells, (), (), {})


# Of three images the first is right in all of six redraws, the second in five of them, wrong in the first under both
# attacks, and the third under both attacks in the third redraw alone.
CLEAN = drawn("d", "clean", "none", "111", "111", "111", "111", "111", "110")
PGD = drawn("d", "native PGD-9 + EOT-20", "full", "101", "111", "111", "110", "110", "110")
FGSM = drawn("d", "native FGSM", "blind", "100", "110", "111", "111", "111", "111")
STATIC = [cell("s", "clean", "none", "111"), cell("s", "native PGD-9", "undefended", "110")]
COLUMNS = {"PGD": ("native PGD-9",), "FGSM": ("native FGSM, blind",)}


def test_a_randomised_model_stands_at_one_redraw_and_at_five() -> None:
    both = [report(CLEAN, PGD, *STATIC), report(CLEAN, FGSM)]
    text = several.table(both, COLUMNS, {"d": both, "s": both[:1]})
    found = rows(text)
    assert found["model"] == ["clean", "clean, R = 5", "PGD", "FGSM", "worst case, R = 1", "worst case, R = 5"]
    # Clean: 1, 1 and 5 of 6, of which 1 of 6 sets of five is all right. The worst case: 6, 5 and 1 of 6 redraws right
    # under both attacks, of which all, 1 and none of the 6 sets of five are all right.
    assert found["d"] == ["94.4", "72.2", "77.8", "83.3", "66.7", "38.9"]
    assert found["s"] == ["100.0", "100.0", "66.7", "", "66.7", "66.7"]
    (of_d,) = (line for line in text.splitlines() if line.startswith("| d "))
    assert [entry.rpartition("n=3")[2].strip() for entry in of_d.strip("| ").split(" | ")[1:]] == [
        "R=6", "R=5", "R=6", "R=6", "", "R=5",
    ]  # fmt: skip


def test_the_worst_case_by_redraws_and_its_differences() -> None:
    other = [drawn("e", *c, "100", "100", "100", "100", "100", "100") for c in (("clean", "none"), ("PGD", "full"))]
    reports = [report(CLEAN, PGD, FGSM, *other)]
    found = rows(atop.curves(reports, ["d", "e", "nobody"]))
    assert found["model"] == ["R = 1", "R = 2", "R = 3", "R = 5"]  # nothing tells of ten
    # Pairs of six: 15, 10 and 0 of 15 all right; triples: 20, 10 and 0 of 20.
    assert found["d, worst case"] == ["66.7", "55.6", "50.0", "38.9"]
    assert found["d, no attack"] == ["94.4", "88.9", "83.3", "72.2"]
    assert list(found) == ["model", "---", *(f"{m}, {what}" for m in "de" for what in ("no attack", "worst case"))]
    apart = rows(atop.differences(reports, [("d", "e"), ("d", "nobody")]))
    assert [e.split(" [")[0] for e in apart["d minus e, worst case"]] == ["+33.3", "+22.2", "+16.7", "+5.6"]
    assert [e.split(" [")[0] for e in apart["d minus e, no attack"]] == ["+61.1", "+55.6", "+50.0", "+38.9"]
    assert len(apart) == 4


def test_who_is_best_may_depend_on_the_redraws() -> None:
    # f keeps two of three images in each redraw, but not the same ones: d leads where more than one have to be right.
    swapped = ("110", "101", "110", "101", "110", "011")
    f = [drawn("f", *c, *swapped) for c in (("clean", "none"), ("PGD", "full"))]
    d = [CLEAN, drawn("d", "PGD", "full", "1100", "1000", "1000", "1000", "1100", "1100")]
    told = atop.remains([report(*d, *f, *STATIC)], ["d", "f"], "s")
    # Of the first three images, d: 1, 3/6, 0 at R = 1 and 1, 0, 0 at R = 5; f: 5/6, 4/6, 3/6 and 1/6, 0, 0.
    assert "at R = 1 f is the best of them with 66.7 % [" in told
    assert ", 16.7 points [" in told
    assert "at R = 5 d is the best of them with 33.3 % [" in told
    assert ", 27.8 points [" in told
    assert told.endswith("keeps 66.7 % [7.7, 100.0] n=3 at every R.")


def test_a_worst_case_on_fewer_images_has_its_own_clean_accuracy_and_an_estimate() -> None:
    found = report(
        cell("s", "clean", "none", "111101"),
        cell("s", "FGSM", "undefended", "111101"),
        cell("s", "PGD", "undefended", "110100"),
        cell("s", "AutoAttack", "undefended", "100"),
        cell("s", "StAdv", "undefended", "0", threat="flow"),  # of another ball
        cell("d", "clean", "none", "110110"),
        cell("d", "PGD", "blind", "110110"),
        cell("d", "AutoAttack", "full", "100"),
    )
    columns = {"PGD": ("PGD", "PGD, blind"), "AutoAttack": ("AutoAttack",), "StAdv": ("StAdv",)}
    text = several.table([found], columns, {m: [found] for m in "sd"})
    assert rows(text)["model"][-3:] == [
        "worst case", "clean on these images", "worst case at R = 1, estimated for more images"
    ]  # fmt: skip
    # AutoAttack leaves 1 of 3 where PGD leaves 2; PGD leaves 3 of 6, so all together about 3/6 + (1 - 2)/3. FGSM, which
    # differs more from the worst case, would say 5/6 + (1 - 3)/3, the same.
    assert rows(text)["s"] == ["83.3", "50.0", "33.3", "0.0", "33.3", "100.0", "16.7"]
    assert rows(text)["d"] == ["66.7", "66.7", "33.3", "", "33.3", "66.7", ""]  # who saw more knows less
    assert text.count("n=3 |") == 6
    (estimate,) = (e for e in text.splitlines()[2].split(" | ") if e.startswith("16.7"))
    assert estimate.endswith("n=6 |")
    fewer = several.estimated(several.counted([found], "s"), most=4)
    assert fewer is not None
    assert (fewer.n, round(fewer.mean, 4)) == (4, round(3 / 4 - 1 / 3, 4))
    same = report(cell("s", "clean", "none", "10"), cell("s", "PGD", "undefended", "10"))
    assert rows(several.table([same], columns, {"s": [same]}))["model"] == ["clean", "PGD", "worst case"]


def test_of_attacks_that_help_the_nearest_is_taken_and_then_the_one_on_most_images() -> None:
    dear = cell("s", "AutoAttack", "undefended", "1000")
    near, far = cell("s", "PGD", "undefended", "110010"), cell("s", "FGSM", "undefended", "11111111")
    assert several.estimated([dear, far, near]) == several.estimated([dear, near])
    longer = cell("s", "CW", "undefended", "11001011")
    assert several.estimated([dear, near, longer]) == several.estimated([dear, longer])
    assert several.estimated([dear]) is None


def test_what_a_sequence_left_has_no_mean() -> None:
    # The second attack spared the image that the first had broken in every redraw.
    second = drawn("d", "native PGD-9", "full", "10", "11", "11", "11", "11", skipped=(0,))
    left = report(drawn("d", "clean", "none", *["11"] * 5), second, cell("s", "native PGD-9", "undefended", "11"))
    left = report(*left.cells, cell("s", "clean", "none", "11"))
    text = several.table([left], {"PGD": ("native PGD-9",)}, {})
    assert "left after the sequence" in text
    assert rows(text)["d"][1] == "50.0"  # right in all redraws; the mean would be 90
    assert rows(several.gains([left], [("d", "s")], {"PGD": ("native PGD-9",)}))[several.POINTS] == ["clean"]


def test_rdps_worst_cases_by_knowledge() -> None:
    found = report(
        *STATIC, CLEAN, PGD, FGSM, drawn("d", "AutoAttack", "full", *["10"] * 6), drawn("d", "X", "bpda", *["011"] * 6)
    )
    lines = [line.strip("| ").split(" | ") for line in page.by_knowledge(found).splitlines()]
    assert lines[0][:4] == ["model", "knowledge", "worst case, R = 1", "worst case, R = 5"]
    told = {(line[0], line[1]): [entry.split(" %")[0] for entry in line[2:4]] for line in lines[2:]}
    assert told == {
        ("s", "undefended"): ["66.7", "66.7"],
        ("d", "full"): ["50.0", "50.0"],  # of the two images that AutoAttack saw
        ("d", "blind"): ["83.3", "38.9"],
        ("d", "bpda"): ["66.7", "66.7"],
        ("d", "any"): ["0.0", "0.0"],
    }


def test_a_shard_is_not_held_against_other_reports() -> None:
    """Its first answers are those of other images than the others' first ones."""
    whole, shard = report(*STATIC), replace(report(*STATIC), shard=(1, 2))
    with pytest.raises(ValueError, match="got shard 1 of 2"):
        several.counted([whole, shard], "s")
    with pytest.raises(ValueError, match="got shard 1 of 2"):
        several.cell([shard, whole], "s", ("native PGD-9",))
