"""Tables of the coverage, made from the JSON values alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]


def tables(found: Json) -> str:
    """The tables of a record of `coverage.measured`, Markdown."""
    parts = (_shares(found["share"]), _others(found), _doubled(found["double_sampling"]), _detected(found["detector"]))
    return "\n\n".join(parts)


def placed(page: str, text: str, name: str) -> str:
    """A page with a text between the markers of a name, in the place of what was there.

    Raises:
        ValueError: the page does not have both markers, once each and in order.
    """
    opening, closing = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, begin, rest = page.partition(opening)
    _, end, after = rest.partition(closing)
    if not begin or not end or opening in after or closing in after + before:
        raise ValueError(f"expected one {opening} and one {closing} after it, got a page without them")
    return f"{before}{opening}\n\n{text}\n\n{closing}{after}"


def _shares(rows: Sequence[Json]) -> str:
    title = (
        "Shares of images, exact: mean and smallest coverage in %; last, the smallest mean of all intervals that cover "
        "no share below 94 %."
    )
    header = ["n", "ours", "Wilson", "Clopper-Pearson", "smallest mean possible"]
    lines = [
        [str(r["n"]), *(_both(r[name]) for name in ("ours", "wilson", "clopper_pearson")), _percent(r["least_mean"])]
        for r in rows
    ]
    return "\n".join([title, "", *markdown(header, lines)])


def _others(found: Json) -> str:
    header = ["n", "paired shares", "rarely different", "means over repeats", "paired means over repeats"]
    lines = [
        [str(a["n"]), _both(a), _percent(a["rare"]), _both(b), _both(c)]
        for a, b, c in zip(found["paired"], found["repeats"], found["paired_repeats"], strict=True)
    ]
    title = (
        "Paired shares, exact: mean over all pairs of probabilities and smallest coverage; mean where at most 20 % of "
        f"the images differ. Means over 5 and 10 repeats, by simulation ({found['effort']['draws']:,} draws of each of "
        f"{len(found['repeats'][0]['populations'])} populations): mean and smallest."
    )
    lowest = [_lowest(name, found[name]) for name in ("paired", "repeats", "paired_repeats")]
    return "\n".join([title, "", *markdown(header, lines), "", f"The smallest: {'; '.join(lowest)}."])


def _lowest(name: str, rows: Sequence[Json]) -> str:
    row = min(rows, key=lambda r: r["minimum"])
    where = row["at"]
    if name == "paired":
        where = f"first alone right {_percent(where[0], 2)} %, second alone {_percent(where[1], 2)} %"
    off = f" ± {_percent(row['error'])}" if "error" in row else ""
    title = {"paired": "paired shares", "repeats": "means", "paired_repeats": "paired means"}[name]
    return f"{title} {_percent(row['minimum'])}{off} (n={row['n']}, {where})"


def _doubled(rows: Sequence[Json]) -> str:
    sizes = sorted({r["m"] for r in rows})
    header = ["cheap leaves", "dear leaves", "correlation", *(f"m={m}" for m in sizes)]
    lines = [
        [_percent(a, 0), _percent(b, 0), f"{c:.2f}", *(_worth(row) for row in rows if _attacks(row) == (a, b, c))]
        for a, b, c in dict.fromkeys(map(_attacks, rows))
    ]
    title = (
        f"Double sampling, m of {rows[0]['n']} images, by simulation: coverage in % "
        f"(± {_percent(max(r['error'] for r in rows))}), and how many images of the dear attack alone are as exact."
    )
    return "\n".join([title, "", *markdown(header, lines)])


def _attacks(row: Json) -> tuple[float, float, float]:
    return row["cheap"], row["dear"], row["correlation"]


def _worth(row: Json) -> str:
    return f"{_percent(row['coverage'])}, worth {row['worth']:.0f}"


def _detected(rows: Sequence[Json]) -> str:
    columns = list(dict.fromkeys((r["figure"], r["n"]) for r in rows))
    cells = {(r["figure"], r["n"], r["area"]): r for r in rows}
    lines = [
        [f"{area:g}", *(_percent(cells[name, n, area]["coverage"]) for name, n in columns)]
        for area in dict.fromkeys(r["area"] for r in rows)
    ]
    title = (
        "Detectors, bootstrap, by simulation: coverage in % "
        f"(± {_percent(max(r['error'] for r in rows))}) by the true AUC."
    )
    return "\n".join([title, "", *markdown(["AUC", *(f"{name}, n={n}" for name, n in columns)], lines)])


def _both(row: Json) -> str:
    return f"{_percent(row['mean'])}, {_percent(row['minimum'])}"


def _percent(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{100 * value:.{digits}f}"


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *lines)]
