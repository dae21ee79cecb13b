"""What the pages share: reports with their verdicts judged anew, sections, and tables of ablations."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from art_ext.evaluation import Interval, Report, Verdict, judge, mean_interval, paired_difference
from art_ext.evaluation.judge import MODEL_CHECKS
from art_ext.evaluation.report import several
from art_ext.evaluation.report.tables import in_cell

SWEPT = ("iterative not weaker", "budget monotone", "reaches chance", "converged", "clamp hides nothing", "seeds")
"""The checks that vary the attack; what they say is worth reading where they pass, too."""
LISTED = ("fail", "warn", "undetermined")
FEW = 4
"""Verdicts of one kind that stand in rows of their own; more are put into one."""


def read(folder: Path, name: str) -> Any:
    """The values of a result's JSON."""
    return json.loads((folder / f"{name}.json").read_text("utf-8"))


def there(folder: Path, *names: str) -> bool:
    """Whether a folder has all of these results."""
    return all((folder / f"{name}.json").is_file() for name in names)


def load(folder: Path, prefix: str, names: Iterable[str]) -> dict[str, Report]:
    """The reports of a folder by part, those that are there, their verdicts judged anew."""
    return {k: judged(Report.load(folder / f"{prefix}{k}.json")) for k in names if there(folder, f"{prefix}{k}")}


def judged(report: Report) -> Report:
    """The report with the verdicts that its answers have today.

    What a check of the model itself said when it was run is kept: reports before schema 3 lack what it saw.
    """
    now = judge(report)
    known = {(v.check, v.model) for v in now}
    kept = [v for v in report.checks if v.check in MODEL_CHECKS and (v.check, v.model) not in known]
    return replace(report, checks=(*kept, *now))


def section(title: str, *blocks: str) -> str:
    """A section of a page, without its empty blocks."""
    return "\n\n".join([f"## {title}", *filter(None, blocks)]) + "\n"


def show(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A report's table as Markdown."""
    marked = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(in_cell, row)) + " |" for row in marked)


def rows_of(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows of entries as Markdown."""
    return several.grid(columns, [dict(zip(columns, row, strict=True)) for row in rows])


def about(report: Report, **more: Any) -> str:
    """How a report was made, in short, as a line of code."""
    kept = ("versions", "python", "device", "threads", "seed", "images")
    return code({k: report.provenance[k] for k in kept} | more)


def options(found: Mapping[str, Any]) -> dict[str, Any]:
    """What a result was made with; where it was put says nothing."""
    kept = {k: v for k, v in found["options"].items() if k not in ("runs", "out")}
    return {"options": kept, "versions": found["versions"]}


def code(values: Any) -> str:
    """Values as a line of code."""
    return f"`{json.dumps(values)}`"


def intervals(entries: Mapping[str, Sequence[float]]) -> list[list[str]]:
    """A row each: name, and mean with its interval."""
    return [[k, str(mean_interval(v))] for k, v in entries.items()]


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


def ablation_table(
    rows: Sequence[Mapping[str, Any]], attacks: Mapping[str, str], compared: Sequence[str], full: str
) -> str:
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
