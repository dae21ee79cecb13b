"""The page that is rendered from the figures alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from art_ext.evaluation import Interval

INTRODUCTION = """# Performance

Written by `python -m benchmarks` from `performance.json`. Contenders of a row run in turn in one process; a figure is
the median of the rounds. *Times ours* is a contender's time (memory) over that of the row's reference, in bold: above 1
the reference is faster (smaller). It and the targets are of CPU time with one thread on a CPU, of wall time otherwise.
*Robust* is the accuracy that the attack leaves, with a 95 % Wilson interval; *minus ours* is paired on the same images.
A target of speed is not met where our attack surely leaves more than the one that it is compared with.
"""
UNITS = {"cpu": "CPU s", "wall": "wall s", "mib": "MiB"}
ORDER = ("cpu", "wall", "mib")


def render(record: dict[str, Any]) -> str:
    """The page of a record, Markdown."""
    return "\n".join(
        [INTRODUCTION, *_where(record), "## Targets", "", *_targets(record["rows"]), *_rows(record["rows"])]
    )


def _where(record: dict[str, Any]) -> list[str]:
    machine = record["machine"]
    known = [name for name in ("avx512_bf16", "amx_bf16") if machine[name]]
    hardware = [machine["cpu"], f"{machine['cores']} cores", " and ".join(known) or "no bfloat16 instructions"]
    hardware += [machine["gpu"]] if machine["gpu"] else []
    versions = [f"{k} {v}" for k, v in record["versions"].items() if v is not None]
    absent = [k for k, v in record["versions"].items() if v is None]
    missing = [f"Not installed: {', '.join(absent)}."] if absent else []
    return [f"{', '.join(hardware)}, {machine['system']}.", "", f"{', '.join(versions)}.", *missing, ""]


def _targets(rows: Iterable[dict[str, Any]]) -> list[str]:
    lines = [
        [r["name"], str(r["threads"]), _asked(t), _bound(t), _number(t["found"]), _leaves(t), _met(t["met"])]
        for r in rows
        for t in r["targets"]
    ]
    return _markdown(["row", "threads", "compared", "target", "found", "ours leaves more by", "met"], lines)


def _asked(target: dict[str, Any]) -> str:
    return f"{target['ours']} against {target['against']}" if target["against"] else target["ours"]


def _bound(target: dict[str, Any]) -> str:
    if not target["against"]:
        return f"at most {target['bound']:g} s"
    return f"at most {target['bound']:g} times" if target["most"] else f"{target['bound']:g} times as fast"


def _leaves(target: dict[str, Any]) -> str:
    return _points(target["leaves_more"]) if "leaves_more" in target else ""


def _met(met: bool | None) -> str:
    return {True: "yes", False: "**no**", None: "not measured"}[met]


def _rows(rows: Sequence[dict[str, Any]]) -> list[str]:
    lines = []
    for topic in dict.fromkeys(r["topic"] for r in rows):
        lines += ["", f"## {topic}"]
        for row in (r for r in rows if r["topic"] == topic):
            lines += ["", *_row(row)]
    return lines


def _row(row: dict[str, Any]) -> list[str]:
    settings = ", ".join(f"{k} {_plain(v)}" for k, v in row["settings"].items())
    threads = f"{row['threads']} thread{'s' * (row['threads'] > 1)}"
    measures = [m for m in ORDER if any(m in c.get("median", {}) for c in row["contenders"])]
    header = ["contender", *(UNITS[m] for m in measures), "times ours", "rounds from to", "robust", "minus ours"]
    lines = [_contender(c, row, measures) for c in row["contenders"]]
    used = [i for i in range(len(header)) if any(line[i] for line in lines)]
    title = f"**{row['name']}**, {threads}, {row['device']}, seed {row['seed']}; {settings}"
    return [title, "", *_markdown([header[i] for i in used], [[line[i] for i in used] for line in lines])]


def _contender(contender: dict[str, Any], row: dict[str, Any], measures: Sequence[str]) -> list[str]:
    name, by = contender["name"], row["judged_by"]
    if name == row["reference"]:
        name = f"**{name}**"
    if "unavailable" in contender:
        return [f"{name}: not available: {contender['unavailable']}".replace("|", "/"), *[""] * (len(measures) + 4)]
    rounds = contender["rounds"][by]
    figures = [_number(contender["median"].get(m)) for m in measures]
    spread = f"{min(rounds):.3g} {max(rounds):.3g}" if len(rounds) > 1 else ""
    robust = str(Interval(*contender["accuracy"])) if "accuracy" in contender else ""
    apart = _points(contender["minus_ours"]) if "minus_ours" in contender else ""
    return [name, *figures, _number(contender.get("ratio", {}).get(by)), spread, robust, apart]


def _points(interval: Sequence[float]) -> str:
    mean, low, high, n = interval
    return f"{100 * mean:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}] n={n}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _plain(value: Any) -> str:
    return (
        " and ".join(map(str, value))
        if isinstance(value, list)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


def _markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *lines)]
