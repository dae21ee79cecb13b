"""What the checks say of a report, judged anew, in the words of a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import parts

from art_ext.evaluation import Report, Verdict, judge
from art_ext.evaluation.judge import MODEL_CHECKS
from art_ext.evaluation.report.tables import in_cell

SWEPT = ("iterative not weaker", "budget monotone", "reaches chance", "converged", "clamp hides nothing", "seeds")
"""The checks that vary the attack; what they say is worth reading where they pass, too."""
LISTED = ("fail", "warn", "undetermined")
FEW = 4
"""Verdicts of one kind that stand in rows of their own; more are put into one."""


def judged(report: Report) -> Report:
    """The report with the verdicts that its answers have today.

    What a check of the model itself said when it was run is kept: reports before schema 3 lack what it saw.
    """
    now = judge(report)
    known = {(v.check, v.model) for v in now}
    kept = [v for v in report.checks if v.check in MODEL_CHECKS and (v.check, v.model) not in known]
    return replace(report, checks=(*kept, *now))


def sweeps(report: Report, without: Sequence[str]) -> list[str]:
    """What tells whether the attacks on a model can be trusted, as a table; not of models `without` a purifier."""
    rows = [v for v in report.checks if v.check in SWEPT and v.model not in without]
    return [
        "PGD swept over budgets, steps, draws and starts, on the first images:",
        "",
        _table([_row(v) for v in rows]),
    ]


def without_sweeps(report: Report, models: Sequence[str]) -> Report:
    """The report without what `sweeps` tells of the other models."""
    return replace(report, checks=tuple(v for v in report.checks if v.check not in SWEPT or v.model in models))


def unhappy(reports: Mapping[str, Report]) -> list[str]:
    """The verdicts that are no passes, as a table, and how often the checks passed or had nothing to judge.

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
    told = [f"Checks that passed, and how often: {times}." for times in _counted(every, "pass")]
    told += [f"Had nothing to judge: {times}." for times in _counted(every, "not run")]
    if not rows:
        return [" ".join(["No check warned, failed or was undetermined.", *told])]
    if len(reports) == 1:
        rows = [{k: v for k, v in row.items() if k != "part"} for row in rows]
    return ["What the checks say, beside passes:", "", _table(rows), "", " ".join(told)]


def _row(verdict: Verdict) -> dict[str, str]:
    return {k: in_cell(getattr(verdict, k)) for k in ("check", "model", "verdict", "detail")}


def _many(found: Sequence[tuple[str, Verdict]], several: bool) -> dict[str, str]:
    """One row of many verdicts of a check: on which models, and the first in full."""
    first, models = found[0], dict.fromkeys(v.model for _, v in found)
    where = f" in {first[0]}" if several else ""
    return {
        "part": ", ".join(dict.fromkeys(part for part, _ in found)),
        "check": first[1].check,
        "model": in_cell(f"{len(found)} times: {'; '.join(models)}"),
        "verdict": first[1].verdict,
        "detail": in_cell(f"for {first[1].model}{where}: {first[1].detail}"),
    }


def _counted(every: Sequence[tuple[str, Verdict]], said: str) -> list[str]:
    """How often each check said so, in words; nothing where none did."""
    times = Counter(v.check for _, v in every if v.verdict == said)
    return [", ".join(f"{check} ({n})" for check, n in sorted(times.items()))] if times else []


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    return parts.grid(["part", "check", "model", "verdict", "detail"], rows)
