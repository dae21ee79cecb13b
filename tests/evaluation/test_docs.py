"""docs/evaluation.md names what there is."""

from __future__ import annotations

import re
from pathlib import Path

from art_ext.evaluation import SUITES, Knowledge
from art_ext.evaluation.binarisation import LEAST
from art_ext.evaluation.blocks import BLOCK
from art_ext.evaluation.inspect import LOOKED_AT
from art_ext.evaluation.inspect.gradients import JUMPS, POINTS, SLOPES
from art_ext.evaluation.inspect.identity import CLOSE
from art_ext.evaluation.judge import strength, sweeps
from art_ext.evaluation.judge.attacks import DROPPED, FEW, SOME_DROPPED, UNMOVED
from art_ext.evaluation.judge.checks import CHECKS
from art_ext.evaluation.judge.headline import COST
from art_ext.evaluation.judge.models import DEAD, FALSE, FALSE_EXCLUDED, FALSE_SLOPE, FOUND, MODEL_CHECKS, SOME_DEAD
from art_ext.evaluation.judge.rules import FAIL, HIDDEN, MARGIN, WARN
from art_ext.evaluation.report import Refusal
from art_ext.evaluation.run.unit_test import SHARE, STRONG
from art_ext.evaluation.settings import UNIT_TESTS, Probe
from art_ext.evaluation.statistics import gain_excluded, least_shown

PAGE = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text("utf-8")
TEXT = PAGE.replace("\n", " ")
NUMBERS = {8: "eight", 9: "nine", 10: "ten", 11: "eleven", 12: "twelve", 13: "thirteen"}


def table(title: str) -> dict[str, str]:
    """The rows below a heading by their first entry."""
    blocks = PAGE.split(title)[1].split("\n\n")
    rows = next(block for block in blocks if block.startswith("|")).splitlines()[2:]
    return {re.split(r" *\| *", row)[1]: row for row in rows}


def test_every_check_is_described_once() -> None:
    assert list(table("## Checks")) == [*MODEL_CHECKS, *CHECKS]
    assert f"The first {NUMBERS[len(MODEL_CHECKS)]} look at the model" in TEXT


def test_every_knowledge_is_described() -> None:
    assert list(table("## Who the attacker is")) == [k.value for k in Knowledge]


def test_every_kind_of_refusal_is_described() -> None:
    kinds = {kind.value for kind in Refusal} - {""}
    assert set(table("## What is refused, and what costs a row")) == kinds


def points(share: float) -> str:
    return f"{100 * share:g}"


def test_thresholds_are_those_of_the_code() -> None:
    checks = table("## Checks")
    strong = STRONG.parameters
    said = {
        "one image at a time": ["1e-3 of their range"],
        "zero gradient": [f"| surely above {points(SOME_DEAD)} % | surely above {points(DEAD)} %"],
        "finite differences": [f"more than {points(FALSE_SLOPE)} %", f"by more than {points(JUMPS)} %",
                               f"{POINTS} points", f"on {SLOPES} images",
                               f"| surely false on more than {points(FALSE)} % | surely false on more than",
                               f"a pass excludes {points(FALSE_EXCLUDED)} %"],
        "attack unit test": [f"on {UNIT_TESTS} images where that costs less than a tenth", "surely find two thirds",
                             f"surely find fewer than {points(LEAST)} %", f"APGD-{strong['steps']} with five restarts"],
        "clean accuracy cost": [f"above {points(COST)} points"],
        "attack moves": [f"from {points(UNMOVED)} %, and {FEW} images"],
        "attack effort": [f"at least {strength.STEPS} steps", f"at least {strength.SAMPLES} EOT samples",
                          f"fewer than {strength.LOSSES}"],
        "a stronger attack was there": [f"{points(MARGIN)} points more are not excluded"],
        "silent success": [f"| surely above {points(SOME_DROPPED)} % | surely above {points(DROPPED)} %"],
        "undefended breaks": [f"| surely above {points(strength.BROKEN)} % | surely above {points(strength.LEFT)} %",
                              f"a pass excludes {points(strength.LEFT)} %"],
        "reaches chance": [f"| surely above {points(sweeps.WORKS)} % | surely above {points(sweeps.STUCK)} %",
                           f"a pass excludes {points(sweeps.STUCK)} %"],
        "converged": [f"{points(MARGIN)} points more are not excluded"],
        "seeds": [f"{points(MARGIN)} points more are not excluded"],
    }  # fmt: skip
    assert {name: [t for t in texts if t not in checks[name]] for name, texts in said.items()} == {k: [] for k in said}
    assert (CLOSE, SHARE, FOUND, strong["restarts"]) == (1e-3, 0.1, 2 / 3, 5)
    assert f"block is {BLOCK} images" in TEXT
    assert f"on the first {LOOKED_AT} images" in TEXT
    assert f"settings: {', '.join(SUITES[:-1])} or {SUITES[-1]}" in TEXT
    assert set(strength.WHITE) == {"full", "bpda", "adaptive", "undefended"}


def test_error_rates_are_those_of_the_code() -> None:
    assert f"{points(FAIL)} % in the column fail and of {points(WARN)} % in the column warn" in TEXT
    assert f"*asked attacks* and *clean accuracy* fail at {points(WARN)} %" in TEXT
    assert f"one-sided {points(1 - HIDDEN)} %, which is a gain of {points(MARGIN)} points" in TEXT
    assert gain_excluded(0, 0, 59, HIDDEN) <= MARGIN < gain_excluded(0, 0, 58, HIDDEN)
    assert "no gain is a pass from 59 images on" in TEXT
    assert least_shown(120, WARN) == MARGIN == 6 / 120
    assert "6 images that only one attack breaks are surely more, which is 5 points of 120" in TEXT
    assert f"the default probe has {Probe().images}" in TEXT
