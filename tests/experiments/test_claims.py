"""The table of claims: verdicts by their rules, from answers that are written down here."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from art_ext import presets
from art_ext.evaluation import Cell, Report
from experiments.cifar10 import NATIVE, OFFICIAL, confirmed
from experiments.claims import (
    COLUMNS,
    FAILS,
    HOLDS,
    OPEN,
    Claim,
    caught,
    claims,
    detected,
    gap,
    hybrids,
    of_presets,
    reaches,
    worst,
)
from experiments.render import IN_ORDER, module

GAP = gap("weak", ("M", "PGD-9, blind"), ("A", "PGD-9"))
FORTY = "1" * 40


def cell(model: str, attack: str, knowledge: str, correct: str, threat: str = "") -> Cell:
    return Cell(model, attack, knowledge, (tuple(c == "1" for c in correct),), threat=threat)


def saved(folder: Path, name: str, *cells: Cell) -> None:
    Report({"norm": "Linf", "eps": 0.1}, cells, (), (), {}).save(folder / f"{name}.json")


def written(folder: Path, name: str, found: object) -> None:
    (folder / f"{name}.json").write_text(json.dumps(found), "utf-8")


@pytest.mark.parametrize(
    ("ours", "theirs", "least", "verdict"),
    [
        (FORTY, "0" * 40, 0.0, HOLDS),
        ("0" * 40, FORTY, 0.0, FAILS),
        (FORTY, FORTY, 0.0, OPEN),
        ("1" * 20 + "0" * 20, "1" * 19 + "0" * 21, 0.0, OPEN),  # one image more
        ("1" * 19 + "0" * 21, "1" * 20 + "0" * 20, 0.0, OPEN),
        (FORTY, FORTY, -0.2, HOLDS),  # nothing is lost, surely no fifth of all
        ("0" * 20 + "1" * 20, FORTY, -0.2, FAILS),
    ],
)
def test_one_keeps_more_than_another(tmp_path: Path, ours: str, theirs: str, least: float, verdict: str) -> None:
    saved(
        tmp_path, "weak", cell("M", "PGD-9", "blind", ours), cell("M", "PGD-9", "full", "0" * 40),
        cell("A", "PGD-9", "undefended", theirs),
    )  # fmt: skip
    found, said = gap("weak", ("M", "PGD-9, blind"), ("A", "PGD-9"), least).found(tmp_path)
    assert said == verdict
    assert found.startswith(f"{100 * ours.count('1') / 40:.1f} against {100 * theirs.count('1') / 40:.1f} %: ")
    assert found.endswith("n=40")
    with pytest.raises(ValueError, match="neither or one"):
        gap("weak", ("M", "PGD-10"), ("A", "PGD-9")).found(tmp_path)


def test_worst_cases_are_over_all_attacks_inside_the_ball_of_all_reports(tmp_path: Path) -> None:
    half = "10" * 20
    saved(tmp_path, "one", cell("M", "PGD", "full", half), cell("A", "PGD", "undefended", FORTY + FORTY))
    saved(
        tmp_path, "two", cell("M", "APGD", "bpda", "01" * 20), cell("M", "StAdv", "full", "0" * 40, threat="flow"),
        cell("A", "APGD", "undefended", FORTY), cell("A", "StAdv", "undefended", "0" * 40, threat="flow"),
    )  # fmt: skip
    found, verdict = worst(("one", "two"), "M", "A").found(tmp_path)
    assert found.startswith("0.0 against 100.0 %: -100.0 [")
    assert found.endswith("n=40")
    assert verdict == FAILS
    assert worst(("one",), "M", "A").found(tmp_path)[0].startswith("50.0 against 100.0 %")


@pytest.mark.parametrize(("share", "n", "verdict"), [(0.95, 1000, HOLDS), (0.5, 1000, FAILS), (0.85, 20, OPEN)])
def test_an_accuracy_reaches_nine_tenths_of_the_papers(tmp_path: Path, share: float, n: int, verdict: str) -> None:
    written(tmp_path, "top", {"share": share, "n": n})
    found, said = reaches("top", lambda f: (f["share"], f["n"]), 0.95).found(tmp_path)
    assert said == verdict
    assert found.startswith(f"{100 * share:.1f} % [")


@pytest.mark.parametrize(
    ("lows", "verdict"), [((0.1, 0.1, -0.1), HOLDS), ((-0.1, -0.1, 0.1), OPEN), ((-0.9, -0.9, 0.1), FAILS)]
)
def test_detectors_are_better_where_most_cells_of_the_papers_attack_are(
    tmp_path: Path, lows: tuple[float, ...], verdict: str
) -> None:
    metrics = {"TNR at 95 % TPR": [0.0, 0.0, 0.0, 200]}
    rows = [
        {"detector": "KD", "protocol": "paper", "target": "own", "attack": str(i),
         "difference": {**metrics, "AUC": [low + 0.2, low, low + 0.4, 200]}}
        for i, low in enumerate(lows)
    ]  # fmt: skip
    rows += [{**rows[0], **other} for other in ({"detector": "MD"}, {"protocol": "all"}, {"target": "x"})]
    written(tmp_path, "detection", {"rows": rows})
    found, said = detected("detection", "KD").found(tmp_path)
    assert said == verdict
    assert "of 3 cells" in found


def test_a_detector_is_surely_better_after_holm(tmp_path: Path) -> None:
    """Each of three cells is above 0 at 5 % by itself (p = 0.029), none of them is where three are looked at."""
    gap = {"AUC": [0.1, 0.01, 0.19, 200]}
    rows = [{"detector": "KD", "protocol": "paper", "target": "own", "attack": k, "difference": gap} for k in "abc"]
    written(tmp_path, "detection", {"rows": rows})
    assert detected("detection", "KD").found(tmp_path)[1] == OPEN
    written(tmp_path, "detection", {"rows": rows[:1]})
    assert detected("detection", "KD").found(tmp_path)[1] == HOLDS


@pytest.mark.parametrize(("ours", "verdict"), [("0" * 40, HOLDS), (FORTY, FAILS), ("01" * 20, OPEN)])
def test_what_detectors_stop_of_attackers_who_know_them(tmp_path: Path, ours: str, verdict: str) -> None:
    """`broken` are images that got through; another detector and other attackers do not count."""
    theirs = {"0" * 40: FORTY, FORTY: "0" * 40}.get(ours, ours)
    rows = [
        {"detector": detector, "system": system,
         "broken": {"joint loss": [False] * 40, "any of them": [c == "1" for c in through]}}
        for detector, system, through in (("KD", "x", theirs), ("KD", "R(x)", ours), ("MD", "R(x)", theirs))
    ]  # fmt: skip
    written(tmp_path, "detection", {"adaptive": rows})
    found, said = caught("detection", "KD").found(tmp_path)
    assert said == verdict
    assert f"{100 * (1 - ours.count('1') / 40):.1f} against" in found
    assert "n=40" in found


def test_hybrids(tmp_path: Path) -> None:
    right = {"z_s' + z_i": FORTY, "z_s + z_i'": "0" * 40}
    for rows, verdict in ((right, HOLDS), ({k: right[j] for k, j in zip(right, reversed(right), strict=True)}, FAILS)):
        written(
            tmp_path, "hybrid", {"rows": [{"hybrid": k, "correct": [c == "1" for c in v]} for k, v in rows.items()]}
        )
        assert hybrids("hybrid").found(tmp_path)[1] == verdict


def test_figures_of_presets_are_apart_or_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    measured = {"n": 1000, "high": 0.9, "low": 0.1, "near": 0.89}
    monkeypatch.setattr(presets, "describe", lambda _: SimpleNamespace(measured=measured))
    for ours, theirs, least, verdict in (
        ("high", "low", 0.0, HOLDS), ("low", "high", 0.0, FAILS), ("high", "near", 0.0, OPEN),
        ("near", "high", -0.1, HOLDS), ("high", "low", 0.9, FAILS),
    ):  # fmt: skip
        found, said = of_presets(("a", ours), ("b", theirs), least).found(tmp_path)
        assert said == verdict
        assert found.startswith(f"{100 * measured[ours]:.1f} % [")
        assert found.endswith("n=1000")


def test_what_was_not_run_is_said(tmp_path: Path) -> None:
    rows = {"M": (Claim("it does", "1 %", GAP, worst(("other",), "M", "A")), Claim("so", "2 %", "no network", ""))}
    saved(tmp_path, "weak", cell("M", "PGD-9", "blind", FORTY), cell("A", "PGD-9", "undefended", "0" * 40))
    lines = claims(tmp_path, rows).splitlines()
    assert lines[0] == "| " + " | ".join(COLUMNS) + " |"
    assert lines[2].endswith("| holds | not run yet | not measured here |")
    assert lines[3] == "| M | so | 2 % | no network | not measured here |  |  |"


def test_every_paper_has_claims() -> None:
    assert all(module(paper).CLAIMS for paper in IN_ORDER)


def test_both_kinds_of_autoattack_are_compared_on_the_images_that_both_saw() -> None:
    mine = cell("M", NATIVE, "undefended", "11010"), cell("A", NATIVE, "undefended", "1")
    theirs = cell("M", OFFICIAL, "undefended", "1000")
    reports = [Report({"norm": "Linf", "eps": 0.1}, cells, (), (), {}) for cells in (mine, (theirs,))]
    rows = confirmed(*reports).splitlines()[2:]
    assert len(rows) == 1
    found = [entry.split()[0] for entry in rows[0].strip("| ").split(" | ")]
    assert found == ["M", "75.0", "25.0", "+50.0", "2"]
