"""DRRDN's tables from their reports: Tables 1, 3 and 4, and what the images before those of the tables say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import parts

from art_ext.evaluation import Cell, Report, paired_difference

PREFIX = "drrdn_mnist"
MODELS = ("Standard", "Madry", "TRADES", "DRRDN")
COMPARED = (*MODELS, "halves")
COLUMNS = {k: (k,) for k in ("FGSM, step 0.1", "FGSM", "PGD-40", "PGD-100", "CW-40", "CW-100")}
COLUMNS |= {"AutoAttack": ("autoattack standard",)}
PAIRS = [("DRRDN", other) for other in ("TRADES", "Madry", "halves")]
BEFORE, LATER, BOTH = "PGD-40, the images before", "PGD-40, the images of the tables", "PGD-40, both"


def table(reports: Mapping[str, Report]) -> str:
    """Tables 1 and 4; without AutoAttack no model has a worst case."""
    both = [reports[k] for k in ("white", "autoattack") if k in reports]
    lines = [parts.table(both, COLUMNS, dict.fromkeys(COMPARED, both) if "autoattack" in reports else {})]
    lines += [parts.gains(both, PAIRS, {k: v for k, v in COLUMNS.items() if "FGSM" not in k})]
    if "before" in reports:
        before = reports["before"].provenance["images"]
        lines += [f"With the {before} images before them, added once the above was seen:", pooled(reports)]
        lines += [replication(reports)]
    names, matrix = reports["transfer"].transfer_matrix("PGD-40")
    lines += ["PGD-40 made on the model of the column, tried on that of the row:"]
    lines += [parts.grid(["model", *names], [{"model": m, **{s: str(matrix[s, m]) for s in names}} for m in names])]
    alone = [reports["ablation"]]
    lines += ["Ablation:", parts.table(alone, {k: COLUMNS[k] for k in ("PGD-40", "PGD-100")}, {})]
    return "\n\n".join([*lines, parts.gains(alone, [("DRRDN", "halves")], {"PGD-100": COLUMNS["PGD-100"]})])


def pooled(reports: Mapping[str, Report]) -> str:
    """Clean images and PGD-40 on the images of `before` and of `white` together."""
    titles = {"clean": ("clean, none",), "PGD-40": COLUMNS["PGD-40"]}
    rows = []
    for model in COMPARED:
        found = {k: _answers(reports, model, names) for k, names in titles.items()}
        rows.append({"model": model, **{k: str(parts.interval([*a, *b])) for k, (a, b) in found.items()}})
    return parts.grid(["model", *titles], rows)


def replication(reports: Mapping[str, Report]) -> str:
    """DRRDN minus the others under PGD-40 on the images of `before`, on those of `white`, and on both.

    A sentence says which differences the latter show and the former by themselves do not.
    """
    rows, alone = [], []
    for pair in PAIRS:
        ours, theirs = (_answers(reports, m, COLUMNS["PGD-40"]) for m in pair)
        name = " minus ".join(pair)
        gaps = [parts.gap(a, b) for a, b in zip(ours, theirs, strict=True)]
        row = dict(zip((BEFORE, LATER), gaps, strict=True))
        rows.append({parts.POINTS: name, **row, BOTH: parts.gap([*ours[0], *ours[1]], [*theirs[0], *theirs[1]])})
        before, later = (paired_difference(a, b) for a, b in zip(ours, theirs, strict=True))
        alone += [name] if later.low > 0 >= before.low else []
    told = f"Shown by the images of the tables and not by those before alone: {', '.join(alone)}." if alone else ""
    return "\n\n".join([parts.grid([parts.POINTS, BEFORE, LATER, BOTH], rows), *filter(None, [told])])


def _answers(reports: Mapping[str, Report], model: str, titles: Sequence[str]) -> list[list[float]]:
    """Per image of `before` and of `white`, whether it is right."""
    cells: list[Cell | None] = [parts.cell([reports[k]], model, titles) for k in ("before", "white")]
    return [[] if c is None else c.survived for c in cells]


def hybrid_table(results: Path) -> str:
    """Table 3, and the diagnosis."""
    found = json.loads((results / f"{PREFIX}_hybrid.json").read_text("utf-8"))
    rows = [{"hybrid": row["hybrid"], "accuracy": str(parts.interval(row["correct"]))} for row in found["rows"]]
    return "\n".join(
        [parts.grid(["hybrid", "accuracy"], rows), "", *(f"- {k}: {v:.3f}" for k, v in found["parts"].items())]
    )
