"""CD-VAE's tables from their reports: Tables 6 and 7, and those of section 3.2."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import parts
import worst_cases

from art_ext.evaluation import Interval, Report

TABLE_6 = {
    "PGD-100, grey-box": ("native PGD-100, transfer", "native PGD-100"),
    "C&W-100, grey-box": ("native PGD-100 margin, transfer", "native PGD-100 margin"),
    "StAdv-100, grey-box": ("native StAdv-100 0.05, transfer", "native StAdv-100 0.05"),
    "PGD-200": ("native PGD-200",),
    "AutoAttack": ("autoattack standard", "autoattack rand"),
}
TABLE_7 = {
    "PGD-200": ("native PGD-200",),
    "AutoAttack": ("autoattack standard", "autoattack rand"),
    "JPEG-100": ("native JPEG-100 0.125",),
    "JPEG-100 at 0.5": ("native JPEG-100 0.5",),
    "ReColor-100": ("native ReColorAdv-100 0.06",),
    "StAdv-100": ("native StAdv-100 0.05",),
}
GAMES = ("CD-VAE, game", "CD-VAE, released game")
CLEAN_TRAINED = ("undefended", "CD-VAE")
UNSEEN = ("JPEG-100", "JPEG-100 at 0.5", "ReColor-100", "StAdv-100")
MEAN, LOWEST = "unseen mean, on the images of all its columns", "lowest column"


def table(reports: Mapping[str, Report]) -> str:
    """Table 6 beside full gradients, the same in L2, Table 7 with the mean of what was unseen, as Markdown.

    Of the parts that have been measured; without the white box no model has a worst case.
    """
    lines = []
    for title, six, seven in (("Linf", "grey", "white"), ("L2", "grey_l2", "white_l2")):
        if six in reports:
            models = reports[six].models()
            both = [reports[six], *([parts.only(reports[seven], models)] if seven in reports else [])]
            worst = dict.fromkeys(models, both) if seven in reports else {}
            lines += [f"{title}, grey-box{' and full' if seven in reports else ''}:", parts.table(both, TABLE_6, worst)]
            lines += [parts.gains(both, [("CD-VAE", "undefended")], TABLE_6)]
    if "white" in reports:
        white = reports["white"]
        found = [reports[k] for k in ("white", "jpeg", "sampled") if k in reports]
        worst = {m: [r] for r in reversed(found) for m in r.models()}  # that of the first report that has the model
        lines += ["White box, Linf:", parts.table(found, TABLE_7, worst)]
        pairs = [(m, "adversarially trained") for m in GAMES]
        if "adversarially trained" in white.models():
            lines += [parts.gains(found, pairs, TABLE_7)]
        weak = too_weak(white)
        lines += [
            f"Does not even break the undefended model, so that its column says nothing of a defence: {k} ({share})."
            for k, share in weak.items()
        ]
        if "white_l2" in reports:
            l2 = reports["white_l2"]
            lines += ["White box, L2:", parts.table([l2], TABLE_7, {m: [l2] for m in l2.models()})]
            if "adversarially trained" in l2.models():
                lines += [parts.gains([l2], pairs, TABLE_7)]
            lines += [
                "The last columns of Table 7. Linf and L2: right under both PGD and AutoAttack. Unseen: L2, StAdv and "
                "the like, and Linf too for models trained on clean images; the mean leaves out what does not break "
                "the undefended model, and is over the first images, which all of its columns saw. The lowest column "
                "is picked after the fact, so that it is no estimate of a worst case.",
                unseen_table(found, l2, weak),
            ]
    return "\n\n".join(lines)


def too_weak(report: Report) -> dict[str, Interval]:
    """The attacks of Table 7 which leave the undefended model more than half, and how much, if any do."""
    cells = {k: parts.cell([report], "undefended", titles) for k, titles in TABLE_7.items()}
    return {k: c.accuracy for k, c in cells.items() if c is not None and c.accuracy.low > 0.5}


def unseen_table(linf: Sequence[Report], l2: Report, without: Collection[str] = ()) -> str:
    """The last column of Table 7: the mean over what a model was not trained against, and the lowest of all columns.

    Linf and L2 are worst cases per image over PGD and AutoAttack, as far as they were run, at R = 1. A model that was
    trained on clean images has not seen Linf either. The mean is over the first images, which all of its columns saw.

    Args:
        linf: those of Linf and of what has a bound of its own; the first has all models.
        l2: that of L2.
        without: columns that are left out.
    """
    names = linf[0].models()
    ran = [k for k in UNSEEN if k not in without and any(parts.cell(linf, m, TABLE_7[k]) for m in names)]
    rows = []
    for model in names:
        found = {"Linf": _strong(linf[0], model), "L2": _strong(l2, model)}
        found |= {k: c.survived for k in ran if (c := parts.cell(linf, model, TABLE_7[k])) is not None}
        found = {k: values for k, values in found.items() if values}
        rows.append({"model": model, **{k: str(parts.interval(values)) for k, values in found.items()}})
        if found:
            lowest = min(found, key=lambda k: parts.interval(found[k]).mean)
            rows[-1][LOWEST] = f"{lowest}: {parts.interval(found[lowest])}"
        unseen = ["L2", *ran] if model not in CLEAN_TRAINED else ["Linf", "L2", *ran]
        rows[-1] |= {MEAN: str(_joint([found[k] for k in unseen]))} if found.keys() >= {*unseen} else {}
    return parts.grid(["model", "Linf", "L2", *ran, MEAN, LOWEST], rows)


def _strong(report: Report, model: str) -> list[float]:
    """Per image, the share of redraws in which neither PGD nor AutoAttack broke it, over the images that all saw."""
    titles = [*TABLE_7["PGD-200"], *TABLE_7["AutoAttack"]]
    return worst_cases.left([c for c in report.attacked(model) if parts.title(c) in titles])


def _joint(columns: Sequence[Sequence[float]]) -> Interval:
    """The mean of the columns' means, over the images that all of them have."""
    return parts.interval([sum(image) / len(image) for image in zip(*columns, strict=False)])


def findings_table(results: Path, prefix: str) -> str:
    """Tables 1 to 3 and the numbers of Fig. 4, as far as they are there, as Markdown."""
    both = ((analysis_table, "analysis"), (curve_table, "gamma"))
    paths = {make: results / f"{prefix}_{name}.json" for make, name in both}
    return "\n\n".join(make(json.loads(p.read_text("utf-8"))) for make, p in paths.items() if p.is_file())


def analysis_table(found: Mapping[str, Any]) -> str:
    """Norms of the parts of a perturbation, similarities of the parts of an image, Table 3."""
    lines = ["| part | L1 | L2 | Linf |", "|---|---|---|---|"]
    for part, sizes in found["norms"].items():
        lines.append("| " + " | ".join([part, *(f"{m:.3g} ± {s:.2g}" for m, s in sizes.values())]) + " |")
    for part, (mean, deviation) in found["cosine"].items():
        lines.append(f"\nCosine similarity of {part}(x) and {part}(x'): {mean:.4f} ± {deviation:.4f}")
    for part, (distance, spread) in found["frechet"].items():
        lines.append(f"\nFrechet distance of {part}(x) and {part}(x'): {distance:.3g}, total variance {spread:.3g}")
    ordered = sorted(found["correlation"])
    middle, tenth = ordered[len(ordered) // 2], ordered[len(ordered) // 10]
    lines.append(f"\nCorrelation of z and z': median {middle:.3f}, tenth percentile {tenth:.3f}")
    n = found["options"]["images"]
    lines += ["\n| trained on | x | G(x) | R(x) |", "|---|---|---|---|"]
    for trained, row in found["top-1"].items():
        lines.append(
            "| " + " | ".join([trained, *(str(parts.of_share(row[k], n)) for k in ("x", "G(x)", "R(x)"))]) + " |"
        )
    return "\n".join(lines)


def curve_table(found: Mapping[str, Any]) -> str:
    """Accuracies for each gamma; that of reconstruction is a mean of distances, and has no interval."""
    rows, n = found["rows"], found["options"]["images"]
    names = [k for k in rows[0] if k != "gamma"]

    def entry(name: str, value: float) -> str:
        return str(parts.of_share(value, n)) if name != "reconstruction" else f"{value:.1%}"

    lines = ["| gamma | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for row in rows:
        lines.append(f"| {row['gamma']:g} | " + " | ".join(entry(k, row[k]) for k in names) + " |")
    return "\n".join(lines)
