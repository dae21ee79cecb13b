"""docs/evaluation.md names what there is."""

from __future__ import annotations

import re
from pathlib import Path

from art_ext.evaluation import SUITES, Knowledge
from art_ext.evaluation.blocks import BLOCK
from art_ext.evaluation.inspect import LOOKED_AT
from art_ext.evaluation.inspect.identity import CLOSE
from art_ext.evaluation.judge.attacks import WHITE
from art_ext.evaluation.judge.checks import CHECKS
from art_ext.evaluation.judge.headline import COST, FEW, UNMOVED
from art_ext.evaluation.judge.models import DEAD, FALSE_SLOPE, MODEL_CHECKS
from art_ext.evaluation.report import Refusal
from art_ext.evaluation.run.unit_test import SHARE
from art_ext.evaluation.settings import UNIT_TESTS

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


def test_thresholds_are_those_of_the_code() -> None:
    checks = table("## Checks")
    said = {
        "one image at a time": "1e-3 of their range",
        "zero gradient": f"from {100 * DEAD:g} %",
        "finite differences": f"more than {100 * FALSE_SLOPE:g} %",
        "attack unit test": f"on {UNIT_TESTS} images where that costs less than a tenth",
        "clean accuracy cost": f"above {100 * COST:g} points",
        "attack moves": f"from {100 * UNMOVED:g} %, and {FEW} images",
    }
    assert all(text in checks[name] for name, text in said.items()), said
    assert (CLOSE, SHARE) == (1e-3, 0.1)
    assert f"block is {BLOCK} images" in TEXT
    assert f"on the first {LOOKED_AT} images" in TEXT
    assert f"settings: {', '.join(SUITES[:-1])} or {SUITES[-1]}" in TEXT
    assert set(WHITE) == {"full", "bpda", "adaptive", "undefended"}
