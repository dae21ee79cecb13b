"""What `evaluate` takes beyond the attacks that it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from art_ext.evaluation import Attack, Defended, evaluate
from art_ext.evaluation.inspect import Identity, inspect_model
from art_ext.nn.modes import trainable
from benchmarks.performance.measure import Comparison, Contender
from benchmarks.performance.problems import WEAK, Options, Problem, facts, problem

N, BATCH = 512, 256
PGD_STEPS, APGD_STEPS = 40, 100
EVALUATE, INSPECTION, REST, ALONE = "evaluate", "inspection", "evaluate without inspection", "its attacks alone"
IN_BLOCKS = "its attacks alone, blocks of 32"


def harness(options: Options) -> list[Comparison]:
    """`evaluate` without probes, its inspection, and its attacks called by hand on batches of 256 and of 32."""
    n = options.n(N)

    def given() -> Problem:
        return problem(WEAK, n, options)

    made: dict[str, Callable[[], Any]] = {
        EVALUATE: lambda: evaluation(given()),
        INSPECTION: lambda: inspection(given()),
        ALONE: lambda: alone(given(), BATCH),
        IN_BLOCKS: lambda: alone(given(), 32),
    }
    contenders = [Contender(name, lambda run=run: run) for name, run in made.items()]  # type: ignore[misc]
    settings = facts(WEAK, n, options, attacks=[a.title for a in attacks()], batch_size=BATCH)
    name = f"harness, PGD-{PGD_STEPS} and APGD-{APGD_STEPS}, {WEAK}"
    return [Comparison("harness", name, contenders, REST, settings, differences={REST: (EVALUATE, INSPECTION)})]


def attacks() -> list[Attack]:
    """What is run."""
    return [Attack("native", "PGD", {"steps": PGD_STEPS}), Attack("native", "APGD", {"steps": APGD_STEPS})]


def evaluation(given: Problem) -> None:
    """The harness."""
    models = [Defended("undefended", given.module)]
    evaluate(
        models, attacks(), given.x, given.y, threat=given.threat, batch_size=BATCH, probe=None, progress=False
    )  # fmt: skip


def inspection(given: Problem) -> None:
    """What the harness does before it runs anything."""
    model = Defended("undefended", given.module)
    with trainable((), given.module.parameters()):
        inspect_model(model, Identity("", False), given.x, given.y, given.threat, BATCH)


def alone(given: Problem, size: int) -> list[Tensor]:
    """The attacks without the harness, on so many images at once."""
    pieces = list(zip(given.x.split(size), given.y.split(size), strict=True))
    return [attack(given.module, x, y, given.threat) for attack in attacks() for x, y in pieces]
