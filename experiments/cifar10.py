"""The five methods on CIFAR-10, Linf 8/255, beside no defence and adversarial training: one table, presets alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from art_ext import plots, presets
from art_ext.evaluation import Attack, Probe, Report, Threat, mean_interval
from art_ext.evaluation.report import several
from art_ext.nn import seeded
from experiments.attackers import ADAPTIVE, BLIND, BPDA, FULL, TRANSFER, native
from experiments.claims import CIFAR10, CIFAR10_ALL, CIFAR10_PARTS, Row
from experiments.core import Experiment, Item, Model, Part, Table, Work
from experiments.data import SETS
from experiments.lab import Lab
from experiments.networks import preset
from experiments.page import Results, about, common, grid, laid_out, made_by, section, show, unhappy

SCALES: Mapping[str, dict[str, Any]] = {
    "small": {"images": 512, "unseen": 256, "drawn": 64, "strong": 128, "probe": Probe(32, 10), "samples": 5},
    "paper": {"images": 1000, "unseen": 1000, "drawn": 1000, "strong": 1000, "probe": Probe(), "samples": 20},
}  # fmt: skip
ROBUST = "adversarially trained"
PURIFIED = ("RDP", "DIR", "AToP", "CD-VAE")
MODELS: Mapping[str, Model] = {
    "undefended": Model("resnet", surrogate="surrogate"),
    ROBUST: Model("robust", surrogate="surrogate", robust=True),
    "RDP": Model("resnet", "rdp", "surrogate"),
    "DIR": Model("robust", "dir", "surrogate"),
    "AToP": Model("resnet", "atop", "surrogate"),
    "CD-VAE": Model("cdvae_classifier", "cdvae", "surrogate"),
    "DRRDN": Model("drrdn", surrogate="surrogate", robust=True),
}
"""Each by the presets `cifar10_...` that it is made of."""
DRAWN = ("DIR", "AToP")
FIXED = tuple(name for name in MODELS if name not in DRAWN)
"""What draws nothing."""
ITEMS = (
    Item("the table", "all five beside no defence and adversarial training: blind, transfer, BPDA, full, adaptive",
         CIFAR10_PARTS),
    Item("unseen attacks", "L2 0.5 and StAdv", ("l2", "stadv")),
    Item("strong attacks", "PGD-200 + EOT-20 and Square under EOT", ("strong",)),
    Item("the adversarially trained network", "native AutoAttack on 1,000 images", ("robust",)),
    Item("the official AutoAttack", "pyautoattack on what draws nothing", ("official",)),
    Item("pictures", "images, adversaries, what each purifier makes of them", ("pictures",)),
)  # fmt: skip
DECLARED = ("cifar10",)
H100, PART = 989e12, 0.05
"""Operations a second of an H100 in bfloat16, without sparsity (its data sheet), and the share of it assumed here."""
NATIVE, OFFICIAL = "native AutoAttack", "autoattack standard"
COLUMNS = {
    **native(*(f"PGD-20, {k}" for k in ("transfer", "blind", "bpda", "adaptive")), "PGD-20"),
    "AutoAttack": (NATIVE, "native AutoAttack under EOT"),
}
UNSEEN = {"PGD-40 in L2": ("native PGD-40",), "StAdv": ("native StAdv-40 0.05",)}
ROWS = tuple(
    Row(f"{name}, preset `cifar10_{name.lower().replace('-', '')}`", "CIFAR-10", attacker, CIFAR10, title,
        CIFAR10_ALL[1:], name)
    for name, attacker, title in (
        ("RDP", "PGD-20 on the bare classifier", "native PGD-20, blind"),
        ("DIR", "PGD-20 through it, five draws a step", "native PGD-20"),
        ("AToP", "PGD-20 on the bare classifier", "native PGD-20, blind"),
        ("CD-VAE", "PGD-20 on another classifier of x", "native PGD-20, transfer"),
        ("DRRDN", "PGD-20", "native PGD-20"),
    )
)  # fmt: skip


def declare(data: str, scale: str) -> Experiment:
    """The table of settings."""
    s, linf, every = SCALES[scale], Threat("Linf", SETS[data].eps), tuple(MODELS)
    options = {"average": "logits", "eot_samples": s["samples"]}
    more = {"targets": 1, "queries": 100} if scale == "small" else {}
    short, middle, long = (Attack("native", "PGD", {"steps": n}) for n in (20, 40, 200))

    def part(models: tuple[str, ...], attacks: tuple[Attack, ...], images: str, **told: Any) -> Part:
        usual = {"threat": linf, "knowledge": FULL, "images": s[images], "options": options}
        return Part(models, attacks, **usual | told)

    parts: dict[str, Part | Work] = {
        "white": part(every, (short,), "images", knowledge=TRANSFER + BLIND + BPDA + FULL, probe=s["probe"]),
        "adaptive": part((*PURIFIED, "DRRDN"), (short,), "images", knowledge=ADAPTIVE),
        "l2": part(every, (middle,), "unseen", threat=Threat("L2", 0.5)),
        "stadv": part(every, (Attack("native", "StAdv", {"steps": 40}),), "unseen"),
        "autoattack": part(FIXED, (Attack("native", "AutoAttack"),), "images"),
        "robust": Part((ROBUST,), (Attack("native", "AutoAttack"),), linf, FULL, 1000, options=options),
        "autoattack_eot": part(DRAWN, (Attack("native", "AutoAttack", more, label="native AutoAttack under EOT"),),
                               "drawn"),
        "strong": part(every, (long, Attack("native", "Square", {"queries": 1000}, on="randomised")), "strong",
                       options={**options, "eot_samples": 20}),
        "official": part(FIXED, (Attack("autoattack", "standard"),), "strong"),
        "pictures": Work(pictures),
    }  # fmt: skip
    kept = ("resnet", "surrogate", "robust", "rdp", "dir", "atop", "cdvae", "cdvae_classifier", "drrdn")
    pairs = tuple((m, ROBUST) for m in MODELS if m not in ("undefended", ROBUST))
    return Experiment("cifar10", data, scale, {k: preset(f"cifar10_{k}") for k in kept}, MODELS, parts, {
        "All five": Table(CIFAR10_PARTS, COLUMNS, (CIFAR10_PARTS,), pairs),
        "Unseen attacks": Table(("l2", "stadv"), UNSEEN),
    })  # fmt: skip


def pictures(lab: Lab) -> dict[str, Any]:
    """Images, adversaries of the classifier's attacker, and what each purifier makes of these; a picture beside it."""
    test = lab.test(6)
    x_adv = lab.attacked(lab("resnet"), test, 20, 0.1)
    with torch.no_grad(), seeded(lab.seed):
        made = {k: lab(str(MODELS[k].purifier))(x_adv).clamp(0, 1) for k in PURIFIED}
    lab.picture("pictures", plots.image_grid({"x": test.x, "x'": x_adv, **{f"{k}(x')": v for k, v in made.items()}}))
    errors = {k: float((v - test.x).abs().mean()) for k, v in {"x'": x_adv, **made}.items()}
    return {"errors": errors} | lab.stated({"images": len(test.x), "steps": lab.steps(20)})


SECTIONS = {
    "white": "Each attacker takes 20 steps. `transfer` and `blind` attack another network and the classifier without "
             "its purifier, `bpda` takes the purifier for the identity, `full` differentiates through it. What draws "
             "is averaged over five samples at each step.",
    "adaptive": "The attack that each method's own training or inner working suggests, 20 steps.",
    "autoattack": "Native AutoAttack, on what draws nothing.",
    "robust": "Native AutoAttack on the adversarially trained network alone, on more images.",
    "autoattack_eot": "Native AutoAttack on what draws: gradients averaged over five samples, APGD-T with one "
                      "target, Square with 100 queries, and no FAB-T.",
    "l2": "L2, radius 0.5, 40 steps: none of them was trained for it.",
    "stadv": "StAdv moves pixels; it has a bound of its own and does not count in the worst case.",
    "strong": "PGD-200 averaged over 20 samples, and Square over as many.",
    "official": "AutoAttack as its authors have it (`pyautoattack`), on what draws nothing.",
}  # fmt: skip


def page(folder: Path) -> list[str]:
    """The sections of the page."""
    results = Results(folder, declare("cifar10", "small"))
    reports, drawn = results.reports(SECTIONS), results.values("pictures")
    made = [
        "The presets `cifar10_...` as they ship, Linf 8/255: classifiers of 1.2 million weights (DRRDN's of 1.5, the "
        "surrogate of 0.7), purifiers of at most 0.8 million, one training each, trained on JPEG-75 images and "
        "attacked on exact test images. DIR stands before the adversarially trained network, as in its paper; CD-VAE "
        "before a classifier of its own; RDP and AToP before the undefended one."
    ]
    for title, table, more in (
        ("All five", "All five", "AutoAttack under EOT, on DIR and AToP, is far shorter than on the others (see its "
         "part), so that it flatters them."), ("Attacks that none was trained for", "Unseen attacks", ""),
    ):  # fmt: skip
        if reports.keys() & {*results.experiment.tables[table].parts}:
            made.append(section(title, laid_out(results.experiment.tables[table], reports), more))
    if drawn:
        made.append(section(
            "Pictures", "Images of CIFAR-10 (Krizhevsky 2009), adversaries of the attacker who does not see the "
            "purifier (PGD-20), and what each purifier makes of them.",
            results.picture("pictures", "images, adversaries, purified"),
            grid(["image", "mean distance from the clean one"], [[k, f"{v:.3f}"] for k, v in drawn["errors"].items()]),
            made_by(drawn),
        ))  # fmt: skip
    if {"autoattack", "official"} <= reports.keys():
        made.append(section("Native AutoAttack beside the official one",
                            "Both on the same images, the differences in points.",
                            confirmed(reports["autoattack"], reports["official"])))  # fmt: skip
    return [*made, hours(reports), *(
        section(f"Part `{name}`", SECTIONS[name], show(*report.table()), unhappy({name: report}), about(report))
        for name, report in reports.items()
    )]  # fmt: skip


def confirmed(ours: Report, theirs: Report) -> str:
    """What both kinds of AutoAttack leave of each model on the images that both saw, as Markdown."""
    rows = []
    for model in theirs.models():
        cells = [several.cell([r], model, (t,)) for r, t in ((ours, NATIVE), (theirs, OFFICIAL))]
        if all(cells):
            mine, other = common(*(c.survived for c in cells if c is not None))
            apart = sum(a != b for a, b in zip(mine, other, strict=True))
            rows.append([model, *map(str, map(mean_interval, (mine, other))), several.gap(mine, other), str(apart)])
    return grid(["model", NATIVE, "pyautoattack, standard", "native minus pyautoattack", "images they differ on"], rows)


def hours(reports: Mapping[str, Report]) -> str:
    """What the presets and the reports took, and what an H100 would need, as a section."""
    known = {n: presets.describe(n).training for n in presets.names() if n.startswith("cifar10_")}
    rows = [[f"training of {n}", *_time(t["operations"], t["seconds"])] for n, t in known.items()
            if "operations" in t]  # fmt: skip
    cost = {name: operations(name) for name in MODELS}
    for name, report in reports.items():
        spent = sum(cell.seconds for cell in report.cells)
        done = sum(float(counted(cell) @ cost[cell.model]) for cell in report.cells)
        what = f"attacks of part `{name}`, n = {len(report.labels)}"
        rows.append([what, *_time(done, spent)])
    return section("Time", "Hours of one core, which others shared now and then; of a part, what its examples took. "
                   "Operations are the multiplications and additions of the passes that were counted (a backward pass "
                   "is two), those of checks left out; of a training, those of one batch times the batches. The H100 "
                   f"is one that reaches {100 * PART:.0f} % of its 989 TFLOP/s in bfloat16: an assumption, no "
                   "measurement.",
                   grid(["what", "operations", "hours here", "seconds of an H100"], rows))  # fmt: skip


def _time(operations: float, seconds: float) -> list[str]:
    return [f"{operations:.2g}", f"{seconds / 3600:.2f}", f"{operations / (H100 * PART):.1f}"]


def counted(cell: Any) -> Tensor:
    """Passes of images through the classifier and through the purifier (2,), a backward one as two."""
    seen = [float(cell.observed.get(f"{of}forward", 0)) + 2 * float(cell.observed.get(f"{of}backward", 0))
            for of in ("", "purifier_")]  # fmt: skip
    return torch.tensor(seen)


def operations(name: str) -> Tensor:
    """Of one image's forward pass through a model's classifier and purifier (2,), counted by torch."""
    found = []
    for part in (MODELS[name].classifier, MODELS[name].purifier):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            if part is not None:
                presets.load(f"cifar10_{part}")(torch.rand(1, 3, 32, 32))
        found.append(float(counter.get_total_flops()))
    return torch.tensor(found)
