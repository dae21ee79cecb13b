"""The page's sections on RDP, DIR and AToP."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import atop_fashion_mnist as atop
import dir_ablation
import dir_fashion_mnist
import dir_targets
import parts
import rdp_ablation
import verdicts
import worst_cases

from art_ext import presets
from art_ext.evaluation import Report
from art_ext.evaluation.report import WORST

RDP = {
    "blind": (
        "RDP on Fashion-MNIST, attackers who do not know the purifier",
        "The paper's kind of attacker, with ART's preprocessing defences in the same run.",
    ),
    "white": (
        "RDP on Fashion-MNIST, attackers who know it",
        "Deterministic, and with the paper's dynamic inference (Gaussian noise, std 0.05) under EOT. "
        "`adaptive` is SSP, the label-free attack that RDP is trained with, through the purifier. AutoAttack breaks "
        "more under `bpda` than PGD does; one of its attacks, Square, needs no gradient, and may be why.",
    ),
    "targeted": (
        "RDP on Fashion-MNIST, the paper's Table 4",
        "Table 4's attacker wants a random other class, takes 10 steps of an eighth of eps from the image itself, and "
        "sees one draw of the noise (std 0.05). PGD-20 wants any other class, and averages 20 draws at each step.",
    ),
}


def rdp(name: str, folder: Path) -> str:
    """The section of one of RDP's reports."""
    title, text = RDP[name]
    report = verdicts.judged(Report.load(folder / f"rdp_fashion_mnist_{name}.json"))
    training = presets.describe("fashion_mnist_rdp").training
    schedule = (
        f"RDP is the preset `fashion_mnist_rdp`: {training['images']} images, {len(training['epochs'])} stages of "
        f"{', '.join(map(str, training['epochs']))} epochs, one seed."
    )
    header, rows = report.table()
    singly = [row for row in rows if not row[1].startswith(WORST)]
    lines = [f"## {title}", "", text, "", schedule, "", f"Under each attack, Linf eps {report.threat['eps']:g}:", ""]
    lines += [parts.markdown(header, singly), ""]
    header, rows = report.repeat_table()
    if rows:
        lines += ["What ten redraws say about the final examples:", "", parts.markdown(header, rows), ""]
    lines += [
        "Worst case: right under every attack in the ball of such a knowledge, over the images that all of them saw. "
        "StAdv has a bound of its own and does not count. An adversarially trained network has no purifier to know: it "
        "is attacked directly.",
        "",
        worst_by_knowledge(report),
        "",
        *verdicts.unhappy({name: report}),
        "",
        "Not tested:",
        "",
        *(f"- {what}" for what in report.not_tested),
    ]
    return "\n".join([*lines, "", f"`{json.dumps(parts.about(report))}`", ""])


def worst_by_knowledge(report: Report) -> str:
    """A row a model and knowledge, and one for all knowledges of it, as Markdown."""
    drawn = any(report.clean(m).repeats > 1 for m in report.models())
    rows = []
    for model in report.models():
        attacked = report.attacked(model)
        known = list(dict.fromkeys(c.knowledge for c in attacked))
        for knowledge in [*known, *(["any"] if len(known) > 1 else [])]:
            cells = [c for c in attacked if knowledge in (c.knowledge, "any")]
            row = worst_cases.entries(cells, report.clean(model), drawn)
            rows.append({"model": model, "knowledge": knowledge, **row})
    return parts.grid(["model", "knowledge", *worst_cases.COLUMNS], rows)


def rdp_ablations(folder: Path) -> str:
    found = json.loads((folder / "rdp_ablation.json").read_text("utf-8"))
    options = found["options"]
    seeds = "one seed" if len(options["seeds"]) == 1 else f"mean over {len(options['seeds'])} seeds"
    text = (
        f"Every variant from the same weights on the same batches, in small ({options['train']} training images, "
        f"{options['epochs']} epochs), Linf eps {rdp_ablation.EPS:g}; {seeds}, n "
        "counts images. Under Algorithm 1 the reconstruction loss never reaches the purifier: without that branch "
        "nothing changes."
    )
    title = "## RDP's ablation (the paper's Figure 8)"
    about = f"`{json.dumps(parts.options(found))}`"
    return "\n".join([title, "", text, "", rdp_ablation.table(found), "", about, ""])


def dir_(folder: Path) -> str:
    """DIR's table, its diagnostics, and what the checks say."""
    script = dir_fashion_mnist
    reports = {k: verdicts.judged(r) for k, r in parts.load(folder, script.PREFIX, list(script.PARTS)).items()}
    lines = [
        "## DIR on Fashion-MNIST, before an adversarially trained classifier",
        "",
        "The target is `fashion_mnist_robust`, Linf eps 0.1; RDP is the preset that was made for `fashion_mnist_cnn`, "
        "another network, and JPEG's gradient a stand-in. PGD, MI and VNI draw the masks once a step, as the paper "
        "has it; the other columns average over 20 draws wherever the model draws. `masks frozen`: attacker and "
        "defence share one draw. On the target, which has no purifier to know, BPDA and Eq. 8 are plain PGD-40. The "
        "worst case counts an image as right only if no attack broke it, at R = 1 in one redraw, at "
        f"R = {worst_cases.STATED} in any of {worst_cases.STATED}.",
        "",
        "The preset is small (114,352 weights, patches of 4, 8,000 training images) and was trained with Adam on Eq. 7 "
        "plus ten times the squared error to the clean image: with Eq. 7 alone restorations leave the images, see the "
        "ablations. The paper has 5.6 M weights, SGD and no squared error.",
        "",
        script.table(reports),
        "",
        "Attacks that nobody can make, on the same images. Eq. 8 goes after each restoration by itself; the losses of "
        "the second stage see their mean alone, so that these are no images any more (notebook 03), and Eq. 8 is weak.",
        "",
        script.diagnostics_table(folder),
        "",
        *verdicts.unhappy(reports),
        "",
        "What ten draws of the masks say about the final examples (DIR, `strong`):",
        "",
        parts.markdown(*reports["strong"].repeat_table()),
    ]
    return "\n".join([*lines, "", f"`{json.dumps(parts.about(reports['strong']))}`", ""])


def dir_targets_(folder: Path) -> str:
    """DIR before a frozen target and one that is trained with it; empty where it was not measured."""
    script, path = dir_targets, folder / f"{dir_targets.PREFIX}.json"
    if not path.is_file():
        return ""
    report = verdicts.judged(Report.load(path))
    found = json.loads((folder / f"{script.PREFIX}_training.json").read_text("utf-8"))
    options = found["options"]
    below = [k for k, v in found["models"].items() if v and v["L_adv"]["pipeline"] < v["L_adv"][script.ALONE]]
    said = (
        f"L_adv came below that of the target in: {', '.join(below)}."
        if below
        else "L_adv never came below that of the target alone: not even under the attack that DIR was trained with is "
        "a target better off behind it."
    )
    lines = [
        "## DIR before a frozen target, and before one that is trained with it",
        "",
        "The mean of two complementary masks lets the second stage learn the identity: twice what is seen, nothing "
        "for what is hidden. With the squared error of each mask's restoration it does not. `frozen`: Algorithm 1, "
        f"alpha 1 and ten times that error, {options['pretraining_epochs']} + {options['epochs']} epochs. `trained "
        "with it`: the released code's joint training, SGD at 5e-5 and 0.1, alpha 1, no squared error. `trained "
        f"further`: that target alone, SGD at 0.1 for the same {options['epochs']} epochs. One training each.",
        "",
        f"On {script.WATCHED} training images, eps 0.1: the loss of the training attack's examples, through DIR and on "
        "the target alone; slopes of single restorations on the image, 1 and 1 of an inpainter, 2 and 0 of the "
        "identity; and the share of an adversarial perturbation that does not come through.",
        "",
        script.training_table(found),
        "",
        said,
        "",
        parts.table([report], script.COLUMNS, {m: [report] for m in report.models()}),
        "",
        *verdicts.unhappy({"targets": report}),
    ]
    return "\n".join([*lines, "", f"`{json.dumps(parts.about(report) | parts.options(found))}`", ""])


def dir_ablations(folder: Path) -> str:
    found = json.loads((folder / "dir_ablation.json").read_text("utf-8"))
    text = (
        "In small, one seed: all have ten times the squared error beside Eq. 7 unless they say otherwise. Without "
        "pre-training three epochs are hardly a training, so that row says nothing about the paper's. Every variant is "
        "trained on the same batches, variants of one shape from the same weights. PGD-20 draws the masks once a step, "
        "`+ EOT` averages over draws, differences are to the full method."
    )
    seconds = {row["variant"]: row["seconds"] for row in found["rows"]}
    about = parts.options(found) | {"training_seconds": seconds}
    return "\n".join(["## DIR's ablations", "", text, "", dir_ablation.table(found), "", f"`{json.dumps(about)}`", ""])


def atop_(folder: Path) -> str:
    """AToP's tables, as far as they have been measured; empty where nothing was."""
    measured = parts.there(folder, atop.PREFIX, list(atop.PARTS))
    if not measured:
        return ""
    reports = {k: verdicts.judged(r) for k, r in parts.load(folder, atop.PREFIX, measured).items()}
    first = reports[measured[0]]
    beside = folder / "cdvae_fashion_mnist_white_l2.json"
    l2 = Report.load(beside) if beside.is_file() and "unseen" in reports else None
    about = first.provenance["data"]["purifiers"]
    missing = ", ".join(f"`{k}`" for k in atop.PARTS if k not in measured)
    swept = [*verdicts.sweeps(reports["checks"], ALONE), ""] if "checks" in reports else []
    told = {k: verdicts.without_sweeps(r, ALONE) if k == "checks" else r for k, r in reports.items()}
    lines = [
        "## AToP on Fashion-MNIST, before a classifier that was trained on clean images",
        "",
        *atop_text(reports, about),
        atop.ordering([reports[k] for k in atop.SEVEN if k in reports]) + " " + atop.remains(reports),
        "",
        atop.table(reports, l2),
        "",
        *(
            [
                "In L2, AutoAttack was run on the networks without a purifier alone (see CD-VAE's tables): PGD hardly "
                "finds what breaks the adversarially trained one. The others' worst case is that of PGD, and `unseen | "
                "static baseline` holds PGD against PGD, which therefore says nothing against them.",
                "",
            ]
            if l2 is not None
            else []
        ),
        *([f"Not measured: {missing}.", ""] if missing else []),
        *swept,
        *verdicts.unhappy(told),
    ]
    return "\n".join([*lines, "", f"`{json.dumps(parts.about(first) | {'purifiers': about})}`", ""])


ALONE = (atop.UNDEFENDED, atop.ROBUST)
"""The models of AToP's reports that have no purifier."""


def atop_text(reports: Mapping[str, Report], about: Mapping[str, Any]) -> list[str]:
    """What stands above AToP's tables, in lines.

    Args:
        reports: by part.
        about: how the purifiers were trained.
    """
    found = (reports[k].provenance["data"]["purifiers"] for k in ("known", "unseen") if k in reports)
    others = dict.fromkeys(
        f"{_generator(o)}, {o['pretraining_epochs']} + {o['epochs']} epochs" for o in found if o != about
    )
    return [
        "The classifier is `fashion_mnist_cnn`, Linf eps 0.1. RT1 hides blocks of the image, RT2 adds noise too, RT3 "
        "fills in turn the holes of masks that cover the image; `+ AToP` is fine-tuned against FGSM on the classifier. "
        "`blind` attackers see the classifier alone, as in Table 7 of the paper's poster; all others differentiate "
        "through the purifier and average over 20 draws; frozen ones, where attacker and defence share one draw, and "
        "networks without a purifier, which are attacked directly in every column, have no draws. PGD under EOT lets "
        "an image rest for ten steps while 20 fresh draws misclassify it; AutoAttack's `rand` is content with an "
        "example once one pass misclassifies it, which a redraw may forgive.",
        "",
        "Attacks saw as many images as their n says. Accuracies are means over ten redraws. The worst case is under "
        "every attack in the ball (StAdv has a bound of its own and does not count), over the images that all of these "
        f"saw: at R = 1 the mean over single redraws, at R = {worst_cases.STATED} the share of images that are right "
        f"in all of {worst_cases.STATED}, estimated from the ten without bias. The clean accuracy at "
        f"R = {worst_cases.STATED} is what redraws cost without any attack. AutoAttack's examples were answered with "
        "other draws than the rest, so that R = 1 is one redraw for it and one for the others; the worst case of a "
        "frozen model counts its own PGD-200.",
        "",
        f"The generator is small ({_generator(about)}; the released one has width 48 and no fold) and trained from "
        f"scratch on {about['train']} images, {about['pretraining_epochs']} + {about['epochs']} epochs; the released "
        "one starts from weights of Places2. The networks are in `atop_fashion_mnist_networks/`."
        + (f" Those of the tables by what RT2 was fine-tuned against are others: {'; '.join(others)}." * bool(others)),
        "",
    ]


def _generator(about: Mapping[str, Any]) -> str:
    return f"width {about['width']}, fold {about.get('fold', 1)}"
