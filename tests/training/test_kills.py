"""A training that is killed at a random moment and run again ends where the unbroken one does."""

from __future__ import annotations

import os
import random

import pytest

from art_ext.training import loop
from tests.contracts.test_seeds import CLASSES
from tests.training.kills import DOORS, kills


def test_two_kills_of_a_training_of_two_stages() -> None:
    chance = random.Random(os.urandom(8))
    found = kills("trainer", "dir", 2, chance)
    assert found["other weights"] == 0


def test_a_fault_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps whose seed does not depend on their number alone."""
    monkeypatch.setattr(loop, "_step_seed", lambda *_: os.getpid())
    assert kills("command line", "atop", 1, random.Random(0))["other weights"] == 1


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("door", DOORS)
def test_kills_of_every_method(door: str, name: str) -> None:
    found = kills(door, name, 4, random.Random(os.urandom(8)))
    assert found["other weights"] == 0, found
    assert found["kills"] > 0, found
