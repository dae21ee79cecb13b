"""The head of the results page: which cells its figures come from, and on how many images they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from art_ext.evaluation import Cell, Report
from experiments.claims import Row, overview

ROW = Row(
    "a method", "pixels", "PGD on the bare classifier", "weak", "native PGD-9, blind", ("strong",), "M", ("B", "A")
)


def cell(model: str, attack: str, knowledge: str, *correct: str, threat: str = "") -> Cell:
    rows = tuple(tuple(c == "1" for c in row) for row in correct)
    return Cell(model, attack, knowledge, rows, threat=threat)


def saved(folder: Path, name: str, *cells: Cell) -> None:
    Report({"norm": "L2", "eps": 1.5}, cells, (), (), {}).save(folder / f"{name}.json")


SIX = ("11111110", "11111101", "11111111", "11111111", "11111111", "11111111")
"""Of eight images the last two are wrong in one redraw each."""


def weak(folder: Path) -> None:
    saved(
        folder,
        "weak",
        cell("M", "clean", "none", *SIX),
        cell("M", "native PGD-9", "blind", *["11110000"] * 3, *["11110010"] * 3),
        cell("A", "clean", "none", "11111111"),
        cell("A", "native PGD-9", "undefended", "11111000"),
        cell("B", "native PGD-9", "undefended", "10000001"),  # only one of the first five or six, if more of all
    )


def shown(folder: Path) -> dict[str, str]:
    lines = overview(folder, (ROW,)).splitlines()
    header, _, row = (line.strip("|").split(" | ") for line in lines if line.startswith("|"))
    return dict(zip((h.strip() for h in header), (e.strip() for e in row), strict=True))


@pytest.mark.parametrize(
    ("beside", "n", "once", "often", "left"),
    # M keeps image 0 in all six redraws, 1 and 2 in three of them. A keeps 1 to 4; B image 0.
    [("01111111", 6, "33.3", "16.7", "66.7"), ("01111", 5, "40.0", "20.0", "80.0")],
)
def test_a_row_has_the_papers_attacker_and_beside_it_the_worst_of_all_on_the_same_images(
    tmp_path: Path, beside: str, n: int, once: str, often: str, left: str
) -> None:
    weak(tmp_path)
    saved(
        tmp_path,
        "strong",
        cell("M", "clean", "none", *["11111110"] * 6),
        cell("M", "PGD + EOT-20", "full", *["101011", "110011"] * 3),
        cell("M", "StAdv-9", "full", *["000000"] * 6, threat="flow"),  # has a bound of its own
        cell("A", "PGD", "undefended", beside),
    )
    found = shown(tmp_path)
    assert found["data"] == "pixels, L2 1.5"
    # 6 images and 5 of 6 redraws of two others; all five of five redraws are right in 1 of 6 sets.
    for column, value, end in (
        ("clean", "95.8", "n=8 R=6"),
        ("clean, R = 5", "79.2", "n=8 R=5"),
        ("leaves", "56.2", "n=8 R=6"),
        ("worst case, R = 1", once, f"n={n}"),
        ("worst case, R = 5", often, f"n={n} R=5"),
        ("clean on these images", "100.0", f"n={n} R=6"),
    ):
        assert found[column].startswith(f"{value} % [")
        assert found[column].endswith(end)
    # Neither of the two is left out, whichever is the better one.
    of_b, of_a = found["adversarially trained, worst case"].split("; ")
    assert of_a.startswith(f"A: {left} % [")
    assert of_a.endswith(f"n={n}")
    assert of_b.startswith(f"B: {100 / n:.1f} % [")


def test_estimates_of_the_method_and_of_the_ones_beside_are_of_the_same_images(tmp_path: Path) -> None:
    saved(
        tmp_path,
        "weak",
        cell("M", "clean", "none", "11111111"),
        cell("M", "native PGD-9", "blind", "11110000"),
        cell("M", "PGD", "full", "110001"),
        cell("A", "clean", "none", "11111111"),
        cell("A", "native PGD-9", "undefended", "11001000"),
        cell("B", "native PGD-9", "undefended", "10000001"),
    )
    saved(
        tmp_path,
        "strong",
        cell("M", "AutoAttack", "full", "100"),
        cell("A", "AutoAttack", "undefended", "1100"),
        cell("B", "AutoAttack", "undefended", "1000"),
    )
    found = shown(tmp_path)
    # M: three of the six under PGD, and PGD leaves one more of the first three than all do. A: 3/6, no difference; over
    # its own eight it would be 3/8. B: 1/6.
    names = ("worst case at R = 1, estimated for more images", "adversarially trained, estimated for the same images")
    ours, theirs = (found[name] for name in names)
    assert ours.startswith("16.7 % [")
    assert ours.endswith("n=6")
    of_b, of_a = theirs.split("; ")
    assert of_b.startswith("B: 16.7 % [")
    assert of_a.startswith("A: 50.0 % [")
    assert {of_a[-3:], of_b[-3:]} == {"n=6"}
    assert found["worst case, R = 1"].startswith("33.3 % [")
    assert found["worst case, R = 1"].endswith("n=3")


def test_a_row_waits_for_all_of_its_reports(tmp_path: Path) -> None:
    weak(tmp_path)
    assert overview(tmp_path, (ROW,)) == ""


def test_an_attack_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    saved(tmp_path, "weak", cell("M", "clean", "none", "11"), cell("M", "native PGD-9", "full", "10"))
    saved(tmp_path, "strong")
    with pytest.raises(ValueError, match=r"expected M under native PGD-9, blind in weak\.json"):
        overview(tmp_path, (ROW,))
