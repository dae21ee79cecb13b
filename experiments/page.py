"""What the pages share: reports with their verdicts judged anew, sections, and tables of ablations."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from art_ext.evaluation import Interval, Report, Verdict, judge, mean_interval, paired_difference
from art_ext.evaluation.judge import MODEL_CHECKS
from art_ext.evaluation.report import several
from art_ext.evaluation.report.tables import in_cell, table_lines
from experiments.core import Experiment, Part, Table

SWEPT = ("iterative not weaker", "budget monotone", "reaches chance", "converged", "clamp hides nothing", "seeds")
"""The checks that vary the attack; what they say is worth reading where they pass, too."""
LISTED = ("fail", "warn", "undetermined")
FEW = 4
"""Verdicts of one kind that stand in rows of their own; more are put into one."""


def read(folder: Path, name: str) -> Any:
    """The values of a result's JSON; None where it is not there."""
    return json.loads((folder / f"{name}.json").read_text("utf-8")) if there(folder, name) else None


def there(folder: Path, *names: str) -> bool:
    """Whether a folder has all of these results."""
    return all((folder / f"{name}.json").is_file() for name in names)


@dataclass(frozen=True)
class Results:
    """The results of an experiment that a folder holds."""

    folder: Path
    experiment: Experiment
    seed: int = 0

    def reports(self, names: Iterable[str] = ()) -> dict[str, Report]:
        """Those that are there of the parts named, in that order, or of all, their verdicts judged anew."""
        parts = self.experiment.parts
        wanted = [k for k in names or parts if isinstance(parts.get(k), Part)]
        files = {k: self.folder / f"{self.experiment.file(k, self.seed)}.json" for k in wanted}
        return {k: judged(Report.load(file)) for k, file in files.items() if file.is_file()}

    def values(self, part: str) -> Any:
        """The values of the JSON of a part that is no report; None where it is not there."""
        return read(self.folder, self.experiment.file(part, self.seed))

    def missing(self, names: Iterable[str]) -> str:
        """A sentence on those of these parts that have not been run, if there are any."""
        lacking = [f"`{k}`" for k in names if not there(self.folder, self.experiment.file(k, self.seed))]
        return f"Not measured: {', '.join(lacking)}." if lacking else ""

    def picture(self, name: str, title: str) -> str:
        """A picture beside the results, as Markdown, if it is there."""
        file = f"{self.experiment.file(name, self.seed)}.png"
        return f"![{title}]({file})" if (self.folder / file).is_file() else ""


def judged(report: Report) -> Report:
    """The report with the verdicts that its answers have today.

    What a check of the model itself said when it was run is kept: reports before schema 3 lack what it saw.
    """
    now = judge(report)
    known = {(v.check, v.model) for v in now}
    kept = [v for v in report.checks if v.check in MODEL_CHECKS and (v.check, v.model) not in known]
    return replace(report, checks=(*kept, *now))


def section(title: str, *blocks: str | Iterable[str]) -> str:
    """A section of a page, without its empty blocks."""
    flat = [text for block in blocks for text in ([block] if isinstance(block, str) else block) if text]
    return "\n\n".join([f"## {title}", *flat]) + "\n"


def show(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A report's table as Markdown."""
    return "\n".join(table_lines(header, [*rows]))


def grid(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of our own as Markdown, which may have code in it."""
    return several.grid(header, [dict(zip(header, row, strict=True)) for row in rows])


def means(header: Sequence[str], entries: Mapping[str, Sequence[float]]) -> str:
    """A row each: name, and mean with its interval, as Markdown."""
    return grid(header, [[k, str(mean_interval(v))] for k, v in entries.items()])


def about(report: Report, found: Mapping[str, Any] | None = None, **more: Any) -> str:
    """How a report was made, in short, and another result beside it, as a line of code."""
    kept = ("versions", "python", "device", "threads", "seed", "images")
    return code({k: report.provenance[k] for k in kept} | (options(found) if found else {}) | more)


def options(found: Mapping[str, Any]) -> dict[str, Any]:
    """What a result was made with; where it was put says nothing."""
    kept = {k: v for k, v in found["options"].items() if k not in ("runs", "out")}
    return {"options": kept, "versions": found["versions"]}


def made_by(found: Mapping[str, Any], **more: Any) -> str:
    """How a result was made, as a line of code."""
    return code(options(found) | more)


def code(values: Any) -> str:
    """Values as a line of code."""
    return f"`{json.dumps(values)}`"


def tables(experiment: Experiment, folder: Path, seed: int = 0) -> Iterator[tuple[str, str]]:
    """Title and Markdown of each table of an experiment whose parts a folder holds."""
    reports = Results(folder, experiment, seed).reports()
    for title, table in experiment.tables.items():
        if reports.keys() & {*table.parts}:
            yield title, laid_out(table, reports)


def laid_out(table: Table, reports: Mapping[str, Report]) -> str:
    """A declared table of its parts' reports, as far as they are there, and the differences of its pairs."""
    chosen = {k: several.only(r, table.models or r.models()) for k, r in reports.items() if k in table.parts}
    found = [chosen[k] for k in table.parts if k in chosen]
    worst: dict[str, list[Report]] = {}
    for group in (g for g in table.worst if chosen.keys() >= {*g}):
        for model in chosen[group[0]].models():
            worst.setdefault(model, [chosen[k] for k in table.parts if k in group])
    compared = {k: v for k, v in table.columns.items() if k in (table.compared or table.columns)}
    here = {m for r in found for m in r.models()}
    gains = several.gains(found, table.pairs, compared) if any(here.issuperset(p) for p in table.pairs) else ""
    return "\n\n".join(filter(None, [several.table(found, table.columns, worst), gains]))


def sweeps(report: Report, without: Sequence[str]) -> str:
    """What tells whether the attacks on a model can be trusted, as a table; not of models `without` a purifier."""
    rows = [v for v in report.checks if v.check in SWEPT and v.model not in without]
    told = "PGD swept over budgets, steps, draws and starts, on the first images:"
    return f"{told}\n\n{_table([_row(v) for v in rows])}"


def without_sweeps(report: Report, models: Sequence[str]) -> Report:
    """The report without what `sweeps` tells of the other models."""
    return replace(report, checks=tuple(v for v in report.checks if v.check not in SWEPT or v.model in models))


def unhappy(reports: Mapping[str, Report]) -> str:
    """The verdicts that are no passes, as a table, and how many passed or had nothing to judge.

    Args:
        reports: by part, `judged`.
    """
    every = [(part, v) for part, report in reports.items() for v in report.checks]
    rows = []
    for said in LISTED:
        for check in dict.fromkeys(v.check for _, v in every if v.verdict == said):
            found = [(part, v) for part, v in every if (v.check, v.verdict) == (check, said)]
            single = len(found) <= FEW
            rows += [{"part": part, **_row(v)} for part, v in found] if single else [_many(found, len(reports) > 1)]
    times = Counter(v.verdict for _, v in every)
    told = f"Checks that passed: {times['pass']}; that had nothing to judge: {times['not run']}."
    if not rows:
        return f"No check warned, failed or was undetermined. {told}"
    if len(reports) == 1:
        rows = [{k: v for k, v in row.items() if k != "part"} for row in rows]
    return f"What the checks say, beside passes:\n\n{_table(rows)}\n\n{told}"


def by_knowledge(report: Report) -> str:
    """The worst case by model and knowledge, and one for all knowledges of a model, as Markdown."""
    drawn = any(report.clean(m).repeats > 1 for m in report.models())
    rows = []
    for model in report.models():
        held = report.attacked(model)
        known = list(dict.fromkeys(c.knowledge for c in held))
        for knowledge in [*known, *(["any"] if len(known) > 1 else [])]:
            cells = [c for c in held if knowledge in (c.knowledge, "any")]
            entries = several.entries(cells, report.clean(model), drawn)
            rows.append({"model": model, "knowledge": knowledge, **entries})
    return several.grid(["model", "knowledge", *several.COLUMNS], rows)


def over_seeds(rows: Sequence[Mapping[str, Any]], variant: str, attack: str) -> list[float]:
    """Share of the seeds in which a variant classified each image correctly."""
    runs = [r["correct"][attack] for r in rows if r["variant"] == variant]
    return [sum(column) / len(column) for column in zip(*runs, strict=True)]


def ablations(rows: Sequence[Mapping[str, Any]], attacks: Mapping[str, str], compared: Sequence[str], full: str) -> str:
    """Accuracy of each variant under each attack, and paired differences to the full method, as Markdown.

    Args:
        rows: one a variant and seed, with `correct`: answers by attack.
        attacks: their titles by key.
        compared: keys of the attacks whose difference is shown.
        full: the variant that the others are compared with.
    """
    minus = [f"{attacks[a]} minus full" for a in compared]
    whole = {a: over_seeds(rows, full, a) for a in compared}
    lines = []
    for name in dict.fromkeys(r["variant"] for r in rows):
        mean = {a: over_seeds(rows, name, a) for a in attacks}
        gaps = [paired_difference(mean[a], whole[a]) for a in compared if name != full]
        entries = [name, *(str(mean_interval(v)) for v in mean.values()), *map(apart, gaps)]
        lines.append(entries + [""] * (len(minus) - len(gaps)))
    return show(["variant (differences: over images, for these networks)", *attacks.values(), *minus], lines)


def common(*answers: Sequence[float]) -> list[Sequence[float]]:
    """Answers of several models to the images that all have seen, the first ones."""
    n = min(map(len, answers))
    return [each[:n] for each in answers]


def apart(gap: Interval) -> str:
    """A difference in points, without n."""
    return f"{100 * gap.mean:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]"


def _row(verdict: Verdict) -> dict[str, str]:
    return {k: in_cell(getattr(verdict, k)) for k in ("check", "model", "verdict", "detail")}


def _many(found: Sequence[tuple[str, Verdict]], several_parts: bool) -> dict[str, str]:
    """One row of many verdicts of a check: on which models, and the first in full."""
    first, models = found[0], dict.fromkeys(v.model for _, v in found)
    where = f" in {first[0]}" if several_parts else ""
    return {
        "part": ", ".join(dict.fromkeys(part for part, _ in found)),
        "check": first[1].check,
        "model": in_cell(f"{len(found)} times: {'; '.join(models)}"),
        "verdict": first[1].verdict,
        "detail": in_cell(f"for {first[1].model}{where}: {first[1].detail}"),
    }


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    return several.grid(["part", "check", "model", "verdict", "detail"], rows)
