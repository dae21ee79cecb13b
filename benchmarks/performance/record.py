"""Figures as JSON: rows with every round, ratios, robust accuracies, and targets; written at once or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from art_ext.evaluation import mean_interval, paired_difference
from art_ext.files import replacing
from benchmarks.performance.measure import TIMES, Comparison, Measured
from benchmarks.performance.targets import TARGETS, Target

Json = dict[str, Any]


def row(comparison: Comparison, found: Mapping[str, Measured], *, threads: int, device: str, seed: int) -> Json:
    """A comparison as JSON values.

    Targets and the column `ratio` are judged by CPU time where there is one thread on a CPU, by wall time elsewhere.

    Args:
        comparison: what was compared.
        found: what `measured` gave.
        threads: of torch.
        device: "cpu" or "cuda".
        seed: of every run.
    """
    by = comparison.measures[0]
    if comparison.measures == TIMES and (threads > 1 or device != "cpu"):
        by = "wall"
    contenders = [_contender(name, found, comparison) for name in found]
    targets = [_target(t, found, by, comparison.repeats) for t in TARGETS.get(comparison.name, ())]
    return {
        "topic": comparison.topic, "name": comparison.name, "threads": threads, "device": device, "seed": seed,
        "settings": dict(comparison.settings), "reference": comparison.reference, "judged_by": by,
        "repeats": comparison.repeats, "contenders": contenders, "targets": targets,
    }  # fmt: skip


def _contender(name: str, found: Mapping[str, Measured], comparison: Comparison) -> Json:
    mine, reference = found[name], found[comparison.reference]
    if mine.unavailable:
        return {"name": name, "unavailable": mine.unavailable}
    made: Json = {"name": name, "median": {k: median(v) for k, v in mine.values.items()}, "rounds": mine.values}
    usual = {} if reference.unavailable else {k: median(v) for k, v in reference.values.items()}
    made["ratio"] = {k: v / usual[k] for k, v in made["median"].items() if usual.get(k)}
    if mine.robust:
        shares = _shares(mine, comparison.repeats)
        made |= {"robust": mine.robust, "accuracy": list(mean_interval(shares, comparison.repeats))}
        if reference.robust:
            made["minus_ours"] = list(paired_difference(shares, _shares(reference, comparison.repeats)))
    return made


def _shares(found: Measured, repeats: int) -> list[float]:
    return [int(digit) / repeats for digit in found.robust]


def _target(target: Target, found: Mapping[str, Measured], by: str, repeats: int) -> Json:
    """A target and what was found; it is not met where our attack surely leaves more than the other one."""
    made: Json = {"ours": target.ours, "against": target.against, "bound": target.bound, "most": target.most}
    ours, theirs = found.get(target.ours), found.get(target.against) if target.against else None
    missing = [m for m, name in ((ours, target.ours), (theirs, target.against)) if name and (not m or m.unavailable)]
    if ours is None or missing:
        return made | {"found": None, "met": None}
    ratio = target.ratio(median(ours.values[by]), 0.0 if theirs is None else median(theirs.values[by]))
    made |= {"found": ratio, "met": target.met(ratio)}
    if theirs is not None and ours.robust and theirs.robust:
        apart = paired_difference(_shares(ours, repeats), _shares(theirs, repeats))
        made |= {"leaves_more": list(apart), "met": made["met"] and apart.low <= 0}
    return made


def load(file: Path, where: Json) -> Json:
    """What the file holds, to go on with; a new record where there is no file.

    Args:
        file: of an earlier run.
        where: `machine` and `versions` of this run.

    Raises:
        ValueError: the file is no record, or one of another machine or of other versions.
    """
    if not file.exists():
        return {**where, "rows": []}
    record = read(file)
    other = [key for key in where if record.get(key) != where[key]]
    if other:
        theirs, ours = ({key: held.get(key) for key in other} for held in (record, where))
        raise ValueError(f"expected figures of {ours} in {file}, got {theirs}: name another file with --out")
    return record


def read(file: Path) -> Json:
    """The record in a file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it holds something else.
    """
    try:
        record: Json = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"expected a record of `python -m benchmarks` in {file}, got no JSON: {error}") from error
    if not isinstance(record, dict) or not isinstance(record.get("rows"), list):
        raise ValueError(f"expected a record of `python -m benchmarks` in {file}, got other JSON")
    return record


def put(rows: Sequence[Json], new: Json) -> list[Json]:
    """The rows with a new one in the place of that of the same name, threads and device, or at the end."""
    place = next((i for i, old in enumerate(rows) if _key(old) == _key(new)), len(rows))
    return [*rows[:place], new, *rows[place + 1 :]]


def _key(row: Json) -> tuple[Any, ...]:
    return row["name"], row["threads"], row["device"]


def write(file: Path, text: str) -> None:
    """Puts a text in the place of a file at once."""
    with replacing(file) as temporary:
        temporary.write_text(text, "utf-8")


def dumps(record: Json) -> str:
    """JSON with a line for each contender's rounds."""
    return json.dumps(record, indent=1) + "\n"
