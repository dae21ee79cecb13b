"""One evaluation: its checked arguments, its work from the schedule to the report, and the report kept in a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from tqdm import tqdm

from art_ext.evaluation.backends import Attack
from art_ext.evaluation.inspect import Identity, ModelInfo
from art_ext.evaluation.judge import judge
from art_ext.evaluation.numerics import peak_memory, precision_flags, reset_peak_memory
from art_ext.evaluation.provenance import now, provenance
from art_ext.evaluation.report import Cell, Refusal, Report
from art_ext.evaluation.run import Runner, Store
from art_ext.evaluation.run.blockwise import Blocks
from art_ext.evaluation.run.manifest import call_digest, manifest
from art_ext.evaluation.run.unit_test import images_for, unit_test
from art_ext.evaluation.schedule import Job, Schedule
from art_ext.evaluation.settings import Settings
from art_ext.evaluation.targets import Defended
from art_ext.evaluation.threat import Knowledge, Threat
from art_ext.evaluation.untested import not_tested

BAR = "{l_bar}{bar}| {elapsed} elapsed, {remaining} remaining{postfix}"


@dataclass(frozen=True)
class Asked:
    """A call of `evaluate` whose arguments are in order.

    Attributes:
        models: the first undefended one is the baseline of the checks.
        attacks: on each of them.
        x: images (N, C, H, W) in [0, 1], a copy.
        y: class indices (N,), a copy.
        threat: norm and radius.
        settings: as they were given.
        made: as this machine can follow them.
        shard: (i, n) takes every n-th block from block i on.
        data: facts about the data set.
        required: what the defence has to reach.
        suite: name of the ready-made suite; empty for none.
    """

    models: Sequence[Defended]
    attacks: Sequence[Attack]
    x: Tensor
    y: Tensor
    threat: Threat
    settings: Settings
    made: Settings
    shard: tuple[int, int]
    data: Mapping[str, Any]
    required: tuple[str, ...]
    suite: str

    def manifest(self, who: Mapping[str, Mapping[str, Identity]], found: Mapping[str, ModelInfo]) -> dict[str, Any]:
        """Everything that decides the result, as JSON values."""
        answers = {name: info.fingerprint for name, info in found.items() if info.fingerprint is not None}
        call = manifest(
            self.models, self.attacks, self.x, self.y, self.settings, self.threat, self.shard, self.data, who, answers
        )
        return call | ({"criteria": list(self.required)} if self.required else {})


@dataclass
class Work:
    """One evaluation from its schedule to its report."""

    asked: Asked
    store: Store
    found: dict[str, ModelInfo]
    who: Mapping[str, Mapping[str, Identity]]
    planned: Schedule

    def __post_init__(self) -> None:
        asked = self.asked
        self.jobs = (*self.planned.jobs, *self.planned.probes)
        self.runner = Runner(asked.x, asked.y, asked.made, asked.shard, self.store, self.found, self.who)

    def report(self, call: Mapping[str, Any], progress: bool, started: str, remarks: Sequence[str]) -> Report:
        """Runs the schedule and judges what came of it."""
        asked = self.asked
        reset_peak_memory(asked.x.device)
        clean = {m.name: self.runner.clean(m) for m in asked.models}
        self._test_the_attack()
        cells, probes = self._run(progress)
        remarks = [*remarks, *_not_compiled([*cells, *probes])]
        self.usable = [job for job, cell in zip(self.planned.jobs, cells, strict=True) if not cell.refused]
        cells += [self.runner.on_another(j, m) for j in self.usable if self._crosses(j) for m in asked.models
                  if m is not j.model]  # fmt: skip
        for model in asked.models:
            if not self.found[model.name].random:
                again = self.runner.changed_since(clean[model.name], model)
                self.found[model.name] = replace(self.found[model.name], answers_repeat=again)
        inspected = tuple(self.found[m.name] for m in asked.models)
        where = provenance(call, asked.x, asked.made.batch_size, inspected)
        where["precision"] = precision_flags(asked.made.crafting)
        where["peak_memory_bytes"] = max(self.runner.peak, peak_memory(asked.x.device))
        report = Report(
            asked.threat.plain(), (*clean.values(), *cells), (),
            not_tested(asked.models, asked.attacks, asked.threat, asked.made), where, tuple(probes), inspected,
            tuple(asked.y.tolist()), asked.suite, started, now(), (*remarks, *self._notes()), call_digest(call),
            asked.shard, required=asked.required,
        )  # fmt: skip
        return report if asked.shard[1] > 1 else replace(report, checks=judge(report))

    def _test_the_attack(self) -> None:
        probe = self.asked.made.probe
        n = 0 if probe is None else images_for(probe, self.planned, len(self.asked.models))
        if probe is None or not n:
            return
        for model in self.asked.models:
            info = self.found[model.name]
            tested = unit_test(model, info, self.asked.x[:n], self.asked.threat, probe.steps)
            self.found[model.name] = replace(info, unit_test=tested)

    def _run(self, progress: bool) -> tuple[list[Cell], list[Cell]]:
        expected = [job.passes() * self.found[job.model.name].seconds_a_pass for job in self.jobs]
        cells = []
        with tqdm(total=sum(expected), desc="attacks", disable=not progress, bar_format=BAR) as bar:
            for job, weight in zip(self.jobs, expected, strict=True):
                bar.set_postfix_str(f"{job.model.name}: {job.attack.titled(job.eot_samples)}", refresh=False)
                cells.append(self.runner.run(job, lambda share, weight=weight: bar.update(weight * share)))  # type: ignore[misc]
        return cells[: len(self.planned.jobs)], cells[len(self.planned.jobs) :]

    def _crosses(self, job: Job) -> bool:
        bare = job.knowledge in (Knowledge.UNDEFENDED, Knowledge.FULL)
        return self.asked.made.cross and bare and job.attack.bound is None

    def _notes(self) -> list[str]:
        store = self.store
        found = [f"{store.reused} blocks were read from the folder"] if store.reused else []
        return [*found, *(f"{name} was damaged and made anew" for name in store.damaged)]

    def examples(self) -> dict[str, Blocks]:
        """All examples by "model | attack | knowledge"."""
        return {f"{j.model.name} | {j.attack.titled(j.eot_samples)} | {j.knowledge.value}": self.runner.kept(j)
                for j in self.usable}  # fmt: skip


def _not_compiled(cells: Sequence[Cell]) -> list[str]:
    """Of rows whose passes were to be compiled, those of which none was: torch could not, or it did not pay."""
    asked = [c for c in cells if c.parameters.get("compiled") and not c.refused]
    rows = "; ".join(f"{c.model}: {c.attack} ({c.knowledge})" for c in asked if not c.observed.get("compiled"))
    return [f"torch.compile was of no use, or could not be used, for {rows}"] if rows else []


def read_back(store: Store, digest: str) -> Report | None:
    """The folder's report if it is of this very call."""
    text = store.finished()
    if text is None:
        return None
    try:
        there = Report.from_json(text)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"expected a whole report in {store.folder}, got a damaged one: {error}") from error
    passing = (Refusal.OUT_OF_MEMORY, Refusal.ERROR)  # which another try may mend
    final = not any(c.refusal in passing for c in (*there.cells, *there.probes))
    return there if there.call == digest and final else None


def finished(report: Report, work: Work) -> Report:
    """Writes the report; where another process has just written the same one, that one is given back."""
    store = work.store
    if store.folder is None:
        return report
    there = read_back(store, report.call)
    if there is not None and there.findings() == report.findings():
        return there
    store.finish(report.to_json(), work.examples())
    return Report.from_json(report.to_json())
