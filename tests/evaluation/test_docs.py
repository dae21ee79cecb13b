"""docs/evaluation.md names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from art_ext.evaluation import Defended, Knowledge, Threat
from art_ext.evaluation.checks import attack_unit_test, look
from art_ext.evaluation.verdicts import CHECKS

from .conftest import Blur, Problem

TEXT = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text("utf-8")


def first_column(title: str) -> list[str]:
    table = TEXT.split(title)[1].split("\n\n")
    rows = next(block for block in table if block.startswith("|")).splitlines()[2:]
    return [re.split(r" *\| *", row)[1] for row in rows]


def test_every_check_is_described_once(problem: Problem) -> None:
    model = Defended("m", problem.classifier, Blur())
    threat = Threat("Linf", 0.1)
    looks = [v.check for v in look(model, problem.x, problem.y, threat, random=False)]
    looks.append(attack_unit_test(model, problem.x, threat, 5, random=False).check)
    assert first_column("## Checks") == [*looks, *CHECKS]
    assert torch.is_grad_enabled()


def test_every_knowledge_is_described() -> None:
    assert first_column("## Who the attacker is") == [k.value for k in Knowledge]
