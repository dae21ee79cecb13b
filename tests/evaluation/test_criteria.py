"""Criteria are decided beforehand and judged on the lower end of the interval."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from art_ext.evaluation import Attack, Cell, Defended, Report, Threat, Verdict, evaluate, mean_interval
from art_ext.evaluation.report.criteria import FIGURES, Criterion, given_criteria, met, needed, outcomes

from .conftest import Blur, Problem


def made(right: int, n: int, *, repeats: int = 1, **changes: Any) -> Report:
    """A report on one model that is right on all clean images, and attacked on so many."""
    row = (True,) * right + (False,) * (n - right)
    cells = (Cell("m", "clean", "none", ((True,) * n,)), Cell("m", "PGD", "full", (row,) * repeats, backend="native"))
    return replace(Report({"norm": "Linf", "eps": 0.1}, cells, (), (), {}), **changes)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("worst_case >= 0.40", Criterion("worst_case", 0.4)),
        (" clean>=90% ", Criterion("clean", 0.9)),
        ("worst_case_once of my RDP >= 1", Criterion("worst_case_once", 1.0, "my RDP")),
        ("clean >= 0.123456789", Criterion("clean", 0.123456789)),  # no digit is lost on the way
        ("clean >= 0.00001", Criterion("clean", 1e-5)),
    ],
)
def test_a_criterion_says_what_it_says(text: str, expected: Criterion) -> None:
    assert Criterion.parse(text) == expected
    assert Criterion.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    ["", "worst_case", "worst_case > 0.4", "worst_case >= 1.1", "worst_case >= 101 %", "robust >= 0.4", "clean >= ."],
)
def test_what_is_no_criterion_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a"):
        Criterion.parse(text)


@pytest.mark.parametrize("given", ["clean >= 0.5", [0.5]])
def test_a_single_text_or_a_number_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match="expected"):
        given_criteria(given)


def test_the_interval_decides_and_not_the_mean() -> None:
    """300 of 512 are 58.6 %, and at least 54.3 % for sure."""
    low = mean_interval([1.0] * 300 + [0.0] * 212).low
    assert 0.5 < low < 300 / 512
    for bound, expected in [
        (0.5, "met"),
        (low, "met"),
        (low + 1e-9, "not shown"),
        (300 / 512, "not shown"),
        (0.7, "not met"),
    ]:
        report = made(300, 512, required=(str(Criterion("worst_case", 0.0)),))
        (outcome,) = outcomes(replace(report, required=(f"worst_case >= {bound!r}",)))
        assert outcome.outcome == expected, bound
        assert met(replace(report, required=(f"worst_case >= {bound!r}",))) is (expected == "met")


def test_it_is_said_what_would_have_shown_it() -> None:
    share = needed(512, 0.5)
    assert share is not None
    k = round(512 * share)
    assert mean_interval([1.0] * k + [0.0] * (512 - k)).low >= 0.5
    assert mean_interval([1.0] * (k - 1) + [0.0] * (513 - k)).low < 0.5
    assert (
        f"{100 * share:.1f} % would have shown it"
        in outcomes(made(260, 512, required=("worst_case >= 0.5",)))[0].detail
    )
    assert needed(8, 0.99) is None
    assert "no share of so few images" in outcomes(made(8, 8, required=("worst_case >= 0.99",)))[0].detail


def test_nothing_is_met_where_a_check_failed_or_the_suite_claims_nothing() -> None:
    good = made(500, 500, required=("worst_case >= 0.5",))
    assert met(good)
    failed = replace(good, checks=(Verdict("attack moves", "m", "fail", "it did not"),))
    assert [(o.outcome, "attack moves" in o.detail) for o in outcomes(failed)] == [("not met", True)]
    assert outcomes(replace(good, suite="smoke"))[0].outcome == "not shown"
    assert outcomes(replace(good, suite="smoke", cells=made(9, 500).cells))[0].outcome == "not met"  # a loss is one
    assert met(replace(good, checks=(Verdict("attack moves", "another", "fail", "it did not"),)))


def test_nothing_is_met_without_an_attack_that_counts() -> None:
    bare = replace(made(9, 9), cells=made(9, 9).cells[:1], required=("worst_case >= 0.1", "clean >= 0.1"))
    assert [o.outcome for o in outcomes(bare)] == ["not met", "met"]
    assert outcomes(replace(bare, required=("clean of other >= 0.1",)))[0].outcome == "not met"


def test_the_worst_case_counts_every_repeat_unless_it_is_asked_once() -> None:
    rows = ((True,) * 400 + (False,) * 100, (False,) * 100 + (True,) * 400)
    cells = (Cell("m", "clean", "none", ((True,) * 500,) * 2), Cell("m", "PGD", "full", rows, backend="native"))
    report = Report({"norm": "Linf", "eps": 0.1}, cells, (), (), {})
    assert FIGURES["worst_case"](report, "m").mean == 0.6
    assert FIGURES["worst_case_once"](report, "m").mean == 0.8


def test_a_folder_keeps_the_criteria_that_it_was_begun_with(problem: Problem, tmp_path: Path) -> None:
    classifier: nn.Module = problem.classifier
    models = [Defended("bare", classifier), Defended("blur", classifier, Blur())]

    def run(*require: str) -> Report:
        return evaluate(
            models, [Attack("native", "FGSM")], problem.x, problem.y, threat=Threat("Linf", 0.04), probe=None,
            folder=tmp_path / "out", require=require, progress=False,
        )  # fmt: skip

    first = run("worst_case >= 40 %")
    assert first.required == ("worst_case >= 0.4",)
    assert [o.model for o in outcomes(first)] == ["blur"]  # of the defended one
    assert Report.from_json(first.to_json()) == first
    with pytest.raises(ValueError, match="criteria"):
        run("worst_case >= 0.1")
    with pytest.raises(ValueError, match="criteria"):
        run()
    assert run("worst_case >= 0.40", "worst_case>=40%").required == first.required
