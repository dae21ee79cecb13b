"""Several reports side by side, with paired differences where they are over the same images."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

from art_ext.evaluation.report.data import CLEAN, Findings
from art_ext.evaluation.report.several import left
from art_ext.evaluation.report.tables import INTERVALS, Table, radius, table_lines
from art_ext.evaluation.statistics import paired_difference


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
        ValueError: fewer than two reports.
    """
    if len(reports) < 2:
        raise ValueError(f"expected at least two reports to compare, got {len(reports)}")
    found = [Entry(name, report, model) for name, report in reports.items() for model in report.models()]
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
        failed = [v.check for v in report.checks if v.model == model and v.verdict == "fail"]
        rows.append([
            entry.title, radius(report), report.suite or "own choice",
            str(clean.accuracy) if clean.images else "", once,
            str(again) if again is not None and again.repeats > 1 else "", ", ".join(failed),
        ])  # fmt: skip
    header = [
        "report: model",
        "threat",
        "suite",
        CLEAN,
        "worst case, R = 1",
        "worst case, all repeats",
        "failed checks",
    ]
    return header, rows


def differences(reports: Mapping[str, Findings]) -> Table:
    """A row a pair of defended models of different reports (of all models where none is): clean and worst case, R = 1.

    Points by which the first is better, paired on the images that both worst cases are over. The attacks need not be
    the same: a smaller worst case may mean a stronger attack.
    """
    every = entries(reports)
    chosen = [e for e in every if e.report.info(e.model).defended] or every
    rows = []
    for a, b in combinations(chosen, 2):
        if a.name != b.name:
            why = apart(a.report, b.report)
            rows.append([a.title, b.title, *([why, why] if why else _paired(a, b))])
    return ["first", "second", "clean, first minus second", "worst case at R = 1, first minus second"], rows


def apart(a: Findings, b: Findings) -> str:
    """Why two reports cannot be paired; empty where they can: same images in the same order, same threat."""
    if (a.threat["norm"], a.threat["eps"]) != (b.threat["norm"], b.threat["eps"]):
        return "not paired: another threat"
    n = min(len(a.labels), len(b.labels))
    hashes = [r.provenance.get("sha256_of_images") for r in (a, b)]
    if not n or a.labels != b.labels or None in hashes or hashes[0] != hashes[1]:
        return "not paired: other images"
    return ""


def markdown(reports: Mapping[str, Findings]) -> str:
    """Both tables."""
    parts = [f"Accuracy under attack. {INTERVALS}", "", *table_lines(*side_by_side(reports)), ""]
    parts += ["Paired differences in points, on the same images:", "", *table_lines(*differences(reports))]
    return "\n".join([*parts, ""])


def _paired(a: Entry, b: Entry) -> list[str]:
    found = []
    for cells in ([[e.report.clean(e.model)] for e in (a, b)], [e.report.attacked(e.model) for e in (a, b)]):
        if all(group and all(c.images for c in group) for group in cells):
            values = [left(group) for group in cells]
            n = min(map(len, values))
            found.append(paired_difference(values[0][:n], values[1][:n]).points)
        else:
            found.append("nothing to pair")
    return found
