"""What a paper claims, what is left of it here, and a verdict by a rule; and a method beside what all attacks leave."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from art_ext import presets
from art_ext.evaluation import Interval, Report, mean_interval, paired_difference
from art_ext.evaluation.detection import compared, surely
from art_ext.evaluation.report import several
from art_ext.evaluation.report.worst import left, worst_of
from experiments.page import common, grid, read, there

HOLDS, FAILS, OPEN = "holds", "does not hold", "not shown at this n"
REACHED = 0.9
"""Of the paper's figure, which a claim about one accuracy has to reach."""
CIFAR10_PARTS = ("white", "adaptive", "robust", "autoattack", "autoattack_eot")
"""Parts on CIFAR-10 that its worst cases count; `official` only confirms `autoattack`, on fewer images."""
CIFAR10_ALL = tuple(f"cifar10_cifar10_{k}" for k in CIFAR10_PARTS)
"""The reports of these parts."""
CIFAR10 = CIFAR10_ALL[0]
"""That of all five."""
COLUMNS = (
    "method", "claim", "the paper", "ours, by its protocol", "verdict", "ours, strongest attack", "verdict there"
)  # fmt: skip
BESIDE = "adversarially trained, worst case"
BESIDE_ESTIMATED = "adversarially trained, estimated for the same images"
ROW_COLUMNS = (
    "method", "data", "clean", several.CLEAN, "the paper's kind of attacker", "leaves", several.ONCE, several.OFTEN,
    several.OWN, several.ESTIMATED, BESIDE, BESIDE_ESTIMATED,
)  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """How a claim is measured.

    Attributes:
        files: the results that it is measured with.
        found: of their folder, what was measured, and the verdict.
    """

    files: tuple[str, ...]
    found: Callable[[Path], tuple[str, str]]


def gap(report: str, ours: tuple[str, str], theirs: tuple[str, str], least: float = 0.0) -> Measured:
    """The claim that one network keeps more than another, on the same images.

    Args:
        report: that holds both.
        ours: name of the model that is claimed to keep more, and the title of its attack.
        theirs: those of the other one.
        least: points by which it has to be more; below 0 for a claim that little is lost.
    """

    def found(folder: Path) -> tuple[str, str]:
        held = [Report.load(folder / f"{report}.json")]
        cells = [c for model, title in (ours, theirs) if (c := several.cell(held, model, (title,))) is not None]
        if len(cells) < 2:
            raise ValueError(f"expected {ours} and {theirs} in {report}.json, got neither or one")
        return told(cells[0].survived, cells[1].survived, least)

    return Measured((report,), found)


def worst(files: tuple[str, ...], ours: str, theirs: str) -> Measured:
    """The same of worst cases: images that no attack of the reports broke, at R = 1."""

    def found(folder: Path) -> tuple[str, str]:
        reports = [Report.load(folder / f"{name}.json") for name in files]
        return told(left(several.counted(reports, ours)), left(several.counted(reports, theirs)))

    return Measured(files, found)


def of_presets(ours: tuple[str, str], theirs: tuple[str, str], least: float = 0.0) -> Measured:
    """The same of two figures that presets carry, each with its own interval: they are not paired.

    Args:
        ours: a preset, and the name of what was measured.
        theirs: likewise.
        least: see `gap`.
    """

    def found(folder: Path) -> tuple[str, str]:
        measured = [(presets.describe(name).measured, key) for name, key in (ours, theirs)]
        mine, other = (several.of_share(m[key], m["n"]) for m, key in measured)
        return f"{mine} against {other}", verdict(mine.low - other.high, mine.high - other.low, least)

    return Measured((), found)


def reaches(file: str, of: Callable[[Mapping[str, Any]], tuple[float, int]], paper: float) -> Measured:
    """The claim that an accuracy reaches what the paper has: nine tenths of it, with the interval's lower end.

    Args:
        file: a JSON file.
        of: what it holds, to the share of right answers and how many there were.
        paper: the paper's accuracy.
    """

    def found(folder: Path) -> tuple[str, str]:
        interval = several.of_share(*of(read(folder, file)))
        return str(interval), verdict(interval.low, interval.high, REACHED * paper)

    return Measured((file,), found)


def detected(file: str, detector: str) -> Measured:
    """The claim that a detector on R(x) is better than on x, attacked as in the paper: surely so in most cells.

    Sure is by Holm over the detector's cells, as in the text beside it.
    """

    def found(folder: Path) -> tuple[str, str]:
        wanted = {"detector": detector, "protocol": "paper", "target": "own"}
        chosen = [r for r in read(folder, file)["rows"] if wanted.items() <= r.items()]
        gaps = [r["difference"]["AUC"] for r in chosen if r["difference"]]
        sure = [gap[0] for gap, apart in zip(gaps, surely(gaps), strict=True) if apart]
        above, below = sum(g > 0 for g in sure), sum(g < 0 for g in sure)
        return f"AUC: {compared(chosen, 'AUC')}", verdict(above, len(chosen) - below, len(chosen) / 2)

    return Measured((file,), found)


def caught(file: str, detector: str) -> Measured:
    """The same against attackers who know the detector: images that none of them gets through, on R(x) and on x."""

    def found(folder: Path) -> tuple[str, str]:
        rows = {r["system"]: r for r in read(folder, file)["adaptive"] if r["detector"] == detector}
        ours, theirs = ([1.0 - float(b) for b in rows[k]["broken"]["any of them"]] for k in ("R(x)", "x"))
        text, judged = told(ours, theirs)
        return f"stopped, of attackers who know the detector: {text}", judged

    return Measured((file,), found)


def hybrids(file: str) -> Measured:
    """Table 3 of DRRDN: exchanging the class-irrelevant part costs more than exchanging the class-specific one."""

    def found(folder: Path) -> tuple[str, str]:
        rows = {r["hybrid"]: [float(v) for v in r["correct"]] for r in read(folder, file)["rows"]}
        return told(rows["z_s' + z_i"], rows["z_s + z_i'"])

    return Measured((file,), found)


def verdict(low: float, high: float, least: float) -> str:
    """Whether what lies between two ends is surely more than `least`."""
    return HOLDS if low > least else FAILS if high < least else OPEN


def told(ours: Sequence[float], theirs: Sequence[float], least: float = 0.0) -> tuple[str, str]:
    """Both means and their difference in points, and whether it is surely more than `least`, in shares of 1.

    Where one has seen more images, the first ones, that both have seen, count.
    """
    both = common(ours, theirs)
    interval = paired_difference(*both)
    means = " against ".join(f"{100 * mean_interval(v).mean:.1f}" for v in both)
    return f"{means} %: {several.gap(*both)}", verdict(interval.low, interval.high, least)


@dataclass(frozen=True)
class Claim:
    """A claim of a paper.

    Attributes:
        says: what, and where.
        paper: its numbers, of its data.
        protocol: ours by its protocol; a text says why it was not measured.
        strongest: ours under the strongest attacks, or why they were not run; empty where the claim is about no attack.
    """

    says: str
    paper: str
    protocol: Measured | str
    strongest: Measured | str = ""


def claims(folder: Path, rows: Mapping[str, Sequence[Claim]]) -> str:
    """A row a claim, by method, as Markdown."""
    found = [
        (method, row.says, row.paper, *_found(row.protocol, folder), *_found(row.strongest, folder))
        for method, held in rows.items()
        for row in held
    ]
    return grid(COLUMNS, found)


def _found(measured: Measured | str, folder: Path) -> tuple[str, str]:
    if isinstance(measured, str):
        return measured, "not measured here" if measured else ""
    return measured.found(folder) if there(folder, *measured.files) else ("not run yet", "not measured here")


@dataclass(frozen=True)
class Row:
    """A method under its paper's kind of attacker, beside what all attacks left.

    Attributes:
        method: what the page calls it.
        data: name of the data set.
        attacker: the paper's kind of attacker, in words.
        first: the report that holds the attack of that attacker.
        attack: its title, as `several.title` gives it.
        others: the reports whose attacks the worst case counts beside those of the first.
        model: the method's name in the reports.
        beside: adversarially trained networks of the same reports, without a purifier.
    """

    method: str
    data: str
    attacker: str
    first: str
    attack: str
    others: tuple[str, ...]
    model: str
    beside: tuple[str, ...] = ("adversarially trained",)


def overview(folder: Path, rows: Sequence[Row]) -> str:
    """The rows whose reports are all there, as Markdown; empty if there are none."""
    found = [entries(row, folder) for row in rows if there(folder, row.first, *row.others)]
    return several.grid(ROW_COLUMNS, found) if found else ""


def entries(row: Row, folder: Path) -> dict[str, str]:
    """A row by column.

    Raises:
        ValueError: its first report has no such attack on it.
    """
    reports = [Report.load(folder / f"{name}.json") for name in (row.first, *row.others)]
    clean, paper = (several.cell(reports[:1], row.model, (title,)) for title in ("clean, none", row.attack))
    if clean is None or paper is None:
        raise ValueError(f"expected {row.model} under {row.attack} in {row.first}.json, got neither or one of them")
    cells = {m: several.counted(reports, m) for m in (row.model, *row.beside)}
    n = min(c.images for of_model in cells.values() for c in of_model)
    mine, *others = (several.first(of_model, n) for of_model in cells.values())
    threat = reports[0].threat
    made = {
        "method": row.method,
        "data": f"{row.data}, {threat['norm']} {threat['eps']:g}",
        "clean": str(clean.accuracy),
        several.CLEAN: str(worst_of([clean], several.STATED)),
        "the paper's kind of attacker": row.attacker,
        "leaves": several.shown(paper),
        several.ONCE: str(worst_of(mine, 1)),
        several.OFTEN: str(worst_of(mine, several.STATED)),
        BESIDE: _named(row.beside, [worst_of(other, 1) for other in others]),
    }
    if n < max(clean.images, paper.images):
        made[several.OWN] = str(mean_interval(clean.survived[:n], clean.repeats))
        ours = several.estimated(cells[row.model])
        made |= {several.ESTIMATED: str(ours)} if ours is not None else {}
        theirs = [several.estimated(cells[m], most=None if ours is None else ours.n) for m in row.beside]
        made[BESIDE_ESTIMATED] = _named(row.beside, theirs)
    return made


def _named(names: Sequence[str], found: Sequence[Interval | None]) -> str:
    """Each with its name, where there are several."""
    pairs = zip(names, found, strict=True)
    return "; ".join(str(f) if len(names) == 1 else f"{name}: {f}" for name, f in pairs if f)
