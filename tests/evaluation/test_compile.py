"""`evaluate(compile=True)`: attacks whose passes are compiled, with a stand-in for `torch.compile`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from art_ext.evaluation import Attack, Defended, Knowledge, Threat, evaluate
from art_ext.nn import compiling
from tests.evaluation.conftest import Blur, Problem

ATTACKS = [Attack("native", "PGD", {"steps": 3}), Attack("art", "PGD", {"steps": 2, "step_size": 0.02})]
OPTIONS: dict[str, Any] = {
    "threat": Threat("Linf", 0.05), "knowledge": [Knowledge.FULL, Knowledge.TRANSFER], "probe": None, "progress": False,
}  # fmt: skip


@pytest.fixture
def compiles(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that what was compiled gets; it is the pass itself, and always fast enough."""
    seen: list[int] = []

    def compiled(function: Callable[[Tensor], Tensor], **options: Any) -> Callable[[Tensor], Tensor]:
        def fast(x: Tensor) -> Tensor:
            seen.append(len(x))
            return function(x)

        return fast

    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setattr(compiling, "GAIN", 0.0)
    return seen


def models(problem: Problem) -> list[Defended]:
    return [
        Defended("bare", problem.classifier),
        Defended("blur", problem.classifier, Blur(), surrogate=problem.classifier),
    ]


def test_compiled_passes_give_the_same_report(problem: Problem, compiles: list[int]) -> None:
    plain = evaluate(models(problem), ATTACKS, problem.x, problem.y, **OPTIONS)
    assert not compiles
    made = evaluate(models(problem), ATTACKS, problem.x, problem.y, compile=True, **OPTIONS)
    assert set(compiles) == {16}  # twelve images, padded
    for cell, other in zip(made.cells, plain.cells, strict=True):
        assert cell.refused == other.refused
        assert cell.correct == other.correct
        counts = {k: v for k, v in cell.observed.items() if k != "compiled"}
        assert counts == other.observed  # every pass is counted, and those that measure are not
        if cell.attack != "clean":
            assert cell.parameters["compiled"] is True
            assert cell.observed["compiled"] > 0
    assert "compiled" not in json.dumps(plain.to_json())
    assert not any("torch.compile" in note for note in made.notes)


def test_afterwards_everything_is_as_it_was(problem: Problem, compiles: list[int]) -> None:
    given = models(problem)
    evaluate(given, ATTACKS[:1], problem.x, problem.y, compile=True, **OPTIONS)
    assert all(vars(owner).get(name) is None for model in given for owner, name, _ in model.compiled)


def test_rows_of_which_nothing_was_compiled_are_named(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled(function: Any, **options: Any) -> Callable[[Tensor], Tensor]:
        def fails(x: Tensor) -> Tensor:
            raise RuntimeError("no compiler")

        return fails

    monkeypatch.setattr(torch, "compile", compiled)
    plain = evaluate(models(problem), ATTACKS[:1], problem.x, problem.y, **OPTIONS)
    with pytest.warns(UserWarning, match="not compiled: RuntimeError: no compiler"):
        made = evaluate(models(problem), ATTACKS[:1], problem.x, problem.y, compile=True, **OPTIONS)
    assert [c.correct for c in made.cells] == [c.correct for c in plain.cells]
    (note,) = (n for n in made.notes if "torch.compile" in n)
    rows = "bare: native PGD-3 (undefended); blur: native PGD-3 (full); blur: native PGD-3 (transfer)"
    assert note == f"torch.compile was of no use, or could not be used, for {rows}"


def test_it_is_a_yes_or_no(problem: Problem) -> None:
    with pytest.raises(TypeError, match="expected compile as True or False, got 'yes'"):
        evaluate(models(problem), ATTACKS, problem.x, problem.y, compile="yes", **OPTIONS)  # type: ignore[arg-type]
