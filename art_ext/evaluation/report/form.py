"""The JSON form of a report: schema 3 is written, 1 and 2 are read as well."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from art_ext.evaluation.inspect.info import ModelInfo
from art_ext.evaluation.report.data import Cell, Findings, Refusal, Verdict
from art_ext.evaluation.tags import Tag, tags_of
from art_ext.evaluation.threat import Knowledge

SCHEMA = 3
"""Version of the JSON form (see `report.schema.json`), raised when readers of the old one would misread it."""
READABLE = (1, 2, 3)
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
"""One character a class where there are few; "-" for logits that are not finite."""
ESTIMANDS = {
    "accuracy": {"estimand": "mean over images and repeats of right answers", "interval": "Wilson, 95 %, over images"},
    "worst": {"estimand": "images right in every one of R repeats", "interval": "Wilson, 95 %, over images"},
    "majority": {"estimand": "images right in more than half of R repeats", "interval": "Wilson, 95 %, over images"},
    "worst_case": {
        "estimand": "images right in every repeat under every attack inside the ball, over images that all saw",
        "interval": "Wilson, 95 %, over images",
    },
    "paired": {"estimand": "mean difference on the same images", "interval": "normal, 95 %, over images"},
    "asked attacks": {"estimand": "discordant images at R = 1", "interval": "exact McNemar test, one-sided 2.5 %"},
    "clean accuracy": {"estimand": "images right at R = 1", "interval": "Clopper-Pearson, 95 %"},
}
"""What each figure of a report is, and how its interval is made."""
EMPTY = Cell("", "", "", ())


def written(report: Findings) -> str:
    """A report as JSON; `read` gives it back unchanged."""
    data = {f.name: getattr(report, f.name) for f in fields(Findings)}
    data |= {"cells": [_packed(c) for c in report.cells], "probes": [_packed(c) for c in report.probes]}
    data["checks"] = [asdict(v) for v in report.checks]
    data["inspected"] = [m.plain() for m in report.inspected]
    return json.dumps({"schema": SCHEMA, "estimands": ESTIMANDS, **data}, indent=1, sort_keys=True)


def read(text: str) -> dict[str, Any]:
    """The fields of a report from its JSON, in this or an earlier schema.

    Raises:
        ValueError: not a report, or one of another schema.
    """
    data = json.loads(text)
    schema = data.pop("schema", None) if isinstance(data, dict) else None
    if schema not in READABLE:
        raise ValueError(f"expected a report of schema {', '.join(map(str, READABLE))}, got {schema!r}")
    data.pop("estimands", None)
    labels = tuple(data.get("labels", ()))
    found: dict[str, Any] = {
        **data,
        "cells": tuple(_unpacked(c, labels) for c in data.get("cells", ())),
        "probes": tuple(_unpacked(c, labels) for c in data.get("probes", ())),
        "checks": tuple(Verdict(**v) for v in data["checks"]),
        "inspected": tuple(ModelInfo.from_plain(m) for m in data.get("inspected", ())),
    }
    for name in ("not_tested", "labels", "notes"):
        found[name] = tuple(data.get(name, ()))
    return found


def _packed(cell: Cell) -> dict[str, Any]:
    """A cell without its defaults; classes as characters where they are few, flags as 0 and 1."""
    data = {f.name: getattr(cell, f.name) for f in fields(cell)}
    data = {k: v for k, v in data.items() if v != getattr(EMPTY, k) or k in ("model", "attack", "knowledge", "correct")}
    if cell.predicted:
        del data["correct"]
        data["predicted"] = [_row_of(row) for row in cell.predicted]
        data["repeats"] = cell.repeats
    for k in ("correct", "hits"):
        if k in data:
            data[k] = ["".join("01"[v] for v in row) for row in data[k]]
    if "tags" in data:
        data["tags"] = [tag.value for tag in Tag if tag in cell.tags]
    return data


def _row_of(row: Sequence[int]) -> str | list[int]:
    if all(v < len(DIGITS) for v in row):
        return "".join("-" if v < 0 else DIGITS[v] for v in row)
    return list(row)


def _unpacked(data: Mapping[str, Any], labels: Sequence[int]) -> Cell:
    ready = _renamed({k: v for k, v in data.items() if k != "repeats"})
    for k in ("skipped", "indices"):
        if k in ready:
            ready[k] = tuple(ready[k])
    for k in ("correct", "hits"):
        if k in ready:
            ready[k] = tuple(tuple(v in (True, "1") for v in row) for row in ready[k])
    if "refusal" in ready:
        ready["refusal"] = Refusal(ready["refusal"])
    if "predicted" in ready:
        ready["predicted"] = tuple(tuple(_class_of(v) for v in row) for row in ready["predicted"])
        ready["correct"] = _correct(ready, labels)
    return Cell(**ready)


def _renamed(cell: dict[str, Any]) -> dict[str, Any]:
    """A cell in today's words, where it is of a report before schema 3."""
    if "probe" in cell:
        cell["tags"] = tags_of(cell.pop("probe"))
    elif "tags" in cell:
        cell["tags"] = frozenset(map(Tag, cell["tags"]))
    if "draws" in cell.get("parameters", {}):
        cell["parameters"] = {("eot_samples" if k == "draws" else k): v for k, v in cell["parameters"].items()}
    if cell.get("knowledge") == "own":
        cell["knowledge"] = Knowledge.ADAPTIVE.value
    return cell


def _class_of(value: str | int) -> int:
    return value if isinstance(value, int) else DIGITS.find(value)  # "-" is not found: -1


def _correct(cell: Mapping[str, Any], labels: Sequence[int]) -> tuple[tuple[bool, ...], ...]:
    skipped = set(cell.get("skipped", ()))
    rows = cell["predicted"]
    indices = cell.get("indices") or range(len(rows[0]) if rows else 0)
    return tuple(
        tuple(at not in skipped and row[at] == labels[i] for at, i in enumerate(indices)) for row in rows
    )  # fmt: skip
