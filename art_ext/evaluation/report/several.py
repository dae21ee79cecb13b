"""Several reports of the same images side by side: one table of them, differences of models, worst cases together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from art_ext.evaluation.report.data import Cell
from art_ext.evaluation.report.whole import Report
from art_ext.evaluation.report.worst import left, worst_of
from art_ext.evaluation.statistics import Interval, double_sampling, mean_interval, paired_difference

POINTS = "points, over images, for these networks"
"""Above differences between trained networks: another training would give others."""
STATED = 5
"""Redraws, R, at which randomised models are compared beside R = 1; a worst case falls with R without a limit."""
ALONE, ONCE, OFTEN = "worst case", "worst case, R = 1", f"worst case, R = {STATED}"
OWN, ESTIMATED = "clean on these images", "worst case at R = 1, estimated for more images"
COLUMNS = (ALONE, ONCE, OFTEN, OWN, ESTIMATED)
CLEAN = f"clean, R = {STATED}"


def table(
    reports: Sequence[Report], columns: Mapping[str, Sequence[str]], worst_over: Mapping[str, Sequence[Report]]
) -> str:
    """A row a model, over all reports: clean accuracy, its cell of each column, and the worst case per image.

    Where a model is randomised, clean accuracy and worst case stand at one redraw and at `STATED` of them.
    Where a worst case is over fewer images than what stands beside it, so does the clean accuracy on these images, and
    an estimate for more of them if an attack by one who knows as much saw more.

    Args:
        reports: of the same images.
        columns: titles of attacks as `title` gives them, by what stands above; the first that is there is shown, and
            a column that no model has is left out.
        worst_over: the reports whose attacks the worst case of a model counts; others have none, so that no model looks
            better for having been attacked less.
    """
    models = list(dict.fromkeys(m for r in reports for m in r.models()))
    clean = {m: next(r for r in reports if m in r.models()).clean(m) for m in models}
    drawn = bool(worst_over) and any(c.repeats > 1 for c in clean.values())
    rows = []
    for model in models:
        row = {"model": model, "clean": str(clean[model].accuracy)}
        if drawn:
            row[CLEAN] = str(worst_of([clean[model]], STATED))
        found = {k: cell(reports, model, titles) for k, titles in columns.items()}
        row |= {k: shown(c) for k, c in found.items() if c is not None}
        held = counted(worst_over.get(model, ()), model)
        rows.append(row | (entries(held, clean[model], drawn) if held else {}))
    return grid(["model", "clean", CLEAN, *columns, *COLUMNS], rows)


def grid(columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> str:
    """Rows by column as Markdown, without the columns that no row has."""
    used = [k for k in columns if any(k in row for row in rows)]
    lines = [used, ["---"] * len(used), *([row.get(k, "") for k in used] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def gains(
    reports: Sequence[Report], pairs: Sequence[tuple[str, str]], columns: Mapping[str, Sequence[str]]
) -> str:  # fmt: skip
    """A row a pair of models: by how many points the first is better, clean and in each column, on the same images.

    Where one has seen more images, those that both have seen count. An attack that spared images broken before it has
    no mean, and is left out.

    Args:
        reports: of the same images.
        pairs: names of models; those of which a report lacks one are left out.
        columns: as for `table`.
    """
    there = {m for r in reports for m in r.models()}
    wanted = {"clean": ("clean, none",), **columns}
    rows = []
    for pair in pairs:
        if there.issuperset(pair):
            found = {k: [cell(reports, m, titles) for m in pair] for k, titles in wanted.items()}
            both = {k: [c for c in cells if c is not None and not c.skipped] for k, cells in found.items()}
            compared = {k: _common_gap(*cells) for k, cells in both.items() if len(cells) == len(pair)}
            rows.append({POINTS: " minus ".join(pair), **compared})
    return grid([POINTS, *wanted], rows)


def cell(reports: Sequence[Report], model: str, titles: Sequence[str]) -> Cell | None:
    """The first attack of one of these titles on a model, also one with a bound of its own (StAdv).

    Raises:
        ValueError: a report is that of a shard.
    """
    cells = (c for r in _whole(reports) for c in r.cells if c.model == model and c.images and not c.refused)
    return next((c for c in cells if title(c) in titles), None)


def title(found: Cell) -> str:
    """Title of an attack without the number of draws, with the knowledge where that is special."""
    by = "" if found.knowledge in ("full", "undefended") else f", {found.knowledge}"
    return found.attack.split(" + EOT")[0] + by


def only(report: Report, models: Sequence[str], attacks: Sequence[str] | None = None) -> Report:
    """The report of these models alone, so that no row is half empty, under attacks whose names begin so if given."""
    starts = ("",) if attacks is None else ("clean", *attacks)
    kept = (c for c in report.cells if c.model in models and c.attack.startswith(starts))
    return replace(report, cells=tuple(kept))


def gap(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Difference in points, paired on the same images."""
    found = paired_difference(ours, theirs)
    return f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}] n={found.n}"


def counted(reports: Sequence[Report], model: str) -> list[Cell]:
    """The attacks on a model that its worst case counts: inside the ball, of any of the reports.

    Raises:
        ValueError: a report is that of a shard.
    """
    return [c for r in _whole(reports) if model in r.models() for c in r.attacked(model)]


def _whole(reports: Sequence[Report]) -> Sequence[Report]:
    """The reports, whose answers are held against one another by their places: a shard's are those of other images."""
    for index, shards in (r.shard for r in reports):
        if shards > 1:
            raise ValueError(f"expected reports of whole evaluations, got shard {index} of {shards}: merge them first")
    return reports


def first(cells: Sequence[Cell], n: int) -> list[Cell]:
    """The cells of the first n images."""
    return [replace(c, correct=tuple(answers[:n] for answers in c.correct)) for c in cells]


def estimated(cells: Sequence[Cell], most: int | None = None) -> Interval | None:
    """The worst case at R = 1 on as many images as one of its attacks saw, by double sampling; None where all saw few.

    That attack knows as much as the one that leaves least of the images that all saw. Of several the one that leaves
    least of these itself is taken, and of those that leave as much the one that saw most.

    Args:
        cells: of one model.
        most: images; as many as there are unless given.
    """
    dear = left(cells)
    n = len(dear)
    knowledge = min(cells, key=lambda c: sum(c.survived[:n])).knowledge
    others = [c.survived[:most] for c in cells if c.knowledge == knowledge]
    helping = min((v for v in others if len(v) > n > 1), key=lambda v: (sum(v[:n]), -len(v)), default=None)
    return None if helping is None else double_sampling(dear, helping)


def entries(cells: Sequence[Cell], clean: Cell, drawn: bool) -> dict[str, str]:
    """The worst case of a model by column; where a column beside it has more images, its own clean accuracy as well.

    Args:
        cells: the attacks that count.
        clean: answers to clean images.
        drawn: whether any model of the table is randomised, so that R has to be said.
    """
    once = worst_of(cells, 1)
    found = {ONCE if drawn else ALONE: str(once)}
    if drawn:
        found[OFTEN] = str(worst_of(cells, STATED))
    if once.n < max(c.images for c in (clean, *cells)):
        found[OWN] = str(mean_interval(clean.survived[: once.n], clean.repeats))
        for_more = estimated(cells)
        if for_more is not None:
            found[ESTIMATED] = str(for_more)
    return found


def shown(cell: Cell) -> str:
    """Accuracy under an attack; of one that spared images broken before it, what it and those before it left."""
    return f"{cell.worst}, left after the sequence" if cell.skipped else str(cell.accuracy)


def of_share(mean: float, n: int) -> Interval:
    """The interval of a mean over n images of which only the mean was kept: the widest that such values can have."""
    right = round(mean * n, 3)
    return mean_interval([min(1.0, max(0.0, right - i)) for i in range(n)])


def _common_gap(ours: Cell, theirs: Cell) -> str:
    n = min(ours.images, theirs.images)  # the first ones
    return gap(ours.survived[:n], theirs.survived[:n])
