"""Models of one report or of several side by side, with paired differences where they are over the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from art_ext.evaluation.report.data import CLEAN, Findings
from art_ext.evaluation.report.pairs import ALONE, PAIRED, compared, paired
from art_ext.evaluation.report.tables import INTERVALS, Table, bare_of, radius, table_lines


class Entry(NamedTuple):
    """A model of a report."""

    name: str
    report: Findings
    model: str

    @property
    def title(self) -> str:
        return f"{self.name}: {self.model}"


def entries(reports: Mapping[str, Findings]) -> list[Entry]:
    """The models of the reports, by the names that the reports are given; undefended ones last.

    Raises:
        ValueError: no report, or one report of a single model.
    """
    found = [Entry(name, report, model) for name, report in reports.items() for model in report.models()]
    if len(found) < 2:
        raise ValueError(f"expected several reports, or one of several models, to compare, got {len(found)} model(s)")
    return sorted(found, key=lambda e: not e.report.info(e.model).defended)


def side_by_side(reports: Mapping[str, Findings]) -> Table:
    """A row a model: threat, suite, clean accuracy, worst case at R = 1 and at all repeats, and failed checks."""
    rows = []
    for entry in entries(reports):
        report, model = entry.report, entry.model
        attacked = bool(report.attacked(model))
        once = str(report.worst_case(model, repeats=1)) if attacked else "no attack counts"
        again = report.worst_case(model) if attacked else None
        clean = report.clean(model)
        bare = bare_of(report, model) if report.info(model).defended else None
        alone = bare is not None and report.attacked(bare)
        failed = [v.check for v in report.checks if v.model == model and v.verdict == "fail"]
        rows.append([
            entry.title, radius(report), report.suite or "own choice",
            str(clean.accuracy) if clean.images else "", once,
            str(again) if again is not None and again.repeats > 1 else "",
            str(report.worst_case(bare, repeats=1)) if bare is not None and alone else "", ", ".join(failed),
        ])  # fmt: skip
    header = [
        "report: model",
        "threat",
        "suite",
        CLEAN,
        "worst case, R = 1",
        "worst case, all repeats",
        "its classifier alone, R = 1",
        "failed checks",
    ]
    return header, rows


def differences(reports: Mapping[str, Findings], against: str | None = None) -> Table:
    """A row a pair of models, of one report or of two: clean and worst case, R = 1.

    Points by which the first is better, paired on the images that both worst cases are over. Undefended models are left
    out where two others are there. The attacks need not be the same: a smaller worst case may mean a stronger attack.

    Args:
        reports: by name.
        against: name of a model, alone or as "report: model": each other model minus this one, whatever it is.

    Raises:
        ValueError: `against` is no model of these reports, or several.
    """
    every = entries(reports)
    if against is not None:
        second = _named(every, against)
        pairs = [(e, second) for e in every if e != second]
    else:
        chosen = [e for e in every if e.model in compared(e.report)]
        pairs = list(combinations(chosen if len(chosen) > 1 else every, 2))
    rows = []
    for a, b in pairs:
        why = apart(a.report, b.report)
        rows.append([a.title, b.title, *([why, why] if why else paired(a.report, a.model, b.report, b.model))])
    return ["first", "second", *PAIRED], rows


def _named(every: Sequence[Entry], name: str) -> Entry:
    """The one model of this name or title."""
    found = [e for e in every if name in (e.model, e.title)]
    if len(found) != 1:
        titles = ", ".join(repr(e.title) for e in every)
        what = f"which {len(found)} reports have: say REPORT: MODEL" if found else "which no report has"
        raise ValueError(f"expected one model to compare with, out of {titles}; got {name!r}, {what}")
    return found[0]


def apart(a: Findings, b: Findings) -> str:
    """Why two reports cannot be paired; empty where they can: same images in the same order, same threat."""
    if (a.threat["norm"], a.threat["eps"]) != (b.threat["norm"], b.threat["eps"]):
        return "not paired: another threat"
    n = min(len(a.labels), len(b.labels))
    hashes = [r.provenance.get("sha256_of_images") for r in (a, b)]
    if not n or a.labels != b.labels or None in hashes or hashes[0] != hashes[1]:
        return "not paired: other images"
    return ""


def markdown(reports: Mapping[str, Findings], against: str | None = None) -> str:
    """Both tables; `against` as in `differences`."""
    found = differences(reports, against)
    parts = [f"Accuracy under attack. {INTERVALS}", "", *table_lines(*side_by_side(reports)), ""]
    parts += [f"Paired differences in points, on the same images. {ALONE}", "", *table_lines(*found)]
    return "\n".join([*parts, ""])
