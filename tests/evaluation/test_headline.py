"""Checks on the numbers that are claimed: each fault planted, in cells and in whole evaluations."""

from __future__ import annotations

from math import comb
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.defences import as_purifier
from art_ext.evaluation import Attack, Defended, Knowledge, Probe, Report, Threat, Verdict, evaluate, judge
from art_ext.evaluation.judge.rules import WARN
from art_ext.evaluation.report import Cell, Refusal
from art_ext.evaluation.statistics import clopper_pearson, mcnemar
from art_ext.evaluation.tags import Tag

from .conftest import Halves, Noise, Problem

THREAT = Threat("Linf", 0.2)
STILL = as_purifier(lambda x: x * 1, differentiable=True)


def said(report: Report, check: str, model: str = "m") -> Verdict:
    return next(v for v in judge(report) if (v.check, v.model) == (check, model))


def row(flags: list[bool], knowledge: str = "full", **facts: Any) -> Cell:
    return Cell("m", f"a {knowledge}", knowledge, (tuple(flags),), **facts)


def first(right: int, of: int = 128) -> list[bool]:
    return [i < right for i in range(of)]


def report_of(*cells: Cell, probes: tuple[Cell, ...] = (), labels: tuple[int, ...] = (), clean: int = 128) -> Report:
    about = {"defended": ["m"], "classes": 10, "randomised": {"m": False}}
    whole = (Cell("m", "clean", "none", (tuple(first(clean, len(labels) or 128)),)), *cells)
    return Report({"norm": "Linf", "eps": 0.1}, whole, (), (), about, probes, labels=labels)


def base(right: int) -> Cell:
    return row(first(right), tags=frozenset({Tag.BASE}))


def apgd(right: int) -> Cell:
    return row(first(right), tags=frozenset({Tag.APGD}))


# Against nobody on the other side, 6 of 6 are surely more (2^-6 = 1.6 %), 5 of 5 are not (3.1 %).
@pytest.mark.parametrize(
    ("more", "less", "sure"), [(5, 0, False), (6, 0, True), (0, 0, False), (10, 4, False), (20, 4, True)]
)
def test_the_exact_test(more: int, less: int, sure: bool) -> None:
    assert (mcnemar(more, less) <= WARN) is sure
    assert mcnemar(less, more) > WARN or less > more


# Of 128, a gain of 5 points shows 2 or fewer with 4.3 %, 3 or fewer with 11 %; 2^-5 = 3.1 %, 2^-6 = 1.6 %. Of two
# probes, 1 or none with 1.1 %, to be held against 5 % / 2; twice 2^-6 = 3.1 %, twice 2^-7 = 1.6 %.
@pytest.mark.parametrize(
    ("more", "alone", "of_two"),
    [(0, "pass", "pass"), (1, "pass", "pass"), (2, "pass", "undetermined"), (3, "undetermined", "undetermined"),
     (5, "undetermined", "undetermined"), (6, "fail", "undetermined"), (7, "fail", "fail"), (-9, "pass", "pass")],
)  # fmt: skip
def test_a_probe_that_breaks_surely_more_fails_the_asked_attacks(more: int, alone: str, of_two: str) -> None:
    asked = row(first(100))
    assert said(report_of(asked, probes=(base(100 - more),)), "asked attacks").verdict == alone
    for probes in ((base(100), apgd(100 - more)), (base(100 - more), apgd(100))):
        assert said(report_of(asked, probes=probes), "asked attacks").verdict == of_two
    other = report_of(asked, probes=(base(100), row(first(0), tags=frozenset({Tag.FGSM}))))
    assert said(other, "asked attacks").verdict == "pass"


def test_all_white_box_attacks_count_together_and_others_do_not() -> None:
    odd, even = ([i % 2 == k for i in range(128)] for k in (0, 1))
    together = report_of(row(odd), row(even, "bpda"), probes=(base(0),))
    assert said(together, "asked attacks").verdict == "pass"
    assert said(report_of(row(odd), row(even, "blind"), probes=(base(0),)), "asked attacks").verdict == "fail"


@pytest.mark.parametrize(("more", "expected"), [(0, "not run"), (5, "not run"), (6, "warn"), (20, "warn")])
def test_without_a_white_box_attack_it_warns(more: int, expected: str) -> None:
    report = report_of(row(first(100), "blind"), probes=(base(100 - more),))
    assert said(report, "asked attacks").verdict == expected


def test_without_a_probe_the_asked_attacks_were_not_judged() -> None:
    assert said(report_of(row(first(20))), "asked attacks").verdict == "not run"


@pytest.mark.parametrize(
    ("still", "unmoved", "expected"),
    [(20, 0, "pass"), (20, 9, "pass"), (20, 10, "fail"), (2, 2, "pass"), (3, 3, "fail")],
)
def test_an_attack_that_does_not_move_fails(still: int, unmoved: int, expected: str) -> None:
    cell = row(first(still), observed={"forward": 9, "still": still, "unmoved": unmoved})
    assert said(report_of(cell), "attack moves").verdict == expected


def test_an_attack_that_was_not_seen_was_not_run() -> None:
    report = report_of(row(first(20)))
    for check in ("attack moves", "silent success", "knowledge as labelled"):
        assert said(report, check).verdict == "not run", check


def test_errors_fail_by_name() -> None:
    cells = [
        Cell("m", "a", "full", (), refused="OSError: no", refusal=kind) for kind in (Refusal.ERROR, Refusal.NO_GRADIENT)
    ]
    assert said(report_of(cells[0]), "attacks ran").verdict == "fail"
    assert "OSError: no" in said(report_of(cells[0]), "attacks ran").detail
    assert said(report_of(cells[1]), "attacks ran").verdict == "pass"  # named by "zero gradient"


# Ten classes, balanced: always saying one gives 10 %. Then none of 40 would be right with 1.5 %, 1 or none with 8.1 %,
# 7 or more with 10 %, 8 or more with 4.2 %.
@pytest.mark.parametrize(
    ("right", "expected"), [(0, "fail"), (1, "undetermined"), (7, "undetermined"), (8, "pass"), (40, "pass")]
)
def test_clean_accuracy_below_the_most_frequent_label_fails(right: int, expected: str) -> None:
    chances = [comb(40, k) * 0.1**k * 0.9 ** (40 - k) for k in range(41)]
    above, below = sum(chances[right:]), sum(chances[: right + 1])
    assert expected == ("fail" if below <= 0.025 else "pass" if above <= 0.05 else "undetermined")
    labels = tuple(i % 10 for i in range(40))
    assert said(report_of(row(first(0, 40)), labels=labels, clean=right), "clean accuracy").verdict == expected


def test_few_images_that_are_all_right_pass() -> None:
    report = report_of(row(first(0, 3)), labels=(0, 0, 1), clean=3)  # always saying 0 does as much with 30 %
    assert said(report, "clean accuracy").verdict == "pass"


def test_exact_intervals() -> None:
    found = clopper_pearson(0, 40)
    assert (found.low, round(found.high, 4)) == (0.0, 0.0881)  # 1 - 0.025 ** (1 / 40)
    with pytest.raises(ValueError, match="right=5"):
        clopper_pearson(5, 4)


def evaluated(problem: Problem, *attacks: Attack, **options: Any) -> Report:
    model = Defended("m", problem.classifier, STILL)
    settings = {"threat": THREAT, "probe": Probe(12, 8), "progress": False, "knowledge": [Knowledge.FULL]} | options
    return evaluate([model], attacks, problem.x, problem.y, **settings)


def returns_clean(module: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    module(x)
    return x


@pytest.mark.parametrize(
    "attack",
    [
        Attack("art", "PGD", {"steps": 5, "step_size": 1e-6}),
        Attack("torchattacks", "PGD", {"steps": 5, "step_size": 1e-6, "random_start": False}),
        Attack("yours", "clean", function=returns_clean),
    ],
    ids=lambda a: a.title,
)
def test_an_attack_in_other_units_is_judged_by_the_probe(attack: Attack, problem: Problem) -> None:
    report = evaluated(problem, attack)
    assert report.worst_case("m").mean == 1  # the headline, which is wrong
    assert said(report, "asked attacks").verdict == "fail"
    if attack.backend == "yours":
        assert said(report, "attack moves").verdict == "fail"


def test_attacks_that_return_the_clean_image_where_they_fail_are_no_fault(problem: Problem) -> None:
    attack = Attack("autoattack", "custom", {"attacks": ["apgd-ce"]})
    report = evaluated(problem, attack, threat=Threat("Linf", 0.001))
    assert report.worst_case("m").mean == 1
    assert said(report, "attack moves").verdict == "pass"
    found = said(report, "asked attacks")
    assert found.verdict == "undetermined"  # twelve images exclude little
    assert "minus by the asked white-box attacks: 0.0 points" in found.detail


def test_wrong_labels_fail_on_the_undefended_model_too(problem: Problem) -> None:
    many = problem.x.repeat(2, 1, 1, 1), 1 - problem.y.repeat(2)
    models = [Defended("bare", problem.classifier)]
    report = evaluate(models, [Attack("native", "FGSM")], *many, threat=THREAT, probe=None, progress=False)
    assert said(report, "clean accuracy", "bare").verdict == "fail"


def test_a_grey_purifier_warns_that_it_costs_clean_accuracy(problem: Problem) -> None:
    grey = as_purifier(lambda x: 0 * x + 0.5, differentiable=True)
    models = [Defended("bare", problem.classifier), Defended("m", problem.classifier, grey)]
    report = evaluate(
        models, [Attack("native", "FGSM")], problem.x, problem.y, threat=THREAT, probe=None, progress=False
    )
    assert said(report, "clean accuracy cost").verdict == "warn"


class Counts(nn.Module):
    """Changes its mind after so many calls."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.inner, self.left = Halves(), calls

    def forward(self, x: Tensor) -> Tensor:
        self.left -= 1
        return self.inner(x) * (1 if self.left > 0 else -1)


@pytest.mark.parametrize(("calls", "expected"), [(10_000, "pass"), (60, "fail")])
def test_other_answers_at_the_end_fail(calls: int, expected: str, problem: Problem) -> None:
    report = evaluate([Defended("m", Counts(calls))], [Attack("native", "PGD", {"steps": 20})], problem.x, problem.y,
                      threat=THREAT, probe=None, progress=False)  # fmt: skip
    assert said(report, "answers repeat").verdict == expected


def test_a_randomised_model_is_not_asked_to_repeat_itself(problem: Problem) -> None:
    report = evaluate([Defended("m", problem.classifier, Noise())], [Attack("native", "FGSM")], problem.x, problem.y,
                      threat=THREAT, probe=None, progress=False)  # fmt: skip
    assert said(report, "answers repeat").verdict == "not run"


def test_answers_that_are_not_finite_are_wrong_everywhere(problem: Problem) -> None:
    class Nan(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.full((len(x), 4), torch.nan) * x.mean((1, 2, 3))[:, None]

    labels = torch.zeros(12, dtype=torch.int64)  # argmax of NaN is class 0
    attacks = [Attack("native", "PGD", {"steps": 2}), Attack("native", "APGD", {"steps": 2})]
    report = evaluate(
        [Defended("m", Nan())], attacks, problem.x, labels, threat=THREAT, probe=Probe(4, 2), progress=False
    )
    assert all(not any(row) for c in (*report.cells, *report.probes) for row in c.correct)
    assert {v for c in report.cells for row in c.predicted for v in row} == {-1}
    assert said(report, "finite").verdict == "fail"
    assert "12 of 12" in said(report, "finite").detail


def test_an_attack_that_raises_costs_its_row_alone(problem: Problem) -> None:
    def raises(module: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        raise IndexError("list index out of range")

    mine, pgd = Attack("yours", "mine", function=raises), Attack("native", "PGD", {"steps": 5})
    report = evaluated(problem, mine, pgd)
    row, other = report.cells[1:]
    assert (row.refused, row.refusal) == ("IndexError: list index out of range", Refusal.ERROR)
    assert other.correct == evaluated(problem, pgd).cells[1].correct
    assert said(report, "attacks ran").verdict == "fail"


def test_a_model_that_raises_late_costs_its_rows(problem: Problem) -> None:
    class Late(Halves):
        def forward(self, x: Tensor) -> Tensor:
            if bool((x < 0.3).any()):
                raise FloatingPointError("too dark")
            return super().forward(x)

    models = [Defended("late", Late()), Defended("bare", problem.classifier)]
    attack = Attack("native", "PGD", {"steps": 8, "random_start": False})
    options = {"threat": Threat("Linf", 0.3), "probe": None, "progress": False, "all_steps": True}
    report = evaluate(models, [attack], problem.x, problem.y, **options)  # type: ignore[arg-type]
    assert report.cell("late", attack.title, "undefended").refused == "FloatingPointError: too dark"
    assert said(report, "answers in the ball", "late").verdict == "fail"
    assert said(report, "answers in the ball", "bare").verdict == "pass"
    assert not report.cell("bare", attack.title, "undefended").refused


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"knowledge": []}, TypeError, "expected knowledge"),
        ({"knowledge": ["full"]}, TypeError, "expected knowledge"),
        ({"eot_samples": True}, TypeError, "eot_samples"),
        ({"repeats": float("nan")}, (TypeError, ValueError), "repeats"),
        ({"batch_size": "8"}, TypeError, "batch_size"),
        ({"seed": None}, TypeError, "seed"),
        ({"seed": 1.5}, (TypeError, ValueError), "seed"),
        ({"probe": 64}, TypeError, "Probe or None"),
        ({"threat": 0.1}, TypeError, "Threat"),
        ({"cross": "yes"}, TypeError, "cross"),
        ({"data": {"where": object()}}, TypeError, "plain value"),
    ],
)
def test_settings_that_are_none_are_refused(
    options: dict[str, Any], error: type[Exception], words: str, problem: Problem
) -> None:
    with pytest.raises(error, match=words):
        evaluated(problem, Attack("native", "FGSM"), **options)


def test_no_attacks_and_no_models_are_refused(problem: Problem) -> None:
    with pytest.raises(ValueError, match="at least one attack"):
        evaluated(problem)
    with pytest.raises(ValueError, match="at least one model"):
        evaluate([], [Attack("native", "FGSM")], problem.x, problem.y, threat=THREAT)
    with pytest.raises(TypeError, match="every model as a Defended, got Halves"):
        evaluate([Halves()], [Attack("native", "FGSM")], problem.x, problem.y, threat=THREAT)  # type: ignore[list-item]


def test_old_spellings_are_understood_and_said(problem: Problem) -> None:
    new = evaluated(problem, Attack("native", "FGSM"), eot_samples=3, repeats=2).findings()
    with pytest.warns(DeprecationWarning, match=r"draws is called eot_samples|redraws is called repeats"):
        old = evaluated(problem, Attack("native", "FGSM"), draws=3, redraws=2).findings()
    assert old == new
    assert Knowledge("own") is Knowledge.OWN is Knowledge.ADAPTIVE
    import art_ext.evaluation as evaluation

    with pytest.warns(DeprecationWarning, match="suite"):
        assert evaluation.plan("smoke", THREAT, classes=4) == evaluation.suite("smoke", THREAT, classes=4)
    with pytest.warns(DeprecationWarning, match="repeat_table"):
        assert new.redraw_table() == new.repeat_table()
