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
from art_ext.files import replacing
from art_ext.nn.precision import FLOAT32
from experiments import data as sets
from experiments.core import Experiment, Part, Table, Work
from experiments.lab import TRIAL_STEPS, Lab

FEW = ("steps", "queries", "targets", "N", "max_iter", "scales")
"""Parameters of attacks that cost time, cut in a dry run."""


def carry_out(
    lab: Lab, names: Sequence[str], shard: tuple[int, int], out: Path, batch: int = 256,
    executor: Executor | str | int | None = None, crafting: str = FLOAT32,
) -> Iterator[Path]:  # fmt: skip
    """Makes the results of the parts named, and gives the files that are there now.

    Every process trains; then each takes its share of the blocks of every report, and whoever ends last puts the
    shares together. What is no report is made by the first process of the first shard.

    Args:
        lab: where.
        names: of parts.
        shard: (i, n), the share of this call.
        out: folder of the results.
        batch: most images of one pass.
        executor: who makes the blocks of the reports, see `evaluate`.
        crafting: precision of the native attacks' gradients, see `evaluate`.

    Raises:
        OutOfTime: the time was up before the networks were there.
    """
    experiment = lab.experiment
    models = {k: [lab.defended(m) for m in p.models] for k in names if isinstance(p := experiment.parts[k], Part)}
    needs = tuple(n for k in names if isinstance(w := experiment.parts[k], Work) for n in w.needs)
    for name in experiment.networks:
        if name.startswith(needs):
            lab(name)
    lab.closed = True
    rank, world = lab.fabric.global_rank, lab.fabric.world_size
    mine = (shard[0] * world + rank, shard[1] * world)
    cut = {name: report_of(lab, name, models[name], mine, batch, executor, crafting) for name in models}
    for name in names:
        part, path = experiment.parts[name], out / f"{experiment.file(name, lab.seed)}.json"
        if isinstance(part, Part):
            report = together(lab, name, cut[name], wait=rank == 0 and shard[1] == 1)
            if report is None:
                continue
            report.save(path)
        elif mine[0] == 0:
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(part.make(lab)), "utf-8")
        yield path


def report_of(
    lab: Lab, name: str, models: Sequence[Defended], shard: tuple[int, int], batch: int,
    executor: Executor | str | int | None = None, crafting: str = FLOAT32,
) -> int:  # fmt: skip
    """One process's share of a report, in its own folder, and into how many the report is cut.

    Where blocks are fewer than processes, the last ones have none.
    """
    part = lab.experiment.parts[name]
    assert isinstance(part, Part)
    images = lab.test(part.images, part.first)
    used = shares(len(images.x), shard[1])
    if shard[0] >= used:
        return used
    attacks, options = list(part.attacks), dict(part.options)
    if lab.dry:
        attacks, options = [*shortened(attacks)], options | {"eot_samples": TRIAL_STEPS, "repeats": several.STATED}
    evaluate(
        models, attacks, images.x, images.y, threat=part.threat, knowledge=part.knowledge, executor=executor,
        probe=None if lab.dry else part.probe, folder=_folder(lab, name, shard[0], used), shard=(shard[0], used),
        data=sets.called(lab.experiment.data, lab.folder, part.first) | facts(lab, part) | dict(part.about),
        crafting=crafting, **{"eot_samples": 20, "average": "gradients", "repeats": 10, "batch_size": batch, **options},
    )  # fmt: skip
    return used


def together(lab: Lab, name: str, used: int, wait: bool) -> Report | None:
    """The report of all shares; None while some are missing, unless they are waited for."""
    paths = [_folder(lab, name, i, used) / "report.json" for i in range(used)]
    while not all(p.is_file() for p in paths):
        if not wait:
            return None
        time.sleep(1)
    reports = [Report.load(p) for p in paths]
    return reports[0] if used == 1 else merged(reports)


def shares(images: int, processes: int) -> int:
    """Into how many shares the blocks of so many images are cut."""
    return max(1, min(processes, -(-images // BLOCK)))


def facts(lab: Lab, part: Part) -> dict[str, Any]:
    """Which trainings a report's networks are of; of networks that came with their weights nothing is said."""
    return {"trainings": dict(sorted(lab.trainings.items()))} if lab.trainings and part.models else {}


def shortened(attacks: Sequence[Attack]) -> Iterator[Attack]:
    """The attacks with two steps, under their own titles; AutoAttack as the native one, which can be cut short."""
    for attack in attacks:
        found = attack
        if attack.backend == "autoattack" or attack.name == "AutoAttack":
            few: Mapping[str, Any] = {"steps": TRIAL_STEPS, "queries": TRIAL_STEPS, "targets": 1}
            found = replace(attack, backend="native", name="AutoAttack", parameters=few)
        else:
            cut = {
                k: min(TRIAL_STEPS, v) if k in FEW else v for k, v in attack.parameters.items() if k != "check_every"
            }
            found = replace(attack, parameters=cut)
        yield replace(found, images=None, label=attack.titled(1), eot_samples=1 if attack.eot_samples == 1 else None)


def tables(experiment: Experiment, folder: Path, seed: int = 0) -> Iterator[tuple[str, str]]:
    """Title and Markdown of each table of an experiment whose parts a folder holds."""
    for title, table in experiment.tables.items():
        reports = {
            p: Report.load(f) for p in table.parts if (f := folder / f"{experiment.file(p, seed)}.json").is_file()
        }
        if reports:
            yield title, laid_out(table, reports)


def laid_out(table: Table, reports: Mapping[str, Report]) -> str:
    """A declared table of its parts' reports, as far as they are there, and the differences of its pairs."""
    found = [reports[p] for p in table.parts if p in reports]
    counted = [reports[p] for p in table.worst if p in reports]
    worst = {m: counted for r in counted for m in r.models()} if len(counted) == len(table.worst) else {}
    text = several.table(found, table.columns, worst)
    return "\n\n".join([text, several.gains(found, table.pairs, table.columns)] if table.pairs else [text])


def _folder(lab: Lab, name: str, share: int, of: int) -> Path:
    e = lab.experiment
    where = f"{e.paper}_{e.data}_{e.scale}" + (f"_seed{lab.seed}" if lab.seed else "")
    return lab.runs / where / f"{name} {share} of {of}"
