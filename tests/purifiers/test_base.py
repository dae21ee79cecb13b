"""What the base class of purifiers does whatever the method: names, configuration, the border."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from art_ext.attacks import Gradient
from art_ext.purifiers import RDP, Purifier

X, Y = torch.rand(2, 3, 8, 12), torch.tensor([0, 1])
CLASSIFIER = nn.Flatten()


class Nothing(Purifier):
    name = "nothing"
    paper = ""

    def purify(self, x: Tensor) -> Tensor:
        return x


def marked(name: str) -> dict[str, Gradient]:
    return {name: lambda v: v}


class Old(Nothing):
    def own_attacks(self, classifier: nn.Module, x: Tensor, y: Tensor) -> dict[str, Gradient]:
        return marked("old")


class OldRDP(RDP):
    def own_attacks(self, classifier: nn.Module, x: Tensor, y: Tensor) -> dict[str, Gradient]:
        with pytest.warns(DeprecationWarning, match="adaptive_attacks"):
            inherited = super().own_attacks(classifier, x, y)
        return {**inherited, **marked("old")}


class NewOnOld(Old):
    def adaptive_attacks(self, classifier: nn.Module, x: Tensor, y: Tensor) -> dict[str, Gradient]:
        return {**super().adaptive_attacks(classifier, x, y), **marked("new")}


class Mixin:
    def own_attacks(self, classifier: nn.Module, x: Tensor, y: Tensor) -> dict[str, Gradient]:
        return marked("mixin")


class Mixed(Mixin, RDP):
    pass


@pytest.mark.parametrize(
    ("purifier", "names"),
    [
        (Nothing(), []),
        (Old(), ["old"]),
        (NewOnOld(), ["old", "new"]),
        (OldRDP(**RDP.small), ["feature", "old"]),
        (Mixed(**RDP.small), ["mixin"]),
        (RDP(**RDP.small), ["feature"]),
    ],
)
def test_adaptive_attacks_by_either_spelling(purifier: Purifier, names: list[str]) -> None:
    assert list(purifier.adaptive_attacks(CLASSIFIER, X, Y)) == names


@pytest.mark.parametrize("purifier", [Nothing(), NewOnOld(), RDP(**RDP.small)])
def test_the_old_spelling_warns(purifier: Purifier) -> None:
    with pytest.warns(DeprecationWarning, match="own_attacks is called adaptive_attacks now"):
        attacks = purifier.own_attacks(CLASSIFIER, X, Y)
    assert list(attacks) == list(purifier.adaptive_attacks(CLASSIFIER, X, Y))


def test_whether_there_are_any_shows_in_the_class() -> None:
    assert Nothing.adaptive_attacks is Purifier.adaptive_attacks
    for kind in (Old, OldRDP, NewOnOld, Mixed, RDP):
        assert kind.adaptive_attacks is not Purifier.adaptive_attacks
