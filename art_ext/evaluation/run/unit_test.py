"""The probes' attack on planted examples, before one believes what it did not find."""

from __future__ import annotations

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
SHARE = 0.1
"""Of the evaluation's passes, what the unit test may take where nobody asked for it."""


def images_for(probe: Probe, planned: Schedule, models: int) -> int:
    """Images of the unit test: as the probe says, or `UNIT_TESTS` where that is cheap beside the schedule."""
    if probe.unit_tests is not None:
        return probe.unit_tests
    passes = UNIT_TESTS * (2 * SAMPLES + 2 * probe.steps) * models
    return UNIT_TESTS if passes < SHARE * planned.passes() else 0


def unit_test(model: Defended, info: ModelInfo, x: Tensor, threat: Threat, steps: int) -> UnitTest:
    """What native PGD finds of examples that are known to be there (`binarisation_test`).

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
    try:
        found = binarisation_test(
            _Before(model.module, widest), Attack("native", "PGD", {"steps": steps}), x, threat, samples=SAMPLES
        )
    except (RuntimeError, ValueError, IndexError) as error:
        return UnitTest(reason=f"{type(error).__name__}: {error}")
    if not any(found.usable) or found.random_share > 0.5:
        return UnitTest(reason="no image gave a problem that random search does not solve")
    counted = [i for i, usable in enumerate(found.usable) if usable]
    return UnitTest(len(counted), sum(found.found[i] for i in counted), sum(found.random[i] for i in counted))


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
