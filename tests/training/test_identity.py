"""Which training it is: what counts of a method's attributes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.training import Objective
from art_ext.training.identity import identity_of


@dataclass(frozen=True)
class Plain:
    rate: float


@dataclass(frozen=True, slots=True)
class Slotted:
    rate: float


class Toy(Objective):
    carried = ("drawn",)

    def __init__(self, settings: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.settings, self.drawn = settings, None

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"layer": list(self.layer.parameters())}

    def terms(self, player: str, x: Tensor, x_adv: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        return {"loss": self.layer(x).mean()}


@pytest.mark.parametrize("kind", [Plain, Slotted])
def test_what_a_dataclass_holds_counts_by_name(kind: type) -> None:
    found = [identity_of(Toy(kind(rate)), None, {}, []) for rate in (0.1, 0.1, 0.2)]
    assert found[0] == found[1]
    assert found[0]["settings.rate"] == 0.1
    assert {k for k in found[0] if found[0][k] != found[2][k]} == {"settings.rate"}


def test_what_a_step_carries_does_not_count() -> None:
    toy = Toy(1)
    before = identity_of(toy, None, {}, [])
    toy.drawn = torch.rand(3)  # type: ignore[assignment]
    assert identity_of(toy, None, {}, []) == before
