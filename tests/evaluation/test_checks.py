"""Planted faults, each caught by its check and by none on an honest control."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from art_ext.evaluation import Attack, Cell, Defended, Knowledge, Report, Threat, checks, evaluate
from art_ext.purifiers import Purifier

from .conftest import Blur, Problem

THREAT = Threat("Linf", 0.2)


class Forgets(Blur):
    """A purifier under `no_grad`: attackers get no gradient."""

    name = "forgets"

    def purify(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return super().purify(x)


class Saturates(Blur):
    """Most pixels end up beyond the clamp."""

    name = "saturates"

    def purify(self, x: Tensor) -> Tensor:
        return (super().purify(x) - 0.5) * 1e6 + 0.5


class Probabilities(nn.Module):
    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(x).softmax(1)


def verdicts(problem: Problem, purifier: Purifier, classifier: nn.Module | None = None) -> dict[str, str]:
    model = Defended("m", classifier or problem.classifier, purifier)
    report = evaluate([model], [], problem.x, problem.y, threat=THREAT, progress=False)
    return {v.check: v.verdict for v in report.checks}


def test_an_honest_control_passes(problem: Problem) -> None:
    found = verdicts(problem, Blur())
    assert found == {
        "gives logits": "pass",
        "randomness": "pass",
        "zero gradient": "pass",
        "gradient through ART": "pass",
        "black-box not stronger": "not run",
    }


@pytest.mark.parametrize("planted", [Forgets(), Saturates()], ids=lambda p: p.name)
def test_zero_gradients_fail(planted: Purifier, problem: Problem) -> None:
    assert verdicts(problem, planted)["zero gradient"] == "fail"


def test_probabilities_fail(problem: Problem) -> None:
    assert verdicts(problem, Blur(), Probabilities(problem.classifier))["gives logits"] == "fail"


def test_a_gradient_that_art_does_not_see_fails(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    from art_ext.evaluation.backends import art

    honest = art.estimator

    def scaled(*args: object) -> object:
        classifier = honest(*args)
        gradient = classifier.loss_gradient
        classifier.loss_gradient = lambda x, y: 0 * gradient(x, y)
        return classifier

    monkeypatch.setattr(art, "estimator", scaled)
    assert verdicts(problem, Blur())["gradient through ART"] == "fail"


def report_of(*cells: Cell) -> Report:
    return Report({"norm": "Linf", "eps": 0.1}, cells, (), (), {})


def cell(knowledge: Knowledge, right: int, of: int = 40, model: str = "m") -> Cell:
    return Cell(model, "a", knowledge.value, (tuple(i < right for i in range(of)),))


@pytest.mark.parametrize(("blind", "full", "verdict"), [(30, 5, "pass"), (5, 30, "fail"), (20, 20, "pass")])
def test_black_box_stronger_than_white_box_fails(blind: int, full: int, verdict: str) -> None:
    report = report_of(cell(Knowledge.BLIND, blind), cell(Knowledge.FULL, full))
    assert checks.black_box_weaker(report, "m").verdict == verdict


@pytest.mark.parametrize(("left", "verdict"), [(0, "pass"), (2, "pass"), (3, "warn"), (5, "fail")])
def test_undefended_must_break(left: int, verdict: str) -> None:
    assert checks.undefended_breaks(report_of(cell(Knowledge.UNDEFENDED, left)), "m").verdict == verdict


def test_an_attack_that_does_nothing_fails_the_undefended_check(problem: Problem) -> None:
    attack = Attack("native", "PGD", {"steps": 0, "random_start": False})
    bare = Defended("bare", problem.classifier)
    report = evaluate([bare], [attack], problem.x, problem.y, threat=THREAT, progress=False)
    assert {v.check: v.verdict for v in report.checks}["undefended breaks"] == "fail"
