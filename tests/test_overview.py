"""The head of the results page: which cells its figures come from, and on how many images they stand."""

from __future__ import annotations

from pathlib import Path

import pytest
from overview import Row, overview

from art_ext.evaluation import Cell, Report

ROW = Row(
    "a method", "pixels", "PGD on the bare classifier", "weak", "native PGD-9, blind", ("strong",), "M", ("B", "A")
)


def cell(model: str, attack: str, knowledge: str, *correct: str, threat: str = "") -> Cell:
    rows = tuple(tuple(c == "1" for c in row) for row in correct)
    return Cell(model, attack, knowledge, rows, threat=threat)


def saved(folder: Path, name: str, *cells: Cell) -> None:
    Report({"norm": "L2", "eps": 1.5}, cells, (), (), {}).save(folder / f"{name}.json")


def weak(folder: Path) -> None:
    saved(
        folder,
        "weak",
        cell("M", "clean", "none", "11111110", "11111101"),
        cell("M", "native PGD-9", "blind", "11110000", "11110010"),
        cell("A", "clean", "none", "11111111"),
        cell("A", "native PGD-9", "undefended", "11111000"),
        cell("B", "native PGD-9", "undefended", "10000001"),  # only one of the first five or six, if more of all
    )


@pytest.mark.parametrize(
    ("beside", "n", "left", "right"),
    [("01111111", 6, "16.7", "66.7"), ("01111", 5, "20.0", "80.0")],  # image 0 alone; without it, 1 to 4
)
def test_a_row_has_the_papers_attacker_and_beside_it_the_worst_of_all_on_the_same_images(
    tmp_path: Path, beside: str, n: int, left: str, right: str
) -> None:
    weak(tmp_path)
    saved(
        tmp_path,
        "strong",
        cell("M", "clean", "none", "11111110"),
        cell("M", "PGD + EOT-20", "full", "101011", "110011"),
        cell("M", "StAdv-9", "full", "000000", threat="flow"),  # has a bound of its own
        cell("A", "PGD", "undefended", beside),
    )
    lines = overview(tmp_path, (ROW,)).splitlines()
    header, _, row = (line.strip("|").split(" | ") for line in lines if line.startswith("|"))
    found = dict(zip((h.strip() for h in header), (e.strip() for e in row), strict=True))
    assert found["data"] == "pixels, L2 1.5"
    assert found["clean"].startswith("87.5 % [")
    assert found["clean"].endswith("n=8")
    assert found["clean, every redraw"].startswith("75.0 % [")
    assert found["leaves"].startswith("56.2 % [")
    assert found["leaves"].endswith("n=8")
    for column, value in (("worst case", left), ("adversarially trained, worst case", right)):
        assert found[column].startswith(f"{value} % [")
        assert found[column].endswith(f"n={n}")


def test_a_row_waits_for_all_of_its_reports(tmp_path: Path) -> None:
    weak(tmp_path)
    assert overview(tmp_path, (ROW,)) == ""


def test_an_attack_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    saved(tmp_path, "weak", cell("M", "clean", "none", "11"), cell("M", "native PGD-9", "full", "10"))
    saved(tmp_path, "strong")
    with pytest.raises(ValueError, match=r"expected M under native PGD-9, blind in weak\.json"):
        overview(tmp_path, (ROW,))
