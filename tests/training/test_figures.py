"""Whole trainings by two processes are worth what those by one are, for every method, on held-out images."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from art_ext.evaluation import mean_interval, paired_difference
from tests.contracts.test_seeds import CLASSES
from tests.training.figures import SMALL, defended, right, trained
from tests.training.pairs import run_module

CHANCE = 0.1


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """How often held-out images are right after trainings by two processes, by method."""
    file = tmp_path_factory.mktemp("figures") / "two.pt"
    run_module("tests.training.figures", str(file), timeout=3000)
    found: dict[str, Tensor] = torch.load(file, weights_only=True)
    return found


def test_no_method_is_forgotten() -> None:
    assert SMALL.keys() == {*CLASSES}


@pytest.mark.slow
@pytest.mark.timeout(4000)
@pytest.mark.parametrize("name", SMALL)
def test_the_figures_of_one_process_and_of_two_agree(name: str, of_two: dict[str, Tensor]) -> None:
    new, one, two = (v.double().tolist() for v in (right(defended(name)[2]), trained(name), of_two[name]))
    apart, above = paired_difference(two, one), paired_difference(one, new)
    print(f"\n{name}: new {mean_interval(new)}, by one {mean_interval(one)}, by two {mean_interval(two)}, {apart}")
    assert apart.low <= 0 <= apart.high
    assert above.low > 0  # a training that does nothing would agree too
    assert min(mean_interval(one).low, mean_interval(two).low) > 2 * CHANCE
