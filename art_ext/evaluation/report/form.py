"""The JSON form of a report: schema 3 is written, 1 and 2 are read as well."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from art_ext.evaluation.inspect.info import ModelInfo
from art_ext.evaluation.report.data import Cell, Findings, Refusal, Rows, Verdict
from art_ext.evaluation.tags import Tag

SCHEMA = 3
"""Version of the JSON form (see `report.schema.json`), raised when readers of the old one would misread it."""
READABLE = (1, 2, 3)
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
"""One character a class where there are few; "-" for logits that are not finite."""
NUMBERS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
"""JSON has no such numbers: they are written as {"not finite": "nan"}."""
SINGLE = "Student's t over images and four added ones, two right and two wrong, 95 %, n counts images"
PAIRED = "Student's t over images and two added ones that differ by one, once in each direction, 95 %, n counts images"
TESTED = "one-sided: fails at 0.5 %, warns at 2.5 %, after Holm where a check makes several tests"
ESTIMANDS = {
    "accuracy": {"estimand": "mean over images and their R repeats of right answers", "interval": SINGLE},
    "worst": {"estimand": "share of images that are right in every one of R repeats", "interval": SINGLE},
    "vote": {
        "estimand": "share of images whose right class has the most votes of R repeats, ties in part; where classes are"
        " unknown (schema 1 and 2), share of images that are right in more than half of them",
        "interval": SINGLE,
    },
    "success": {
        "estimand": "mean over images and repeats of the class that a targeted attack wanted",
        "interval": SINGLE,
    },
    "worst_case": {
        "estimand": "share of images that are right in every one of R repeats under every attack inside the ball, over"
        " the images that all of them saw; at R = 1 the mean over the repeats",
        "interval": SINGLE,
    },
    "repeat_curve": {
        "estimand": "worst case of r of the R repeats, drawn without replacement: unbiased for r repeats",
        "interval": SINGLE,
    },
    "estimated": {
        "estimand": "worst case at R = 1 over all N images, of which some attacks saw m only: mean under an attack that"
        " saw all N, plus the mean difference of the worst case from it over the m",
        "interval": "Student's t, 95 %, from the variances of that difference over m images and of the worst case over"
        " N, with images added as for paired and single means; n counts N",
    },
    "curve": {"estimand": "accuracy under the probe at a value of eps, steps or EOT samples", "interval": SINGLE},
    "paired": {
        "estimand": "mean over the same images of a difference of shares of right answers",
        "interval": PAIRED,
    },
    "paired checks": {
        "estimand": "images that one attack breaks and another does not, and the reverse, at R = 1",
        "interval": f"exact McNemar test, {TESTED}",
    },
    "counting checks": {
        "estimand": "share of images, or of planted examples, that a check holds against a limit",
        "interval": f"exact binomial test, {TESTED}",
    },
}
"""What each figure of a report is, and how its interval is made."""
EMPTY = Cell("", "", "", ())
ALWAYS = ("model", "attack", "knowledge", "correct")


def written(report: Findings) -> str:
    """A report as JSON; `read` gives it back unchanged."""
    data = {f.name: getattr(report, f.name) for f in fields(Findings)}
    for group in ("cells", "probes"):
        data[group] = [_packed(c, report.labels) for c in data[group]]
    data["checks"] = [asdict(v) for v in report.checks]
    data["inspected"] = [m.plain() for m in report.inspected]
    whole = {"schema": SCHEMA, "estimands": ESTIMANDS, **data}
    return json.dumps(_in_json(whole), indent=1, sort_keys=True, allow_nan=False)


def read(text: str) -> dict[str, Any]:
    """The fields of a report from its JSON, in this or an earlier schema.

    Raises:
        ValueError: not a report, a damaged one, or one of another schema.
    """
    try:
        data = json.loads(text, object_hook=_number)
    except ValueError as error:
        raise ValueError(f"expected a report as JSON, got a damaged one: {error}") from error
    schema = data.pop("schema", None) if isinstance(data, dict) else None
    if isinstance(schema, bool) or schema not in READABLE:
        raise ValueError(f"expected a report of schema {', '.join(map(str, READABLE))}, got {schema!r}")
    data.pop("estimands", None)
    try:
        found = _fields(data)
        Findings(**found)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        said = f"{type(error).__name__}: {error}"
        raise ValueError(f"expected a report of schema {schema}, got a damaged one ({said})") from error
    return found


def _fields(data: Mapping[str, Any]) -> dict[str, Any]:
    labels = tuple(data.get("labels", ()))
    return {
        **data,
        "cells": tuple(_unpacked(c, labels) for c in data["cells"]),
        "probes": tuple(_unpacked(c, labels) for c in data.get("probes", ())),
        "checks": tuple(Verdict(**v) for v in data["checks"]),
        "inspected": tuple(ModelInfo.from_plain(m) for m in data.get("inspected", ())),
        "labels": labels,
        "not_tested": tuple(data["not_tested"]),
        "notes": tuple(data.get("notes", ())),
        "shard": tuple(data.get("shard", (0, 1))),
        "required": tuple(data.get("required", ())),
    }


def _packed(cell: Cell, labels: Sequence[int]) -> dict[str, Any]:
    """A cell without its defaults; flags as 0 and 1, and none where classes and labels say the same."""
    data = {f.name: getattr(cell, f.name) for f in fields(cell)}
    data = {k: v for k, v in data.items() if k in ALWAYS or v != getattr(EMPTY, k)}
    data["repeats"] = cell.repeats
    if cell.predicted:
        data["predicted"] = [_row_of(row) for row in cell.predicted]
        if _correct(cell.predicted, cell.indices, labels) == cell.correct:
            del data["correct"]
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
    ready = {k: v for k, v in data.items() if k != "repeats"}
    for k in ("skipped", "indices", "losses"):
        if k in ready:
            ready[k] = tuple(ready[k])
    for k in ("correct", "hits"):
        if k in ready:
            ready[k] = tuple(tuple(v in (True, "1") for v in row) for row in ready[k])
    if "probe" in ready:
        ready["tags"] = ready.pop("probe")
    elif "tags" in ready:
        ready["tags"] = frozenset(map(Tag, ready["tags"]))
    if "refusal" in ready:
        ready["refusal"] = Refusal(ready["refusal"])
    if "predicted" in ready:
        ready["predicted"] = tuple(_row_from(row) for row in ready["predicted"])
        ready.setdefault("correct", _correct(ready["predicted"], ready.get("indices", ()), labels))
        if ready["correct"] is None:
            raise ValueError("expected a label for every class that a model gave, got fewer")
    return Cell(**ready)


def _row_from(row: str | Sequence[int]) -> tuple[int, ...]:
    return tuple(DIGITS.find(v) for v in row) if isinstance(row, str) else tuple(row)  # "-" is not found: -1


def _correct(predicted: Sequence[Sequence[int]], indices: Sequence[int], labels: Sequence[int]) -> Rows | None:
    """What classes and labels say is right; None where a label is missing."""
    images = len(predicted[0])
    places = indices or range(images)
    if len(places) != images or any(i >= len(labels) for i in places):
        return None
    return tuple(tuple(row[at] == labels[i] for at, i in enumerate(places)) for row in predicted)


def _in_json(value: Any) -> Any:
    """The value with numbers that JSON lacks written in words."""
    if isinstance(value, Mapping):
        return {k: _in_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_in_json(v) for v in value]
    return {"not finite": str(float(value))} if isinstance(value, float) and not math.isfinite(value) else value


def _number(found: dict[str, Any]) -> Any:
    """What `_in_json` wrote in words as the number that it is."""
    return NUMBERS.get(found["not finite"], found) if found.keys() == {"not finite"} else found
