"""The page that is rendered from the figures alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from art_ext.evaluation import Interval, mean_interval, paired_difference
from benchmarks.performance.targets import Target

INTRODUCTION = """# Performance

Written by `python -m benchmarks` from `performance.json`. Contenders of a row run in turn in one process; a figure is
the median of the rounds. *Times ours* is a contender's time (memory) over that of the row's reference, in bold: above 1
the reference is faster (smaller). It and the targets are of CPU time with one thread on a CPU, of wall time otherwise.
*Robust* is the accuracy that the attack leaves, with a 95 % interval (Student's t over images, two right and two wrong
ones added); *minus ours* is paired on the same images (Student's t, one image added in each direction). A target of
speed is not met where our attack surely leaves more than the one that it is compared with.
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
    lines = []
    for r in rows:
        for t in r["targets"]:
            apart = _apart(r, t["ours"], t["against"])
            leaves = "" if apart is None else _points(apart)
            lines.append(
                [r["name"], str(r["threads"]), _asked(t), _bound(t), _number(t["found"]), leaves, _met(t, apart)]
            )
    return _markdown(["row", "threads", "compared", "target", "found", "ours leaves more by", "met"], lines)


def _asked(target: dict[str, Any]) -> str:
    return f"{target['ours']} against {target['against']}" if target["against"] else target["ours"]


def _bound(target: dict[str, Any]) -> str:
    if not target["against"]:
        return f"at most {target['bound']:g} s"
    return f"at most {target['bound']:g} times" if target["most"] else f"{target['bound']:g} times as fast"


def _met(target: dict[str, Any], apart: Interval | None) -> str:
    if target["found"] is None:
        return "not measured"
    asked = Target(target["ours"], target["against"], target["bound"], most=target["most"])
    return "yes" if asked.met(target["found"]) and (apart is None or apart.low <= 0) else "**no**"


def _shares(row: dict[str, Any], name: str) -> list[float]:
    """Per image, the share of repeats in which it is right under a contender's attack; none if that is not known."""
    digits = next((c.get("robust", "") for c in row["contenders"] if c["name"] == name), "")
    return [int(digit) / row["repeats"] for digit in digits]


def _apart(row: dict[str, Any], ours: str, theirs: str) -> Interval | None:
    """By how much more the first leaves than the second; None where the answers of one are not known."""
    a, b = _shares(row, ours), _shares(row, theirs)
    return paired_difference(a, b) if a and b else None


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
    shares, apart = _shares(row, contender["name"]), _apart(row, contender["name"], row["reference"])
    robust = str(mean_interval(shares, row["repeats"])) if shares else ""
    minus = _points(apart) if apart is not None and contender["name"] != row["reference"] else ""
    return [name, *figures, _number(contender.get("ratio", {}).get(by)), spread, robust, minus]


def _points(apart: Interval) -> str:
    return f"{100 * apart.mean:+.1f} points [{100 * apart.low:+.1f}, {100 * apart.high:+.1f}] n={apart.n}"


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
