"""How often a training and an attack wait for the device: at most so often, whoever changes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from torch import Tensor

from art_ext import attacks
from art_ext.attacks import Linf
from art_ext.attacks.active import EVERY, Leave
from art_ext.training import fit

from . import toys
from .fake import FakeCuda

RANGE = "images.py"
"""What asks whether images are in range."""


@pytest.fixture
def mode() -> Iterator[FakeCuda]:
    with FakeCuda() as mode:
        yield mode


def per_step(mode: FakeCuda, objective: Any) -> Counter[str]:
    """What a step waits for beyond the first one, which may look at what no later one looks at again."""
    steps = fit(objective, toys.batches(9), epochs=1)
    next(steps)
    with mode.counting() as waits:
        next(steps)
    return waits


@pytest.mark.parametrize("name", toys.METHODS)
def test_a_training_waits_once_a_player_and_step(mode: FakeCuda, name: str) -> None:
    for objective in toys.stages(name):
        waits = per_step(mode, objective.to("cuda"))
        others = {line: count for line, count in waits.items() if RANGE not in line}
        assert sum(others.values()) <= len(objective.players()), (type(objective).__name__, waits)


def test_a_training_asks_once_whether_images_are_in_range(mode: FakeCuda) -> None:
    for objective in (*toys.stages("atop"), *toys.stages("cdvae"), *toys.stages("classifier")):
        assert not [line for line in per_step(mode, objective.to("cuda")) if RANGE in line]


def growth(mode: FakeCuda, attack: Callable[..., Any], long: int) -> Counter[str]:
    """What an attack of 4 + `long` steps waits for beyond one of 4."""
    found = []
    for steps in (4, 4 + long):
        with mode.counting() as waits:
            attack(steps)
        found.append(Counter(waits))
    found[1].subtract(found[0])
    return +found[1]


@pytest.fixture
def target(mode: FakeCuda) -> tuple[Any, Tensor, Tensor]:
    x, y = toys.images()
    return toys.classifier().requires_grad_(False).to("cuda"), x.to("cuda"), y.to("cuda")


ATTACKS: dict[str, Callable[..., Any]] = {
    "pgd": lambda m, x, y, n: attacks.pgd(
        attacks.ascent(attacks.dlr(m, y)), x, norm=Linf(), eps=0.01, steps=n, score=attacks.margin(m, y)
    ),
    "pgd in L1": lambda m, x, y, n: attacks.pgd(
        attacks.ascent(attacks.margin(m, y)), x, norm=attacks.L1(), eps=0.1, steps=n
    ),
    "pgd with eot": lambda m, x, y, n: attacks.pgd(
        attacks.eot(attacks.ascent(attacks.cross_entropy(m, y)), 3), x, norm=attacks.L2(), eps=0.1, steps=n
    ),
    "apgd": lambda m, x, y, n: attacks.apgd(
        attacks.dlr(m, y), x, norm=Linf(), eps=0.01, steps=n, score=attacks.margin(m, y)
    ),
    "si_ni_ti_dim": lambda m, x, y, n: attacks.si_ni_ti_dim(m, x, y, norm=Linf(), eps=0.01, steps=n),
    "stadv": lambda m, x, y, n: attacks.stadv(m, x, y, steps=n),
    "recoloradv": lambda m, x, y, n: attacks.recoloradv(m, x, y, steps=n),
    "jpeg": lambda m, x, y, n: attacks.jpeg_attack(m, x, y, steps=n),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_does_not_wait_for_its_steps(mode: FakeCuda, target: Any, name: str) -> None:
    assert not growth(mode, lambda steps: ATTACKS[name](*target, steps), 4)


ACTIVE: dict[str, Callable[..., Any]] = {
    "pgd": lambda m, x, y, n: attacks.pgd(
        attacks.ascent(attacks.margin(m, y)), x, norm=Linf(), eps=1e-3, steps=n, score=attacks.margin(m, y),
        leave=Leave(),
    ),
    "apgd": lambda m, x, y, n: attacks.apgd(
        attacks.margin(m, y), x, norm=Linf(), eps=1e-3, steps=n, score=attacks.margin(m, y), leave=Leave()
    ),
    "square": lambda m, x, y, n: attacks.square(m, x, y, norm=Linf(), eps=1e-3, queries=n),
}  # fmt: skip


@pytest.mark.parametrize("name", ACTIVE)
def test_who_lets_images_leave_waits_every_few_steps(mode: FakeCuda, target: Any, name: str) -> None:
    """To see which they are."""
    model, x, _ = target
    y = model(x).argmax(1)  # so that all stay
    assert sum(growth(mode, lambda steps: ACTIVE[name](model, x, y, steps), 4 * EVERY).values()) == 4


def test_fab_waits_for_its_hyperplanes(mode: FakeCuda, target: Any) -> None:
    """Twice a step, and once for every few of Newton's steps."""
    model, x, _ = target
    y = model(x).argmax(1)

    def attack(steps: int) -> Tensor:
        return attacks.fab(model, x, y, norm=Linf(), eps=1e-3, steps=steps, targets=1)

    assert sum(growth(mode, attack, 8).values()) <= 8 * 4


@pytest.mark.parametrize("name", toys.VARIANTS)
def test_a_purifier_waits_once_a_call(mode: FakeCuda, name: str) -> None:
    """For whether its images are in range."""
    purifier, x = toys.VARIANTS[name]().to("cuda"), toys.images()[0].to("cuda")
    with mode.counting() as waits:
        purifier(x)
    assert sum(waits.values()) <= 1, waits
