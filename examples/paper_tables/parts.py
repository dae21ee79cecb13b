"""What the tables of several reports share: their command line, shards, and one table of all of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ablations
import worst_cases

from art_ext.data import Images, fashion_mnist
from art_ext.evaluation import (
    Attack,
    Cell,
    Defended,
    Interval,
    Report,
    evaluate,
    mean_interval,
    merged,
    paired_difference,
)
from art_ext.evaluation.report.tables import in_cell
from art_ext.evaluation.report.worst import worst_of

DATA = {"name": "Fashion-MNIST test, the stratified 2,000 images that ship with the package", "order": "the first ones"}
Part = Callable[[argparse.Namespace], Report]
Other = Callable[[argparse.Namespace], Mapping[str, Any]]
THESE = "over images, for these networks"
"""What an interval of a difference between trained networks holds for: another training would give others."""
POINTS = f"points, {THESE}"


def arguments(about: str | None, names: Sequence[str], runs: str) -> argparse.ArgumentParser:
    """The options that `run` reads."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument(
        "--attack-batch", type=int, default=64, help="images attacked at a time; shards share whole batches"
    )
    parser.add_argument("--quick", action="store_true", help="few steps, no AutoAttack")
    parser.add_argument("--parts", nargs="+", default=list(names), choices=names)
    parser.add_argument(
        "--shard", type=int, nargs=2, default=(0, 1), help="do part I of N of the images", metavar="I N"
    )
    parser.add_argument("--merge", type=int, help="make the results of N shards, once all have ended", metavar="N")
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--runs", type=Path, default=Path(runs), help="state and examples")
    return parser


def run(args: argparse.Namespace, prefix: str, parts: Mapping[str, Part], others: Mapping[str, Other]) -> bool:
    """Makes or merges what was asked for, `prefix_part.json` each; gives whether everything is there now.

    Args:
        args: from `arguments`.
        prefix: of the files.
        parts: reports, which shards can make piece by piece.
        others: results of another kind, made whole.
    """
    if args.quick and args.out == Path("results"):  # a trial must not stand for a measurement
        args.out = args.runs = args.runs / "quick"
    whole = args.merge is not None or args.shard[1] == 1
    for name in args.parts:
        path = args.out / f"{prefix}_{name}.json"
        if name in others:
            if whole:
                ablations.save(others[name](args), path)
        elif args.merge is not None:
            folders = [_folder(args, name, (i, args.merge)) for i in range(args.merge)]
            merged([Report.load(f / "report.json") for f in folders]).save(path)
        else:
            report = parts[name](args)
            if whole:
                report.save(path)
    return whole and not args.quick and {*parts, *others} == {*args.parts}


def part(
    name: str, models: Sequence[Defended], attacks: Sequence[Attack], args: argparse.Namespace,
    about: Mapping[str, Any] | None = None, test: Images | None = None, **options: Any,
) -> Report:  # fmt: skip
    """The report of a part: EOT over 20 draws of averaged gradients, ten redraws; `about` goes with the data.

    On the Fashion-MNIST that ships with the package unless other test images are given.
    """
    data = fashion_mnist("test", args.images) if test is None else test
    return evaluate(
        models, attacks, data.x, data.y, eot_samples=2 if args.quick else 20, average="gradients", repeats=10,
        batch_size=args.attack_batch, shard=tuple(args.shard), folder=_folder(args, name, args.shard),
        data={**DATA, **(about or {})},
        **{"probe": None, **options},
    )  # fmt: skip


def _folder(args: argparse.Namespace, name: str, shard: Sequence[int]) -> Path:
    return Path(args.runs) / f"{name} {shard[0]} of {shard[1]}"


def load(results: Path, prefix: str, names: Sequence[str]) -> dict[str, Report]:
    """The reports of a folder, by part."""
    return {name: Report.load(results / f"{prefix}_{name}.json") for name in names}


def there(results: Path, prefix: str, names: Sequence[str]) -> list[str]:
    """The parts that a folder holds."""
    return [name for name in names if (results / f"{prefix}_{name}.json").is_file()]


def table(
    reports: Sequence[Report], columns: Mapping[str, Sequence[str]], worst_over: Mapping[str, Sequence[Report]]
) -> str:
    """A row a model, over all reports: clean accuracy, its cell of each column, and the worst case per image.

    Where a model is randomised, clean accuracy and worst case stand at one redraw and at `worst_cases.STATED` of them.
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
            row[worst_cases.CLEAN] = str(worst_of([clean[model]], worst_cases.STATED))
        found = {k: cell(reports, model, titles) for k, titles in columns.items()}
        row |= {k: worst_cases.shown(c) for k, c in found.items() if c is not None}
        counted = worst_cases.counted(worst_over.get(model, ()), model)
        rows.append(row | (worst_cases.entries(counted, clean[model], drawn) if counted else {}))
    return grid(["model", "clean", worst_cases.CLEAN, *columns, *worst_cases.COLUMNS], rows)


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
    """The first attack of one of these titles on a model, also one with a bound of its own (StAdv)."""
    cells = (c for r in reports for c in r.cells if c.model == model and c.images and not c.refused)
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


def _common_gap(ours: Cell, theirs: Cell) -> str:
    n = min(ours.images, theirs.images)  # the first ones
    return gap(ours.survived[:n], theirs.survived[:n])


def interval(values: Sequence[float]) -> Interval:
    """The mean of values in [0, 1], one an image."""
    return mean_interval(values)


def of_share(mean: float, n: int) -> Interval:
    """The interval of a mean over n images of which only the mean was kept: the widest that such values can have."""
    right = round(mean * n, 3)
    return mean_interval([min(1.0, max(0.0, right - i)) for i in range(n)])


def about(report: Report) -> dict[str, Any]:
    """How a report was made, in short."""
    return {k: report.provenance[k] for k in ("versions", "python", "device", "threads", "seed", "images")}


def options(found: Mapping[str, Any]) -> dict[str, Any]:
    """What a result was made with; where it was put says nothing."""
    kept = {k: v for k, v in found["options"].items() if k not in ("runs", "out")}
    return {"options": kept, "versions": found["versions"]}


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A report's table as Markdown."""
    marked = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(in_cell, row)) + " |" for row in marked)
