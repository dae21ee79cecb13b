"""What a paper claims, what is left of it here, and a verdict by a rule; and a method beside what all attacks leave."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from art_ext import presets
from art_ext.evaluation import Interval, Report, mean_interval, paired_difference
from art_ext.evaluation.detection import compared
from art_ext.evaluation.report import several
from art_ext.evaluation.report.worst import left, worst_of
from experiments.page import read, there

HOLDS, FAILS, OPEN = "holds", "does not hold", "not shown at this n"
REACHED = 0.9
"""Of the paper's figure, which a claim about one accuracy has to reach."""
CIFAR10 = "cifar10_cifar10_white"
"""The report of all five on CIFAR-10."""
CIFAR10_ALL = (CIFAR10, *(f"cifar10_cifar10_{k}" for k in ("adaptive", "autoattack", "autoattack_eot")))
"""Those that the worst cases there are of."""
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
class Gap:
    """The claim that one network keeps more than another, on the same images.

    Attributes:
        report: that holds both.
        ours: name of the model that is claimed to keep more, and the title of its attack.
        theirs: those of the other one.
        least: points by which it has to be more; below 0 for a claim that little is lost.
    """

    report: str
    ours: tuple[str, str]
    theirs: tuple[str, str]
    least: float = 0.0

    @property
    def files(self) -> tuple[str, ...]:
        """The results that it is measured with."""
        return (self.report,)

    def found(self, folder: Path) -> tuple[str, str]:
        """What was measured, and the verdict."""
        report = Report.load(folder / f"{self.report}.json")
        mine, other = (several.cell([report], model, (title,)) for model, title in (self.ours, self.theirs))
        if mine is None or other is None:
            raise ValueError(f"expected {self.ours} and {self.theirs} in {self.report}.json, got neither or one")
        n = min(mine.images, other.images)
        return told(mine.survived[:n], other.survived[:n], self.least)


@dataclass(frozen=True)
class Worst:
    """The same of worst cases: images that no attack of the reports broke, at R = 1."""

    files: tuple[str, ...]
    ours: str
    theirs: str

    def found(self, folder: Path) -> tuple[str, str]:
        """What was measured, and the verdict."""
        reports = [Report.load(folder / f"{name}.json") for name in self.files]
        mine, other = (left(several.counted(reports, model)) for model in (self.ours, self.theirs))
        n = min(len(mine), len(other))
        return told(mine[:n], other[:n], 0.0)


@dataclass(frozen=True)
class Preset:
    """The same of two figures that presets carry, each with its own interval: they are not paired.

    Attributes:
        ours: a preset, and the name of what was measured.
        theirs: likewise.
        least: see `Gap`.
    """

    ours: tuple[str, str]
    theirs: tuple[str, str]
    least: float = 0.0
    files: tuple[str, ...] = ()

    def found(self, folder: Path) -> tuple[str, str]:
        """What was measured, and the verdict."""
        pair = [presets.describe(name).measured for name, _ in (self.ours, self.theirs)]
        both = (several.of_share(m[k], m["n"]) for m, (_, k) in zip(pair, (self.ours, self.theirs), strict=True))
        mine, other = both
        surely, hardly = mine.low - other.high > self.least, mine.high - other.low < self.least
        return f"{mine} against {other}", HOLDS if surely else FAILS if hardly else OPEN


@dataclass(frozen=True)
class Share:
    """The claim that an accuracy reaches what the paper has: nine tenths of it, with the interval's lower end.

    Attributes:
        file: a JSON file.
        of: what it holds, to the share of right answers and how many there were.
        paper: the paper's accuracy.
    """

    file: str
    of: Callable[[Mapping[str, Any]], tuple[float, int]]
    paper: float

    @property
    def files(self) -> tuple[str, ...]:
        """The results that it is measured with."""
        return (self.file,)

    def found(self, folder: Path) -> tuple[str, str]:
        """What was measured, and the verdict."""
        interval = several.of_share(*self.of(read(folder, self.file)))
        wanted = REACHED * self.paper
        return str(interval), HOLDS if interval.low >= wanted else FAILS if interval.high < wanted else OPEN


@dataclass(frozen=True)
class Detected:
    """The claim that a detector on R(x) is better than on x, attacked as in the paper: surely so in most cells."""

    file: str
    detector: str

    @property
    def files(self) -> tuple[str, ...]:
        """The results that it is measured with."""
        return (self.file,)

    def found(self, folder: Path) -> tuple[str, str]:
        """What was measured, and the verdict."""
        wanted = {"detector": self.detector, "protocol": "paper", "target": "own"}
        chosen = [r for r in read(folder, self.file)["rows"] if wanted.items() <= r.items()]
        gaps = [r["difference"]["AUC"] for r in chosen if r["difference"]["AUC"][1] is not None]
        above, below = sum(g[1] > 0 for g in gaps), sum(g[2] < 0 for g in gaps)
        verdict = HOLDS if above > len(chosen) / 2 else FAILS if below > len(chosen) / 2 else OPEN
        return f"AUC: {compared(chosen, 'AUC')}", verdict


@dataclass(frozen=True)
class Hybrids:
    """Table 3 of DRRDN: exchanging the class-irrelevant part costs more than exchanging the class-specific one."""

    file: str

    @property
    def files(self) -> tuple[str, ...]:
        """The results that it is measured with."""
        return (self.file,)

    def found(self, folder: Path) -> tuple[str, str]:
        """What was measured, and the verdict."""
        rows = {r["hybrid"]: [float(v) for v in r["correct"]] for r in read(folder, self.file)["rows"]}
        return told(rows["z_s' + z_i"], rows["z_s + z_i'"], 0.0)


Measured = Gap | Worst | Preset | Share | Detected | Hybrids


@dataclass(frozen=True)
class Claim:
    """A claim of a paper.

    Attributes:
        says: what, and where.
        paper: its numbers, of its data.
        protocol: ours by its protocol; a text says why it was not measured.
        strongest: ours under the strongest attacks; empty where the claim is about no attack.
    """

    says: str
    paper: str
    protocol: Measured | str
    strongest: Measured | str = ""


def claims(folder: Path, rows: Mapping[str, Sequence[Claim]]) -> str:
    """A row a claim, by method, as Markdown."""
    return several.grid(COLUMNS, [entries(method, row, folder) for method, held in rows.items() for row in held])


def entries(method: str, claim: Claim, folder: Path) -> dict[str, str]:
    """A row by column."""
    sides = (*_found(claim.protocol, folder), *_found(claim.strongest, folder))
    return dict(zip(COLUMNS, (method, claim.says, claim.paper, *sides), strict=True))


def told(ours: Sequence[float], theirs: Sequence[float], least: float) -> tuple[str, str]:
    """Both means and their difference in points, and whether it is surely more than `least`, in shares of 1."""
    gap = paired_difference(ours, theirs)
    verdict = HOLDS if gap.low > least else FAILS if gap.high < least else OPEN
    both = [f"{100 * mean_interval(v).mean:.1f}" for v in (ours, theirs)]
    return f"{both[0]} against {both[1]} %: {several.gap(ours, theirs)}", verdict


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
    found = []
    for row in rows:
        names = (row.first, *row.others)
        if there(folder, *names):
            found.append(row_entries(row, [Report.load(folder / f"{name}.json") for name in names]))
    return several.grid(ROW_COLUMNS, found) if found else ""


def row_entries(row: Row, reports: Sequence[Report]) -> dict[str, str]:
    """A row by column.

    Args:
        row: the method.
        reports: that of its `first`, and its `others`.

    Raises:
        ValueError: the first one has no such attack on it.
    """
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
