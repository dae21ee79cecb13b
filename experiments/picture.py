"""The picture of README: what two attackers leave of each method, as `results/` has it.

python -m experiments.picture    # writes docs/left.png
"""

from __future__ import annotations

import re
from pathlib import Path

from matplotlib.figure import Figure

from art_ext.evaluation import Report
from art_ext.files import replacing
from experiments.claims import row_entries
from experiments.render import IN_ORDER, module

COLUMNS = {
    "leaves": ("the paper's kind of attacker", "#7aa6c2"),
    "worst case, R = 1": ("every attack together", "#b3412f"),
}
NUMBERS = re.compile(r"([\d.]+) % \[([\d.]+), ([\d.]+)\]")


def drawn(folder: Path) -> Figure:
    """Bars with 95 % intervals, a pair a row of the overview, from the reports of a folder."""
    rows = [row for paper in IN_ORDER for row in module(paper).ROWS]
    found = [row_entries(row, [Report.load(folder / f"{n}.json") for n in (row.first, *row.others)]) for row in rows]
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


if __name__ == "__main__":
    with replacing(Path("docs/left.png")) as temporary:
        drawn(Path("results")).savefig(temporary, dpi=110, format="png")
