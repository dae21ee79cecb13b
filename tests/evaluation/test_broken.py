"""29 defences that only look robust, each named by its check or broken like the plain model, and none of the honest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import torch

from art_ext.evaluation import Attack, Knowledge, Probe, Report
from art_ext.evaluation.inspect import Fingerprint
from art_ext.evaluation.inspect.gradients import on_the_way
from benchmarks.broken import controls, defences
from benchmarks.broken.controls import CONTROLS
from benchmarks.broken.defences import BROKEN
from benchmarks.broken.problem import Problem, make_problem
from benchmarks.broken_defences import PLAIN, Row, evaluated, markdown, row

SAME = "same worst case"
EXPECTED = {
    "k winners take all": "finite differences",
    "logits times 1e6": "zero gradient",
    "probabilities": "gives logits",
    "label leak": "finite differences",
    "cache by hash": "finite differences",
    "gradient stops after some passes": "black-box not stronger",
    "label leak after some passes": "answers repeat",
    "batch mixing": "one image at a time",
    "batch norm in train mode": "one image at a time",
    "noise off the 8-bit grid": SAME,
    "noise on some images": SAME,
    "noise after an attack": SAME,
    "reseeding": "one image at a time",
    "straight-through that detaches": "zero gradient",
    "backward of the wrong sign": "finite differences",
    "float16 rounding": "finite differences",
    "few levels": "zero gradient",
    "NaN logits": SAME,
    "NaN gradient": "zero gradient",
    "in-place writing": "input untouched",
    "grey": "zero gradient",
    "attack in other units": "asked attacks",
    "attack that returns the clean image": "attack moves",
    "inference mode": "zero gradient",
    "numpy": "zero gradient",
    "saturating clamp": "saturated pixels",
    "saturating sigmoid": "reaches chance",
    "out of memory": SAME,
    "raises late": "attacks ran",
}
"""The check that names a defence, or that its worst case is the plain classifier's."""
TINY: dict[str, Any] = {
    "attacks": (Attack("native", "PGD", {"steps": 8}),),
    "knowledge": [Knowledge.BLIND, Knowledge.FULL],
    "probe": Probe(16, 4),
    "eot_samples": 2,
    "repeats": 2,
    "beside": False,
}
LONG = ("DIR", "AToP")
"""Controls that take seconds to train."""


class Known(NamedTuple):
    """The problem, and the report on its plain classifier."""

    problem: Problem
    plain: Report


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """The networks are too small for more: on a busy machine threads would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def known(one_thread: None) -> Known:
    problem = make_problem(32)
    return Known(problem, evaluated(PLAIN, CONTROLS[PLAIN], problem, "smoke", None, **TINY))


def row_of(name: str, known: Known) -> Row:
    case = {**BROKEN, **CONTROLS}[name]
    options = {**TINY, "attacks": case.attacks or TINY["attacks"]}
    report = evaluated(name, case, known.problem, "smoke", None, **options)
    return row(name, case, report, known.plain)


def test_there_are_29() -> None:
    assert list(EXPECTED) == list(BROKEN)
    assert len(BROKEN) == 29


@pytest.mark.parametrize("name", BROKEN)
def test_what_only_looks_robust_is_named(name: str, known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defences, "CALLS", 90)  # just after inspection, which is short here
    found = row_of(name, known)
    assert found.good
    assert found.equal if EXPECTED[name] == SAME else EXPECTED[name] in (found.named or {}), found


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in CONTROLS])
def test_what_is_honest_fails_no_check(name: str, known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controls, "EPOCHS", 2)
    found = row_of(name, known)
    assert found.good, found
    assert "fail" not in (found.named or {}).values()


def test_a_row_is_good_for_a_reason() -> None:
    same, other = (0.0, -0.1, 0.1), (0.5, 0.4, 0.6)
    assert Row("a", "", True, 1, 0, same, {}).good
    assert Row("b", "", True, 1, 0.5, other, {"randomness": "fail"}).good
    assert not Row("c", "", True, 1, 0.5, other, {}).good
    assert not Row("d", "", True, raised="ValueError: no").good
    assert not Row("e", "", False, 1, 0.5, other, {"randomness": "fail"}).good
    assert Row("f", "", False, 1, 0.5, other, {"converged": "warn"}).good
    text = markdown([Row("c", "so", True, 1, 0.5, other, {})], "title")
    assert "| c: so | 100.0 % | 50.0 % | +50.0 [+40.0, +60.0] | nothing | NO |" in text


def test_the_gradient_accounts_for_a_change_without_jumps() -> None:
    x, other = torch.zeros(2, 1, 2, 2), torch.ones(2, 1, 2, 2)

    def kinked(v: torch.Tensor) -> torch.Tensor:
        return v.flatten(1).sum(1).relu() - 1

    def jumps(v: torch.Tensor) -> torch.Tensor:
        return kinked(v) * 1e-3 + 5 * (v.detach().flatten(1).mean(1) > 0.5) - 1

    assert on_the_way(kinked, x, other) == pytest.approx([0, 0], abs=1e-5)
    assert on_the_way(jumps, x, other) == pytest.approx([1, 1], abs=1e-2)
    assert on_the_way(jumps, x, x).tolist() == [0, 0]  # nothing turns


def test_logits_that_moved_are_counted_by_image() -> None:
    before = Fingerprint.of(torch.tensor([[1.0, 0.0], [0.0, 1.0], [torch.nan, 1.0]]))
    after = Fingerprint.of(torch.tensor([[1.0, 0.0], [0.0, 1.1], [torch.nan, 1.0]]))
    assert (before.changed(before), before.changed(after)) == (0, 1)
    assert before.changed(Fingerprint.of(torch.full((3, 2), 9.0))) == 3
