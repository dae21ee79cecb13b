"""One report from those of all shards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from art_ext.evaluation.report.data import Cell, Rows
from art_ext.evaluation.report.whole import UNEQUAL, Report


def merge(reports: Sequence[Report]) -> Report:
    """The report that one run over all images would have given, without verdicts.

    Args:
        reports: all shards of one evaluation, in any order.

    Raises:
        ValueError: not one report of every shard of the same evaluation.
    """
    shards = sorted(reports, key=lambda r: r.shard)
    parts = [r.shard for r in shards]
    if not shards or parts != [(i, len(shards)) for i in range(len(shards))]:
        raise ValueError(f"expected every shard i/n of one evaluation once, got {[f'{i}/{n}' for i, n in parts]}")
    first = shards[0]
    if len(shards) == 1:
        return first
    for other in shards[1:]:
        _check_same(first, other)
    cells, probes = (
        tuple(_joined(group) for group in zip(*(getattr(r, k) for r in shards), strict=True))
        for k in ("cells", "probes")
    )
    peak = max(r.provenance.get("peak_memory_bytes", 0) for r in shards)
    provenance = {**first.provenance, "shard": [0, 1], "peak_memory_bytes": peak}
    repeated = {m.name: [r.info(m.name).answers_repeat for r in shards] for m in first.inspected}
    inspected = tuple(replace(m, answers_repeat=_sum(repeated[m.name])) for m in first.inspected)
    notes = tuple(dict.fromkeys(note for r in shards for note in r.notes))
    return replace(
        first, cells=cells, checks=(), provenance=provenance, probes=probes, inspected=inspected, notes=notes,
        started=min(r.started for r in shards), ended=max(r.ended for r in shards), shard=(0, 1),
    )  # fmt: skip


def _sum(values: Sequence[int | None]) -> int | None:
    known = [v for v in values if v is not None]
    return sum(known) if known else None


def _check_same(first: Report, other: Report) -> None:
    for what in ("threat", "not_tested", "labels", "suite", "required"):
        if getattr(first, what) != getattr(other, what):
            raise ValueError(f"expected shards of one evaluation, got different {what}")
    differing = [k for k in first.provenance if k not in UNEQUAL and first.provenance[k] != other.provenance.get(k)]
    for one, two in zip(first.inspected, other.inspected, strict=True):
        same = one.fingerprint is None or two.fingerprint is None or one.fingerprint.agrees(two.fingerprint)
        if (one.name, one.sha256, one.random) != (two.name, two.sha256, two.random) or not same:
            differing.append(f"model {one.name!r}")
    if differing:
        raise ValueError(f"expected shards of one evaluation, got different {', '.join(differing)}")


def _joined(cells: Sequence[Cell]) -> Cell:
    """One cell of the parts that hold images."""
    observed = {k: sum(c.observed.get(k, 0) for c in cells) for c in cells for k in c.observed}
    seconds = sum(c.seconds for c in cells)
    refused = next((c for c in cells if c.refused), None)
    if refused is not None:
        return replace(refused, seconds=seconds)
    places = sorted((index, part, at) for part, c in enumerate(cells) for at, index in enumerate(c.indices))
    repeats = max(c.repeats for c in cells)

    def woven(rows_of: Callable[[Cell], Sequence[Sequence[int]]]) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(rows_of(cells[part])[r][at] for _, part, at in places) for r in range(repeats))

    def flags(rows_of: Callable[[Cell], Rows]) -> Rows:
        return tuple(tuple(map(bool, row)) for row in woven(rows_of))

    skipped = tuple(i for i, (_, part, at) in enumerate(places) if at in cells[part].skipped)
    hits = flags(lambda c: c.hits) if any(c.hits and c.hits[0] for c in cells) else ()
    known = all(c.predicted or not c.images for c in cells) and any(c.predicted for c in cells)
    indices = tuple(index for index, _, _ in places)
    return replace(
        cells[0], correct=flags(lambda c: c.correct), hits=hits, skipped=skipped, observed=observed, seconds=seconds,
        predicted=woven(lambda c: c.predicted) if known else (),
        indices=() if indices == tuple(range(len(indices))) else indices,
    )  # fmt: skip
