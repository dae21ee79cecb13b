"""One model of the table: how it is made, how it is attacked, and why it only looks robust."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from art_ext.defences import as_purifier
from art_ext.evaluation import Attack, Defended
from benchmarks.broken.problem import Problem

Maker = Callable[[str, Problem], Defended]


@dataclass(frozen=True)
class Case:
    """A defence, broken or honest.

    Attributes:
        why: it only looks robust; of an honest control what it is.
        make: its name and the problem to the model.
        attacks: that are asked for instead of the suite's, where the attack is what is broken.
    """

    why: str
    make: Maker
    attacks: tuple[Attack, ...] = ()


class Answers(nn.Module):
    """A classifier whose logits a rule makes from the plain one and the images."""

    def __init__(self, classifier: nn.Module, rule: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.classifier, self.rule = classifier, rule

    def forward(self, x: Tensor) -> Tensor:
        return self.rule(self.classifier, x)


def claimed(name: str, classifier: nn.Module) -> Defended:
    """A classifier that is said to be robust: no check then expects it to break."""
    return Defended(name, classifier, robust=True)


def answers(rule: Callable[[nn.Module, Tensor], Tensor]) -> Maker:
    """A maker of classifiers from a rule, see `Answers`."""
    return lambda name, problem: claimed(name, Answers(problem.classifier, rule))


def purifies(function: Callable[[Tensor], Tensor], **options: Any) -> Maker:
    """A maker of purifiers from a function on images that says it is differentiable; options of `as_purifier`."""
    options = {"differentiable": True, **options}
    return lambda name, problem: Defended(name, problem.classifier, as_purifier(function, name=name, **options))
