"""`python -m benchmarks.scaling`: the simulation by hand, and a page that says what the file says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from art_ext.evaluation.executors import Unit
from benchmarks import scaling
from benchmarks.resnet50 import resnet50

ROOT = Path(__file__).parents[1]


def test_without_failures_the_makespan_is_that_of_the_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "FAILING", 0.0)
    units = [Unit((k,), 0, cost) for k, cost in enumerate((5.0, 4.0, 3.0, 3.0, 3.0))]
    found = scaling.simulated(units, 2, [1.0], restart=7.0)
    assert found["makespan_s"] == 10.0  # 5 + 3, then 4 + 3 and 3: longest first is 8 and 10
    assert found["ideal_s"] == 9.0
    assert found["of_linear"] == pytest.approx(0.9)


def test_failing_units_come_again_and_cost_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "FAILING", 0.2)
    units = [Unit((k,), 0, 1.0) for k in range(100)]
    found = scaling.simulated(units, 1, [1.0], restart=2.0)
    assert found["failed"] > 0
    assert found["makespan_s"] >= 100 - found["given_up"] + 2.0 * (found["failed"] - 1)


def test_the_units_of_the_full_suite_are_those_of_its_schedule() -> None:
    units, passes = scaling.full_units({"bare": 0.5, "AToP": 0.5, "diffusion": 0.5}, 64)
    assert {unit.block for unit in units} == {0, 1}
    assert sum(unit.cost for unit in units) == pytest.approx(0.5 * sum(passes.values()))


def test_what_workers_wait_is_counted_by_hand() -> None:
    one = [(2.0, 2.0, 1.0), (4.5, 2.0, 1.0), (7.0, 2.25, 1.0)]  # (end, took, cost): waits 0.5 and 0.25
    assert scaling.between(one, 1) == pytest.approx(0.75)
    other = [(3.0, 2.5, 1.0), (5.0, 1.9, 1.0)]  # of a second worker, which begins at 0.5: waits 0.1
    assert scaling.between([*one, *other], 2) == pytest.approx(0.85)


def test_resnet50_has_the_size_of_its_paper() -> None:
    with torch.device("meta"):
        network = resnet50()
        assert network(torch.empty(2, 3, 224, 224)).shape == (2, 1000)
    assert sum(p.numel() for p in network.parameters()) == 25_557_032


def test_the_committed_page_is_what_the_file_says() -> None:
    if not scaling.OUT.exists():
        pytest.skip("the file is written by python -m benchmarks.scaling")
    page = scaling.PAGE.read_text("utf-8")
    assert scaling.rendered(json.loads(scaling.OUT.read_text("utf-8"))) in page
