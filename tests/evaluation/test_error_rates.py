"""Checks on reports that are made from numbers: models without a fault do not fail, planted faults are seen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from art_ext.evaluation import Report, judge
from art_ext.evaluation.judge import strength, sweeps
from art_ext.evaluation.judge.checks import CHECKS
from art_ext.evaluation.statistics import upper
from benchmarks.statistics import error_rates, table
from benchmarks.statistics.honest import FAULTS, KINDS, honest

ROOT = Path(__file__).parents[2]
RECORD = json.loads((ROOT / "results" / "statistics.json").read_text("utf-8"))["errors"]
BOLD = 0.6
"""Share of the images with a fault that no check may miss at n = 256."""


def failing(kind: str, reports: int = 3, n: int = 128) -> int:
    """Verdicts "fail" on models without a fault."""
    made = (honest(KINDS[kind], n, np.random.default_rng((7, r))) for r in range(reports))
    return sum(v.verdict == "fail" for report in made for v in judge(report))


@pytest.mark.parametrize("kind", KINDS)
def test_models_without_a_fault_do_not_fail(kind: str) -> None:
    assert failing(kind) == 0


def test_too_loose_a_level_would_fail_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strength, "surely_stronger", lambda gains, *_, **__: ("fail" if gains[0].more else "pass", ""))
    assert failing("the same, lucky attacks") > 0


@pytest.mark.parametrize("check", FAULTS)
def test_a_bold_fault_is_seen(check: str) -> None:
    model, plant, _ = FAULTS[check]

    def said(report: Report) -> str:
        return next(v.verdict for v in judge(report, (check,)) if v.model == model)

    made = (honest(KINDS["usual"], 256, np.random.default_rng(seed)) for seed in range(20))
    report = next(report for report in made if said(report) not in ("warn", "fail"))
    assert said(plant(report, BOLD, np.random.default_rng(4))) in ("warn", "fail")


def test_the_smallest_share_is_found_by_halving() -> None:
    assert error_rates._smallest(lambda share: float(share >= 0.1)) == 0.1
    assert error_rates._smallest(lambda share: 0.79) is None
    assert error_rates._smallest(lambda share: 0.8) == error_rates.SHARES[0]


def test_the_record_is_within_the_promise() -> None:
    assert {row["n"] for row in RECORD["false_alarms"]} == set(error_rates.IMAGES)
    for row in RECORD["false_alarms"]:
        assert row["models"] == 3 * RECORD["reports"]
        assert row["upper"] == pytest.approx(upper(row["failing"], row["models"]))
        assert row["upper"] <= 0.02, row
    assert [row["check"] for row in RECORD["smallest_faults"]] == [*FAULTS]


def test_the_page_shows_the_record() -> None:
    page = (ROOT / "docs" / "evaluation.md").read_text("utf-8")
    assert table.placed(page, error_rates.tables(RECORD), "error rates") == page


def test_every_check_that_counts_has_a_fault() -> None:
    said = {
        "attacks ran", "inside the threat", "attack moves", "attack effort", "knowledge as labelled", "randomness",
        "crafting not weaker", "clean accuracy", "frozen randomness",
    }  # fmt: skip
    assert set(CHECKS) - said <= set(FAULTS), "checks that follow from counts of images"
    assert sweeps.WORKS < sweeps.STUCK
