"""Two processes make the step that one makes on the same batch, and stay alike, for every stage of every method."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.training.pairs import owners, run_module, trained

States = dict[str, dict[str, Tensor]]


def by_two(folder: Path, steps: int, batch: int) -> list[States]:
    run_module("tests.training.pairs", str(folder), str(steps), str(batch), timeout=300)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def differences(found: States, expected: States) -> dict[str, float]:
    """The largest difference of the change of each player's parameters, as a share of the largest change."""
    shares = {}
    for stage, players in owners().items():
        for player, names in players.items():
            wide = max(float(expected[stage][k].abs().max()) for k in names)
            apart = max(float((found[stage][k] - expected[stage][k]).abs().max()) for k in names)
            shares[f"{stage} {player}"] = apart / wide if wide else float("nan")
    return shares


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("batch", [6, 5])  # of 5, one process has 3 images and the other 2
def test_a_step_of_two_is_that_of_one(batch: int, tmp_path: Path) -> None:
    found, expected = by_two(tmp_path, 1, batch)[0], trained(1, batch)
    assert {name.split()[0] for name in found} == {"rdp", "cdvae", "dir", "atop", "drrdn"}
    shares = differences(found, expected)
    print({k: f"{v:.1e}" for k, v in shares.items()})
    assert not {k: v for k, v in shares.items() if not v < 1e-4}
    kept = {k for stage in expected.values() for k in stage if k.endswith(("running_mean", "running_var", "log_mean"))}
    assert len(kept) > 2
    for name, state in expected.items():
        for k in kept & state.keys():
            torch.testing.assert_close(found[name][k], state[k], rtol=1e-5, atol=1e-8)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_after_ten_steps_the_processes_have_the_same_bits(tmp_path: Path) -> None:
    first, second = by_two(tmp_path, 10, 5)
    for name, state in first.items():
        assert any(bool(v.any()) for v in state.values()), name
        assert all(torch.equal(v, second[name][k]) for k, v in state.items()), name
