"""A report for other programs: CSV, a LaTeX table, JUnit XML for build servers, SARIF for code scanning."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from lightning_fabric.loggers.logger import Logger

import art_ext
from art_ext.evaluation.report.criteria import Outcome, outcomes
from art_ext.evaluation.report.data import Findings, Verdict
from art_ext.evaluation.report.rows import rows
from art_ext.evaluation.report.tables import accuracy_table, one_line, radius
from art_ext.files import replacing

LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "%": r"\%", "&": r"\&", "#": r"\#", "_": r"\_", "$": r"\$",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip
SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {"fail": "error", "not met": "error", "warn": "warning", "not shown": "warning", "undetermined": "note"}
"""SARIF levels of what is listed there."""


def to_csv(report: Findings) -> str:
    """`rows` as comma-separated values, with a header."""
    found = rows(report)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(found[0]) if found else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: one_line(v) if isinstance(v, str) else v for k, v in row.items()} for row in found)
    return out.getvalue()


def to_latex(report: Findings) -> str:
    """The table of accuracies with booktabs rules, and what it shows as its caption."""
    header, body = accuracy_table(report)
    lines = [
        r"\begin{table}",
        rf"\caption{{Accuracy under attack, {_tex(radius(report))}, with 95\,\% intervals.}}",
        rf"\begin{{tabular}}{{{'l' * len(header)}}}",
        r"\toprule",
        _tex_row(header),
        r"\midrule",
        *map(_tex_row, body),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join([*lines, ""])


def to_junit(report: Findings) -> str:
    """Checks and criteria as test cases, a suite a model: what failed or is not met is a failure.

    What was not run or could not be told is skipped, with the reason; warnings stand in the case's output.
    """
    root = ElementTree.Element("testsuites", name="art-ext")
    for model in report.models():
        said = [v for v in report.checks if v.model == model]
        asked = [o for o in outcomes(report) if o.model == model]
        suite = ElementTree.SubElement(root, "testsuite", name=one_line(model))
        cases = [_case(suite, model, v.check, v.verdict, v.detail) for v in said]
        cases += [_case(suite, model, str(o.criterion), o.outcome, o.detail) for o in asked]
        for kind in ("failure", "skipped"):
            suite.set(f"{kind}s" if kind == "failure" else kind, str(sum(c.find(kind) is not None for c in cases)))
        suite.set("tests", str(len(cases)))
        suite.set("errors", "0")
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def to_sarif(report: Findings) -> str:
    """SARIF 2.1.0: a result for each check that failed, warned or could not tell, and each criterion not met."""
    found = [*_results(report.checks), *_results(outcomes(report))]
    names = {result["ruleId"]: result.pop("rule") for result in found}
    order = list(names)
    results = [{**result, "ruleIndex": order.index(result["ruleId"])} for result in found]
    driver = {
        "name": "art-ext",
        "version": art_ext.__version__,
        "rules": [{"id": rule, "name": names[rule], "shortDescription": {"text": names[rule]}} for rule in order],
    }
    run = {"tool": {"driver": driver}, "results": results}
    return json.dumps({"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1) + "\n"


EXPORTS: dict[str, tuple[str, Callable[[Findings], str]]] = {
    "csv": ("report.csv", to_csv),
    "latex": ("report.tex", to_latex),
    "junit": ("report.junit.xml", to_junit),
    "sarif": ("report.sarif", to_sarif),
}
"""File name and form by the name of the export."""


def known_exports(names: Iterable[str]) -> list[str]:
    """The names, each once.

    Raises:
        ValueError: an export that there is not.
    """
    asked = list(dict.fromkeys(names))
    if unknown := [name for name in asked if name not in EXPORTS]:
        raise ValueError(f"expected exports out of {', '.join(EXPORTS)}; got {', '.join(map(repr, unknown))}")
    return asked


def export(report: Findings, folder: Path | str, names: Iterable[str]) -> list[Path]:
    """Writes exports to a folder, each at once or not at all; gives the files.

    Raises:
        ValueError: an export that there is not; nothing was written.
    """
    texts = {Path(folder) / EXPORTS[name][0]: EXPORTS[name][1](report) for name in known_exports(names)}
    for path, text in texts.items():
        with replacing(path) as temporary:
            temporary.write_text(text, "utf-8")
    return list(texts)


def log_report(report: Findings, logger: Logger) -> None:
    """Writes what a report found to a tracker, such as `art_ext.training.made_logger` gives.

    Each row is "model/attack/knowledge" with accuracy, low and high, the ends of its interval; the worst case of each
    model that was attacked is one more. All are in [0, 1].

    Args:
        report: what was found.
        logger: of Lightning Fabric or with its `log_metrics(figures, step)` and `save()`.
    """
    found: dict[str, float] = {}
    for row in rows(report):
        if row["accuracy"] is not None:
            name = "/".join(row[k].replace("/", "_") for k in ("model", "attack", "knowledge") if row[k] != "none")
            found |= {f"{name}/{key}": row[key] for key in ("accuracy", "low", "high")}
    for model in report.models():
        if report.attacked(model):
            worst = report.worst_case(model)
            found |= {f"{model.replace('/', '_')}/worst_case/{key}": getattr(worst, name)
                      for key, name in (("accuracy", "mean"), ("low", "low"), ("high", "high"))}  # fmt: skip
    logger.log_metrics(found, 0)
    logger.save()


def _tex(text: str) -> str:
    return "".join(LATEX.get(c, c) for c in one_line(text))


def _tex_row(row: Sequence[str]) -> str:
    return f"{' & '.join(map(_tex, row))} \\\\"


def _case(suite: ElementTree.Element, model: str, name: str, said: str, detail: str) -> ElementTree.Element:
    case = ElementTree.SubElement(suite, "testcase", classname=f"art-ext.{one_line(model)}", name=one_line(name))
    if said in ("fail", "not met"):
        ElementTree.SubElement(case, "failure", message=one_line(detail), type=said)
    elif said in ("not run", "undetermined", "not shown"):
        ElementTree.SubElement(case, "skipped", message=f"{said}: {one_line(detail)}")
    elif said == "warn":
        ElementTree.SubElement(case, "system-out").text = f"warning: {one_line(detail)}"
    return case


def _results(said: Sequence[Verdict] | Sequence[Outcome]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for each in said:
        name, verdict = (each.check, each.verdict) if isinstance(each, Verdict) else (str(each.criterion), each.outcome)
        if verdict in LEVELS:
            text = one_line(f"{each.model}: {name}: {verdict}: {each.detail}")
            where = {"physicalLocation": {"artifactLocation": {"uri": "report.json"}}}
            found.append({
                "ruleId": "-".join(name.split()), "rule": name, "level": LEVELS[verdict], "message": {"text": text},
                "locations": [where],
            })  # fmt: skip
    return found
