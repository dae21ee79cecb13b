"""Pictures of README and of the site, drawn from `results/` and from the presets.

    python -m experiments.picture

writes docs/left.png (what two attackers leave of each method), docs/eps.png (accuracy against eps) and
docs/methods/*.png (how each method works).
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from matplotlib.figure import Figure

from art_ext import plots, presets
from art_ext.attacks import Linf, ascent, cross_entropy, pgd
from art_ext.data import fashion_mnist
from art_ext.evaluation import Report
from experiments.claims import entries
from experiments.lab import write
from experiments.render import IN_ORDER, module

COLUMNS = {
    "leaves": ("the paper's kind of attacker", "#7aa6c2"),
    "worst case, R = 1": ("every attack together", "#b3412f"),
}
NUMBERS = re.compile(r"([\d.]+) % \[([\d.]+), ([\d.]+)\]")


def drawn(folder: Path) -> Figure:
    """Bars with 95 % intervals, a pair a row of the overview, from the reports of a folder."""
    found = [entries(row, folder) for paper in IN_ORDER for row in module(paper).ROWS]
    figure = Figure(figsize=(8, 0.55 * len(found) + 1.2), layout="constrained")
    axes = figure.subplots()
    for k, (column, (label, colour)) in enumerate(COLUMNS.items()):
        values = [tuple(map(float, NUMBERS.search(entry[column]).groups())) for entry in found]  # type: ignore[union-attr]
        places = [i + 0.38 * k for i in range(len(found))]
        errors = [[m - low for m, low, _ in values], [high - m for m, _, high in values]]
        axes.barh(places, [m for m, *_ in values], 0.36, xerr=errors, label=label, color=colour, capsize=2)
    axes.set_yticks([i + 0.19 for i in range(len(found))], [f"{e['method']}\n{e['data']}" for e in found], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("images left, % (95 % intervals over images, one small network each)", fontsize=9)
    figure.legend(loc="outside upper right", ncols=2, fontsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure


SWEEPS = {
    "undefended": ("rdp_fashion_mnist_white", "undefended"),
    "adversarially trained": ("rdp_fashion_mnist_white", "adversarially trained"),
    "RDP": ("rdp_fashion_mnist_white", "RDP"),
    "DIR (adversarially trained network behind it)": ("dir_fashion_mnist_strong", "DIR"),
    "AToP": ("atop_fashion_mnist_checks", "RT2 + AToP"),
    "CD-VAE": ("cdvae_fashion_mnist_white", "CD-VAE"),
}
"""Reports with probes along eps, all of PGD-20 with full knowledge on Fashion-MNIST. DRRDN was measured on MNIST alone,
at one eps: it has none."""
BEHIND = {
    "rdp": "fashion_mnist_cnn", "dir": "fashion_mnist_robust", "atop": "fashion_mnist_cnn",
    "cdvae": "fashion_mnist_cdvae_classifier", "drrdn": "",
}  # fmt: skip
"""The preset whose answers count, by method; a DRRDN is itself one."""


def sweeps(folder: Path) -> Figure:
    """Accuracy against eps with intervals, of each method that the reports of a folder have it for."""
    reports = {file: Report.load(folder / f"{file}.json") for file, _ in SWEEPS.values()}
    return plots.eps_curves({label: reports[file].curve(model, "eps") for label, (file, model) in SWEEPS.items()})


def explained(method: str) -> Figure:
    """How a preset of `BEHIND` works on four images, clean and attacked: PGD-40, full knowledge, eps 0.1."""
    torch.manual_seed(0)
    images, first = fashion_mnist("test", 4), presets.load(f"fashion_mnist_{method}")
    whole = torch.nn.Sequential(first, presets.load(BEHIND[method])) if BEHIND[method] else first
    x_adv = pgd(ascent(cross_entropy(whole, images.y)), images.x, norm=Linf(), eps=0.1, steps=40)
    return plots.explain(first, images.x, x_adv)


if __name__ == "__main__":
    made = {"left": drawn(Path("results")), "eps": sweeps(Path("results"))}
    for name, figure in {**made, **{f"methods/{method}": explained(method) for method in BEHIND}}.items():
        write(Path(f"docs/{name}.png"), plots.png(figure))
