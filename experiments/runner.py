"""Runs the parts of an experiment: networks first, then reports, each of which may be made by several processes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from art_ext.evaluation import Attack, Defended, Report, evaluate, merged
from art_ext.evaluation.blocks import BLOCK
from art_ext.evaluation.executors import Executor
from art_ext.evaluation.report import several
from art_ext.nn.precision import FLOAT32
from experiments import data as sets
from experiments.core import Part
from experiments.lab import TRIAL_STEPS, Lab, write

FEW = ("steps", "queries", "targets", "N", "max_iter", "scales")
"""Parameters of attacks that cost time, cut in a dry run."""


def carry_out(
    lab: Lab, names: Sequence[str], shard: tuple[int, int], batch: int = 256,
    executor: Executor | str | int | None = None, crafting: str = FLOAT32,
) -> Iterator[Path]:  # fmt: skip
    """Makes the results of the parts named, and gives the files that are there now.

    Every process trains; then each takes its share of the blocks of every report, and whoever ends last puts the
    shares together. What is no report is made by the first process of the first shard.

    Args:
        lab: where.
        names: of parts.
        shard: (i, n), the share of this call.
        batch: most images of one pass.
        executor: who makes the blocks of the reports, see `evaluate`.
        crafting: precision of the native attacks' gradients, see `evaluate`.

    Raises:
        OutOfTime: the time was up before the networks were there.
    """
    models = lab.prepare(names)
    lab.closed = True
    rank, world = lab.fabric.global_rank, lab.fabric.world_size
    mine, how = (shard[0] * world + rank, shard[1] * world), {"executor": executor, "crafting": crafting}
    shares = {k: shares_of(lab, k, models[k], mine, {"batch_size": batch, **how}) for k in models}
    for name in names:
        part, path = lab.experiment.parts[name], lab.out / f"{lab.experiment.file(name, lab.seed)}.json"
        if isinstance(part, Part):
            report = together(shares[name], wait=rank == 0 and shard[1] == 1)
            if report is None:
                continue
            report.save(path)
        elif mine[0] == 0:
            write(path, json.dumps(part.make(lab)))
        yield path


def shares_of(
    lab: Lab, name: str, models: Sequence[Defended], shard: tuple[int, int], how: Mapping[str, Any]
) -> list[Path]:
    """Makes one process's share of a report, and gives the files of all shares.

    Where blocks are fewer than processes, the last ones have none.
    """
    e, part = lab.experiment, lab.experiment.parts[name]
    assert isinstance(part, Part)
    images = lab.test(part.images, part.first)
    used = max(1, min(shard[1], -(-len(images.x) // BLOCK)))
    where = lab.runs / (f"{e.paper}_{e.data}_{e.scale}" + (f"_seed{lab.seed}" if lab.seed else ""))
    folders = [where / f"{name} {i} of {used}" for i in range(used)]
    if shard[0] < used:
        attacks = part.attacks
        options = {"eot_samples": 20, "average": "gradients", "repeats": 10, **how, **part.options}
        if lab.dry:
            attacks = tuple(shortened(part.attacks))
            options |= {"eot_samples": TRIAL_STEPS, "repeats": several.STATED}
        trainings = {"trainings": dict(sorted(lab.trainings.items()))} if lab.trainings else {}
        evaluate(
            models, attacks, images.x, images.y, threat=part.threat, knowledge=part.knowledge,
            probe=None if lab.dry else part.probe, folder=folders[shard[0]], shard=(shard[0], used),
            data=sets.called(e.data, lab.folder, part.first) | trainings | dict(part.about), **options,
        )  # fmt: skip
    return [folder / "report.json" for folder in folders]


def together(shares: Sequence[Path], wait: bool) -> Report | None:
    """The report of all shares; None while some are missing, unless they are waited for."""
    while not all(p.is_file() for p in shares):
        if not wait:
            return None
        time.sleep(1)
    reports = [Report.load(p) for p in shares]
    return reports[0] if len(reports) == 1 else merged(reports)


def shortened(attacks: Sequence[Attack]) -> Iterator[Attack]:
    """The attacks with two steps, under their own titles; AutoAttack as the native one, which can be cut short."""
    for attack in attacks:
        if attack.backend == "autoattack" or attack.name == "AutoAttack":
            few: Mapping[str, Any] = {"steps": TRIAL_STEPS, "queries": TRIAL_STEPS, "targets": 1}
            found = replace(attack, backend="native", name="AutoAttack", parameters=few)
        else:
            kept = {k: v for k, v in attack.parameters.items() if k != "check_every"}
            found = replace(attack, parameters={k: min(TRIAL_STEPS, v) if k in FEW else v for k, v in kept.items()})
        yield replace(found, images=None, label=attack.titled(1), eot_samples=1 if attack.eot_samples == 1 else None)
