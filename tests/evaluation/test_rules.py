"""Verdicts on several comparisons, on sequences, and on attacks that saw different images."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from art_ext.evaluation import Cell, ModelInfo, Report, judge
from art_ext.evaluation.judge.rules import MARGIN, Gain, surely_stronger
from art_ext.evaluation.judge.strength import left_once
from art_ext.evaluation.report.legacy import effort_from


def test_a_sure_gain_is_not_hidden_by_another_that_is_small() -> None:
    # 20 of 20 is surer than 100 of 160, and at n = 1,000 excluded from 5 points on; the other may be up to 6.
    small, large = Gain(20, 0, 1000), Gain(100, 60, 1000)
    assert surely_stronger([large], "warn", MARGIN)[0] == "warn"
    assert surely_stronger([small, large], "warn", MARGIN)[0] == "warn"
    assert surely_stronger([small], "warn", MARGIN)[0] == "pass"


def test_no_gain_is_excluded_below_zero() -> None:
    assert surely_stronger([Gain(0, 60, 128)])[1].endswith("any gain is excluded")
    assert surely_stronger([Gain(0, 0, 128)])[1].endswith("more than 2.3 points are excluded")  # 1 - 0.05 ** (1 / 128)


def row(attack: str, right: Sequence[bool], skipped: tuple[int, ...] = (), **facts: object) -> Cell:
    return Cell("m", attack, "full", (tuple(right),), backend="native", skipped=skipped, **facts)  # type: ignore[arg-type]


def test_what_an_earlier_attack_of_a_sequence_broke_is_not_anothers() -> None:
    n, pgd, more = 128, 60, 8
    first = row("PGD", [i >= pgd for i in range(n)], steps=100)
    clean = Cell("m", "clean", "none", ((True,) * n,))
    then = [i >= pgd + more for i in range(n)]
    for skipped, said in (((), "fail"), (tuple(range(pgd)), "not run")):
        square = row("Square", then, skipped, black_box=True)
        report = Report(
            {"norm": "Linf", "eps": 0.1}, (clean, first, square), (), (), {},
            inspected=(ModelInfo("m", classes=4, defended=True),),
        )  # fmt: skip
        assert [v.verdict for v in judge(report, ("black-box not stronger",))] == [said], skipped


def test_each_image_is_left_by_the_attacks_that_saw_it() -> None:
    assert left_once([row("a", [True, True, False, True]), row("b", [True, False])]) == [True, False, False, True]
    assert left_once([]) == []


def test_labels_of_one_class_say_nothing_about_chance() -> None:
    clean = Cell("m", "clean", "none", ((True,) * 39 + (False,),))
    report = Report({"norm": "Linf", "eps": 0.1}, (clean,), (), (), {}, labels=(2,) * 40)
    assert [v.verdict for v in judge(report, ("clean accuracy",))] == ["not run"]


@pytest.mark.parametrize(
    ("backend", "parameters", "effort"),
    [
        ("yours", {"steps": 500}, (None, ())),
        ("torchattacks", {"steps": 10, "loss": "ce"}, (10, ("cross_entropy",))),
        ("native", {"targets": 9, "queries": 5000, "steps": 100}, (100, ("cross_entropy", "dlr"))),
        ("autoattack", {"seed": 0}, (100, ("cross_entropy", "dlr"))),
        ("autoattack", {"attacks": ["apgd-ce"]}, (None, ())),
        ("art", {"max_iter": 40}, (40, ("cross_entropy",))),
    ],
)
def test_the_effort_of_rows_that_do_not_say_it(backend: str, parameters: dict[str, object], effort: object) -> None:
    assert effort_from(backend, parameters) == effort
