"""The head of results/README.md: each method under its paper's kind of attacker, beside what all attacks left."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import parts

from art_ext.evaluation import Report


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
        beside: adversarially trained networks of the same reports, without a purifier; the best one is shown.
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
TEXT = """## In short

Each method as its paper attacks it, and beside it the worst case: images that no attack inside the ball, of this kind
or of those that know the method, broke in any of its redraws. What redraws cost without any attack stands beside the
clean accuracy. The last column is the worst case, on the same images, of a network that was adversarially trained and
purifies nothing; of two the better one. Worst cases stand on as many images as their slowest attack saw. Data, networks
and schedules are ours and small: these are not the papers' numbers. What was found, and what the checks said, is in the
sections.
"""


def overview(folder: Path, rows: tuple[Row, ...] = ROWS) -> str:
    """The rows whose reports are all there, as a section; empty if there are none."""
    lines = []
    for row in rows:
        names = (row.first, *row.others)
        if not all((folder / f"{name}.json").is_file() for name in names):
            continue
        reports = [Report.load(folder / f"{name}.json") for name in names]
        clean, paper = (parts.cell(reports[:1], row.model, (title,)) for title in ("clean, none", row.attack))
        if clean is None or paper is None:
            raise ValueError(f"expected {row.model} under {row.attack} in {row.first}.json, got neither or one of them")
        left, *others = (parts.worst(reports, m) for m in (row.model, *row.beside))
        n, threat = min(map(len, (left, *others))), reports[0].threat
        beside = max((other[:n] for other in others), key=sum)
        entries = [row.method, f"{row.data}, {threat['norm']} {threat['eps']:g}", clean.accuracy, clean.worst]
        entries += [row.attacker, paper.accuracy, parts.interval(left[:n]), parts.interval(beside)]
        lines.append("| " + " | ".join(map(str, entries)) + " |")
    if not lines:
        return ""
    header = ["method", "data", "clean", "clean, every redraw", "the paper's kind of attacker", "leaves", "worst case",
              "adversarially trained, worst case"]  # fmt: skip
    return "\n".join([TEXT, "| " + " | ".join(header) + " |", "|---" * len(header) + "|", *lines, ""])
