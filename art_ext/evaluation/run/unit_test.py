"""Attacks on planted examples, before one believes what they did not find."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from art_ext.evaluation.backends import Attack
from art_ext.evaluation.binarisation import binarisation_test
from art_ext.evaluation.inspect import ModelInfo, UnitTest
from art_ext.evaluation.schedule import Schedule
from art_ext.evaluation.settings import UNIT_TESTS, Probe
from art_ext.evaluation.targets import Defended
from art_ext.evaluation.threat import Threat

SAMPLES = 200
"""Inner points of an image and points of the random search, each, see `binarisation_test`."""
STRONG = Attack("native", "APGD", {"steps": 100, "restarts": 5})
"""The attack of real effort, on the examples that the probes' PGD did not find."""
SHARE = 0.1
"""Of the evaluation's passes, what the unit test may take where nobody asked for it."""


def images_for(probe: Probe, planned: Schedule, models: int) -> int:
    """Images of the unit test: the probe's number, or `UNIT_TESTS` where that is cheap beside the schedule."""
    if probe.unit_tests is not None:
        return probe.unit_tests
    strong = 2 * STRONG.parameters["steps"] * STRONG.parameters["restarts"]
    passes = UNIT_TESTS * (2 * SAMPLES + 2 * probe.steps + strong) * models
    return UNIT_TESTS if passes < SHARE * planned.passes() else 0


def unit_test(model: Defended, info: ModelInfo, x: Tensor, threat: Threat, steps: int) -> UnitTest:
    """What native PGD, and APGD after it, find of examples that are known to be there (`binarisation_test`).

    The features are what the widest linear layer of the classifier takes: on narrow ones random search succeeds too,
    and the test says little.

    Args:
        model: in eval mode.
        info: what was found of it.
        x: images (N, C, H, W).
        threat: norm and radius.
        steps: of PGD.
    """
    linear = [m for m in model.classifier.modules() if isinstance(m, nn.Linear)]
    if info.random or not linear or threat.eps == 0:
        reason = "randomised: a planted example is not certain" if info.random else "the radius is 0"
        return UnitTest(reason=reason if info.random or linear else "the classifier has no linear layer")
    widest = max(linear, key=lambda m: m.in_features)
    attack = _Both(Attack("native", "PGD", {"steps": steps}), STRONG)
    try:
        found = binarisation_test(_Before(model.module, widest), attack, x, threat, samples=SAMPLES)
    except (RuntimeError, ValueError, IndexError) as error:
        return UnitTest(reason=f"{type(error).__name__}: {error}")
    if not any(found.usable) or found.random_share > 0.5:
        return UnitTest(reason="no image gave a problem that random search does not solve")
    counted = [i for i, usable in enumerate(found.usable) if usable]
    solved, by_chance = (sum(flags[i] for i in counted) for flags in (found.found, found.random))
    return UnitTest(len(counted), solved, by_chance, by_pgd=attack.by_first)


class _Both:
    """An attack, and another one on the images that it does not break.

    Attributes:
        by_first: images that the first one broke, over all calls.
    """

    def __init__(self, first: Attack, then: Attack) -> None:
        self.first, self.then = first, then
        self.by_first = 0

    def __call__(self, module: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        x_adv = self.first(module, x, y, threat).detach()
        with torch.no_grad():
            left = module(x_adv).argmax(1) == y
        self.by_first += int((~left).sum())
        if left.any():
            x_adv[left] = self.then(module, x[left], y[left], threat).detach()
        return x_adv


class _Before(nn.Module):
    """What a layer of a network takes, flattened."""

    def __init__(self, module: nn.Module, layer: nn.Module) -> None:
        super().__init__()
        self.module, self.layer = module, layer

    def forward(self, x: Tensor) -> Tensor:
        taken: list[Tensor] = []
        handle = self.layer.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0]))
        try:
            self.module(x)
        finally:
            handle.remove()
        return taken[-1].flatten(1)
