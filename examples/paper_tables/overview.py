"""The head of results/README.md: each method under its paper's kind of attacker, beside what all attacks left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import parts
from worst_cases import CLEAN, ESTIMATED, OFTEN, ONCE, OWN, STATED, counted, estimated, first, shown

from art_ext.evaluation import Interval, Report, mean_interval
from art_ext.evaluation.report.worst import worst_of


@dataclass(frozen=True)
class Row:
    """A method of the overview.

    Attributes:
        method: what the page calls it.
        data: name of the data set.
        attacker: the paper's kind of attacker, in words.
        first: the report that holds the attack of that attacker.
        attack: its title, as `parts.title` gives it.
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


FASHION = "Fashion-MNIST"
RDP, DIR, ATOP, CDVAE, DRRDN = (
    "rdp_fashion_mnist_", "dir_fashion_mnist_", "atop_fashion_mnist_", "cdvae_fashion_mnist_", "drrdn_mnist_"
)  # fmt: skip
ROWS = (
    Row(
        "RDP", FASHION, "PGD-40 on the bare classifier", f"{RDP}blind", "native PGD-40, blind", (f"{RDP}white",), "RDP",
    ),
    Row(
        "DIR, before an adversarially trained network", FASHION, "PGD-20 through it, one draw a step", f"{DIR}paper",
        "native PGD-20", (f"{DIR}strong",), "DIR", ("target alone",),
    ),
    *(
        Row(f"AToP, {rt}", FASHION, "PGD-1000 on the bare classifier", f"{ATOP}blind", "native PGD-1000, blind",
            (f"{ATOP}averaged", f"{ATOP}autoattack"), f"{rt} + AToP")
        for rt in ("RT1", "RT2", "RT3")
    ),
    Row(
        "CD-VAE, G(x) classified", FASHION, "PGD-100 on a classifier of x", f"{CDVAE}grey", "native PGD-100, transfer",
        (f"{CDVAE}white",), "CD-VAE",
    ),
    Row("CD-VAE, trained in the game", FASHION, "PGD-200 through it", f"{CDVAE}white", "native PGD-200", (),
        "CD-VAE, released game"),
    Row("CD-VAE, trained in the game", FASHION, "PGD-200 through it", f"{CDVAE}white_l2", "native PGD-200", (),
        "CD-VAE, released game"),
    Row("DRRDN", "MNIST", "PGD-100", f"{DRRDN}white", "PGD-100", (f"{DRRDN}autoattack",), "DRRDN", ("Madry", "TRADES")),
)  # fmt: skip
TEXT = f"""## In short

Each method as its paper attacks it, and beside it the worst case: images that no attack inside the ball, of this kind
or of those that know the method, broke. That of a randomised method falls with the number of redraws, R, without a
limit. It stands at R = 1, the mean over single redraws, where it can be held against what draws nothing, and at
R = {STATED}, where all of {STATED} have to be right; the clean accuracy at R = {STATED} is what redraws cost without
any attack. What draws nothing has one value at every R. The last columns are the worst case, on the same images, of
networks that were adversarially trained and purify nothing. Worst cases stand on as many images as their slowest attack
saw; where those are fewer than in the first columns, the clean accuracy on them stands beside, and an estimate for as
many as another attack of the same knowledge saw (double sampling). Intervals are over images, for these networks. Data,
networks and schedules are ours and small: these are not the papers' numbers. What was found, and what the checks said,
is in the sections.
"""
BESIDE = "adversarially trained, worst case"
BESIDE_ESTIMATED = "adversarially trained, estimated for the same images"
COLUMNS = (
    "method", "data", "clean", CLEAN, "the paper's kind of attacker", "leaves", ONCE, OFTEN, OWN, ESTIMATED, BESIDE,
    BESIDE_ESTIMATED,
)  # fmt: skip


def overview(folder: Path, rows: tuple[Row, ...] = ROWS) -> str:
    """The rows whose reports are all there, as a section; empty if there are none."""
    found = []
    for row in rows:
        names = (row.first, *row.others)
        if all((folder / f"{name}.json").is_file() for name in names):
            found.append(entries(row, [Report.load(folder / f"{name}.json") for name in names]))
    return "\n".join([TEXT, parts.grid(COLUMNS, found), ""]) if found else ""


def entries(row: Row, reports: Sequence[Report]) -> dict[str, str]:
    """A row by column.

    Args:
        row: the method.
        reports: that of its `first`, and its `others`.

    Raises:
        ValueError: the first one has no such attack on it.
    """
    clean, paper = (parts.cell(reports[:1], row.model, (title,)) for title in ("clean, none", row.attack))
    if clean is None or paper is None:
        raise ValueError(f"expected {row.model} under {row.attack} in {row.first}.json, got neither or one of them")
    cells = {m: counted(reports, m) for m in (row.model, *row.beside)}
    n = min(c.images for of_model in cells.values() for c in of_model)
    mine, *others = (first(of_model, n) for of_model in cells.values())
    threat = reports[0].threat
    made = {
        "method": row.method,
        "data": f"{row.data}, {threat['norm']} {threat['eps']:g}",
        "clean": str(clean.accuracy),
        CLEAN: str(worst_of([clean], STATED)),
        "the paper's kind of attacker": row.attacker,
        "leaves": shown(paper),
        ONCE: str(worst_of(mine, 1)),
        OFTEN: str(worst_of(mine, STATED)),
        BESIDE: _named(row.beside, [worst_of(other, 1) for other in others]),
    }
    if n < max(clean.images, paper.images):
        made[OWN] = str(mean_interval(clean.survived[:n], clean.repeats))
        ours = estimated(cells[row.model])
        made |= {ESTIMATED: str(ours)} if ours is not None else {}
        theirs = [estimated(cells[m], most=None if ours is None else ours.n) for m in row.beside]
        made[BESIDE_ESTIMATED] = _named(row.beside, theirs)
    return made


def _named(names: Sequence[str], found: Sequence[Interval | None]) -> str:
    """Each with its name, where there are several."""
    told = [str(f) if len(names) == 1 else f"{name}: {f}" for name, f in zip(names, found, strict=True) if f]
    return "; ".join(told)
