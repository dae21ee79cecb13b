"""What the tables of several reports share: their command line, shards, and one table of all of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ablations

from art_ext.data import Images, fashion_mnist
from art_ext.evaluation import Attack, Cell, Defended, Interval, Report, evaluate, merged, paired_difference, wilson
from art_ext.evaluation.report import robust

DATA = {"name": "Fashion-MNIST test, the stratified 2,000 images that ship with the package", "order": "the first ones"}
Part = Callable[[argparse.Namespace], Report]
Other = Callable[[argparse.Namespace], Mapping[str, Any]]


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

    Where the worst case is that of several draws, so is a second clean accuracy: what is left of it without any attack.

    Args:
        reports: of the same images.
        columns: titles of attacks as `title` gives them, by what stands above; the first that is there is shown, and
            a column that no model has is left out.
        worst_over: the reports whose attacks the worst case of a model counts; others have none, so that no model looks
            better for having been attacked less.
    """
    models = list(dict.fromkeys(m for r in reports for m in r.models()))
    found = {m: {k: cell(reports, m, titles) for k, titles in columns.items()} for m in models}
    shown = [k for k in columns if any(found[m][k] is not None for m in models)]
    clean = {m: next(r for r in reports if m in r.models()).cell(m, "clean", "none") for m in models}
    drawn = bool(worst_over) and any(len(c.correct) > 1 for c in clean.values())
    header = ["model", "clean", *(["clean, every redraw"] * drawn), *shown, *(["worst case"] if worst_over else [])]
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for model in models:
        first = [str(clean[model].accuracy), *([str(clean[model].worst)] * drawn)]
        entries = ["" if (c := found[model][k]) is None else str(c.accuracy) for k in shown]
        left = [str(interval(worst(worst_over[model], model))) if model in worst_over else ""] if worst_over else []
        lines.append("| " + " | ".join([model, *first, *entries, *left]) + " |")
    return "\n".join(lines)


def gains(
    reports: Sequence[Report], pairs: Sequence[tuple[str, str]], columns: Mapping[str, Sequence[str]]
) -> str:  # fmt: skip
    """A row a pair of models: by how many points the first is better, clean and in each column, on the same images.

    Where one has seen more images, those that both have seen count.

    Args:
        reports: of the same images.
        pairs: names of models; those of which a report lacks one are left out.
        columns: as for `table`.
    """
    there = {m for r in reports for m in r.models()}
    held = [pair for pair in pairs if there.issuperset(pair)]
    clean = {"clean": ("clean, none",), **columns}
    found = {m: {k: cell(reports, m, titles) for k, titles in clean.items()} for pair in held for m in pair}
    shown = [k for k in clean if any(found[a][k] and found[b][k] for a, b in held)]
    lines = ["| " + " | ".join(["points", *shown]) + " |", "|---" * (len(shown) + 1) + "|"]
    for a, b in held:
        both = [(found[a][k], found[b][k]) for k in shown]
        entries = ["" if p is None or q is None else _common_gap(p, q) for p, q in both]
        lines.append("| " + " | ".join([f"{a} minus {b}", *entries]) + " |")
    return "\n".join(lines)


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


def worst(reports: Sequence[Report], model: str) -> list[bool]:
    """Per image, whether no attack of any report broke it in any redraw, over the images that all saw.

    Attacks with a bound of their own do not count.
    """
    return robust([c for r in reports if model in r.models() for c in r.attacked(model)])


def gap(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Difference in points, paired on the same images."""
    found = paired_difference(ours, theirs)
    return f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}] n={len(ours)}"


def _common_gap(ours: Cell, theirs: Cell) -> str:
    n = min(ours.images, theirs.images)  # the first ones
    return gap(ours.survived[:n], theirs.survived[:n])


def interval(values: Sequence[bool]) -> Interval:
    return wilson(sum(values) / len(values), len(values))
