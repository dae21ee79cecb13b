"""Writes results/README.md from the JSON files beside it, so that no number there is typed by hand.

python examples/paper_tables/render.py
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import parts
from overview import overview

from art_ext import presets
from art_ext.evaluation import Report, wilson
from art_ext.training import replacing

HEAD = """# Results

Written by `python examples/paper_tables/render.py` from the JSON files in this folder and the presets' own. Reports
hold every answer of every model; accuracies carry n and a 95 % Wilson interval, differences are paired on the same
images. [How an evaluation is read](../docs/evaluation.md): what attackers know, what the worst case counts, and what
each check holds against the numbers. `PGD-40` is PGD of 40 steps, `EOT-20` an average over 20 draws.
"""
WORDS = {"adaptive": "own", "repeats": "redraws", "right in every repeat": "right in every redraw"}
"""What stands alone in an entry of a table, and what the reports and the texts of this page call it."""
SECTIONS = {
    "blind": (
        "RDP on Fashion-MNIST, attackers who do not know the purifier",
        "The paper's kind of attacker, with ART's preprocessing defences in the same run.",
    ),
    "white": (
        "RDP on Fashion-MNIST, attackers who know it",
        "Deterministic, and with the paper's dynamic inference (Gaussian noise, std 0.05) under EOT. "
        "`own` is SSP, the label-free attack that RDP is trained with, through the purifier. AutoAttack breaks more "
        "under `bpda` than PGD does; one of its attacks, Square, needs no gradient, and may be why.",
    ),
}


def load(script: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(script, Path(__file__).parent / f"{script}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def report_section(name: str, folder: Path) -> str:
    title, text = SECTIONS[name]
    report = Report.from_json((folder / f"rdp_fashion_mnist_{name}.json").read_text("utf-8"))
    training = presets.describe("fashion_mnist_rdp").training
    schedule = (
        f"RDP is the preset `fashion_mnist_rdp`: {training['images']} images, {len(training['epochs'])} stages of "
        f"{', '.join(map(str, training['epochs']))} epochs, one seed."
    )
    lines = [f"## {title}", "", text, "", schedule, "", _in_their_words(report.markdown())]
    lines += [
        "Worst case: right under every attack in the ball, whatever its attacker knows, over the images that all of "
        "them saw. StAdv has a bound of its own and does not count. An adversarially trained network has no purifier "
        "to know: it is attacked directly.",
        "",
        "| model | worst case |",
        "|---|---|",
    ]
    lines += [f"| {model} | {report.worst_case(model)} |" for model in report.models()]
    return "\n".join([*lines, "", f"`{json.dumps(_about(report))}`", ""])


def _in_their_words(table: str) -> str:
    for now, then in WORDS.items():
        table = table.replace(f"| {now} |", f"| {then} |")
    return table


def _about(report: Report) -> dict[str, Any]:
    return {k: report.provenance[k] for k in ("versions", "python", "device", "threads", "seed", "images")}


def _options(found: Mapping[str, Any]) -> dict[str, Any]:
    """What a result was made with; where it was put says nothing."""
    kept = {k: v for k, v in found["options"].items() if k not in ("runs", "out")}
    return {"options": kept, "versions": found["versions"]}


def ablation_section(folder: Path) -> str:
    found = json.loads((folder / "rdp_ablation.json").read_text("utf-8"))
    script, about, options = load("rdp_ablation"), _options(found), found["options"]
    seeds = "one seed" if len(options["seeds"]) == 1 else f"mean over {len(options['seeds'])} seeds"
    text = (
        f"Every variant from the same weights on the same batches, in small ({options['train']} training images, "
        f"{options['epochs']} epochs), Linf eps {script.EPS:g}; {seeds}, n "
        "counts images. Under Algorithm 1 the reconstruction loss never reaches the purifier: without that branch "
        "nothing changes."
    )
    title = "## RDP's ablation (the paper's Figure 8)"
    return "\n".join([title, "", text, "", script.table(found), "", f"`{json.dumps(about)}`", ""])


def dir_section(folder: Path) -> str:
    script = load("dir_fashion_mnist")
    reports = parts.load(folder, script.PREFIX, list(script.PARTS))
    lines = [
        "## DIR on Fashion-MNIST, before an adversarially trained classifier",
        "",
        "The target is `fashion_mnist_robust`, Linf eps 0.1; RDP is the preset that was made for `fashion_mnist_cnn`, "
        "another network, and JPEG's gradient a stand-in. PGD, MI and VNI draw the masks once a step, as the paper "
        "has it; the other columns average over 20 draws wherever the model draws. `masks frozen`: attacker and "
        "defence share one draw. On the target, which has no purifier to know, BPDA and Eq. 8 are plain PGD-40. The "
        "worst case counts an image as right only if no attack broke it in any of ten redraws.",
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
        *unhappy(reports),
    ]
    header, repeats = reports["strong"].repeat_table()
    lines += ["", "What ten draws of the masks say about the final examples (DIR, `strong`):", ""]
    rows = (header, ["---"] * len(header), *repeats)
    lines += [_in_their_words("| " + " | ".join(row) + " |") for row in rows]
    return "\n".join([*lines, "", f"`{json.dumps(_about(reports['strong']))}`", ""])


def atop_section(folder: Path) -> str:
    script = load("atop_fashion_mnist")
    measured = parts.there(folder, script.PREFIX, list(script.PARTS))
    if not measured:
        return ""
    reports = parts.load(folder, script.PREFIX, measured)
    first = reports[measured[0]]
    beside = folder / "cdvae_fashion_mnist_white_l2.json"
    l2 = Report.load(beside) if beside.is_file() and "unseen" in reports else None
    about = first.provenance["data"]["purifiers"]
    missing = ", ".join(f"`{k}`" for k in script.PARTS if k not in measured)
    found = (reports[k].provenance["data"]["purifiers"] for k in ("known", "unseen") if k in reports)
    others = dict.fromkeys(
        f"{_generator(o)}, {o['pretraining_epochs']} + {o['epochs']} epochs" for o in found if o != about
    )
    lines = [
        "## AToP on Fashion-MNIST, before a classifier that was trained on clean images",
        "",
        "The classifier is `fashion_mnist_cnn`, Linf eps 0.1. RT1 hides blocks of the image, RT2 adds noise too, RT3 "
        "fills in turn the holes of masks that cover the image; `+ AToP` is fine-tuned against FGSM on the classifier. "
        "`blind` attackers see the classifier alone, as in Table 7 of the paper's poster; all others differentiate "
        "through the purifier and average over 20 draws; frozen ones, where attacker and defence share one draw, and "
        "networks without a purifier, which are attacked directly in every column, have no draws. PGD under EOT lets "
        "an image rest for ten steps while 20 fresh draws misclassify it; AutoAttack's `rand` is content with an "
        "example once one pass misclassifies it, which a redraw may forgive.",
        "",
        "Attacks saw as many images as their n says. Accuracies are means over ten redraws, but for `clean, every "
        "redraw` and the worst case: those count an image as right only if all ten were, the worst case under every "
        "attack in the ball (StAdv has a bound of its own and does not count), over the images that all of "
        "these attacks saw; that of a frozen model counts its own PGD-200. So the worst case of blind attacks, which "
        "`blind | static baseline` compares, is mostly what the redraws cost without any attack.",
        "",
        f"The generator is small ({_generator(about)}; the released one has width 48 and no fold) and trained from "
        f"scratch on {about['train']} images, {about['pretraining_epochs']} + {about['epochs']} epochs; the released "
        "one starts from weights of Places2. The networks are in `atop_fashion_mnist_networks/`."
        + (
            f" Those of the tables by what RT2 was fine-tuned against are others: {'; '.join(others)}."
            if others
            else ""
        ),
        "",
        script.ordering([reports[k] for k in script.SEVEN if k in reports]) + " " + script.remains(reports),
        "",
        script.table(reports, l2),
        "",
        *(
            [
                "In L2, AutoAttack was run on the networks without a purifier alone (see CD-VAE's tables): PGD hardly "
                "finds what breaks the adversarially trained one. The others' worst case is that of PGD, and so are "
                "both sides of `unseen | static baseline`, which therefore says nothing against them.",
                "",
            ]
            if l2 is not None
            else []
        ),
        *([f"Not measured: {missing}.", ""] if missing else []),
        *(sweeps(reports["checks"], (script.UNDEFENDED, script.ROBUST)) if "checks" in reports else []),
        *unhappy(reports),
    ]
    return "\n".join([*lines, "", f"`{json.dumps(_about(first) | {'purifiers': about})}`", ""])


def _generator(about: Mapping[str, Any]) -> str:
    return f"width {about['width']}, fold {about.get('fold', 1)}"


def cdvae_section(folder: Path) -> str:
    script, tables = load("cdvae_fashion_mnist"), load("cdvae_tables")
    measured = parts.there(folder, script.PREFIX, [*script.PARTS, *script.OTHERS])
    if not measured:
        return ""
    reports = parts.load(folder, script.PREFIX, [k for k in script.PARTS if k in measured])
    others = {
        k: json.loads((folder / f"{script.PREFIX}_{k}.json").read_text("utf-8")) for k in script.OTHERS if k in measured
    }
    missing = ", ".join(f"`{k}`" for k in (*script.PARTS, *script.OTHERS) if k not in measured)
    lines = [
        "## CD-VAE on Fashion-MNIST",
        "",
        f"G is trained with gamma {script.DEFENCE:g}, the paper's for its defence, and its classifier on G(x). "
        "Grey-box attackers see a classifier of x (`fashion_mnist_cnn`) and nothing of CD-VAE, as in the paper's Table "
        f"6; networks without a purifier are attacked directly, in every column. What is called C&W there is PGD on "
        f"the margin. Linf eps {script.EPS:g}, L2 eps {script.EPS_L2:g}. "
        "JPEG has the paper's bound of 0.125 where no other is given.",
        "",
        *([script.table(reports), ""] if reports else []),
        *([*unhappy(reports), ""] if reports else []),
    ]
    if others:
        options = next(iter(others.values()))["options"]
        lines += [
            f"Trained with Adam on {options['train']} images: every CD-VAE and every classifier {options['epochs']} "
            f"epochs, the games {options['game_epochs']} with {options['steps']} steps of their attack, one seed. The "
            "preset `fashion_mnist_cdvae` is another network, trained longer.",
            "",
            f"Where perturbations go and which part tells the class (gamma {script.UNDERSTANDING:g}, the paper's "
            "Tables 1 to 3; the Frechet distance is of features of `fashion_mnist_vgg`, beside the total variance of "
            "those of clean images; the paper's is of an Inception network's), and what gamma trades (Figure 4): "
            "`classification` is of R(x) by its own classifier, "
            "`reconstruction` is 1 - |x - G(x)| / |x|, `clean` and `defence` are of a classifier of G(x), `defence` "
            f"under PGD-100 on a classifier of x (Linf eps {script.EPS:g}), `detection` is of a Mahalanobis detector "
            "on R(x) at 5 % false alarms: the mean of the shares of clean images let pass and of attacked ones "
            "flagged, so that 50 % is chance and its interval is a rough one.",
            "",
            tables.findings_table(folder, script.PREFIX),
            "",
        ]
        lines += [f"![{k}]({script.PREFIX}_{k}.png)" for k in others if (folder / f"{script.PREFIX}_{k}.png").is_file()]
    about = {k: _options(v) for k, v in others.items()} | {k: _about(v) for k, v in reports.items()}
    lines += ["", *([f"Not measured: {missing}.", ""] if missing else [])]
    return "\n".join([*lines, f"`{json.dumps(about)}`", ""])


def detection_section(name: str, title: str, folder: Path) -> str:
    path = folder / f"detection_{name}.json"
    if not path.is_file():
        return ""
    found = json.loads(path.read_text("utf-8"))
    script, right = load("detection_fashion_mnist"), found["correct"].items()
    lines = [
        f"## Detection on x against detection on R(x), {title}",
        "",
        "KD, LID and Mahalanobis (MD) on the features of a classifier of x and of CD-VAE's classifier of R(x). `paper` "
        "keeps images that are right clean and noisy and wrong attacked, and wants no alarm on clean and noisy ones; "
        "`all` keeps all and wants none on clean ones. The attack goes for the detector's own classifier, as in the "
        f"paper, or for that of x: Linf eps {found['eps']['Linf']:.3g}, L2 eps {found['eps']['L2']:g}, "
        f"{script.detection.STEPS} steps, C&W is PGD on the margin. TNR at 95 % TPR is the share of attacked "
        "images flagged at 5 % false alarms. "
        "Intervals are 95 % bootstrap over test images, of one training and one calibration. A cell has all images "
        "that its space keeps; `above` and `below` compare on those that both keep, `surely` where the interval of the "
        "difference says so.",
        "",
        "Right on clean images: " + ", ".join(f"the classifier of {k} {parts.interval(v)}" for k, v in right) + ".",
        "",
        script.table(found),
        "",
    ]
    return "\n".join([*lines, f"`{json.dumps(_options(found))}`", ""])


def drrdn_section(folder: Path) -> str:
    script = load("drrdn_mnist")
    measured = parts.there(folder, script.PREFIX, [*script.PARTS, "hybrid"])
    missing = [k for k in (*script.PARTS, "hybrid") if k not in measured]
    if {*missing} - {"autoattack", "before"}:
        return ""
    reports = parts.load(folder, script.PREFIX, [k for k in script.PARTS if k in measured])
    about, picture = reports["white"].provenance["data"], f"{script.PREFIX}_figure2.png"
    ablated = reports["ablation"].provenance["data"]
    otherwise = [f"`{k}` {ablated[k]}" for k in script.TRAINING if ablated[k] != about[k]]
    of_trades = f" (TRADES': {about['trades_rate']:g})" if about["trades_rate"] != about["rate"] else ""
    lines = [
        "## DRRDN on MNIST",
        "",
        f"Linf eps {script.EPS:g}; every network has the same layers at inference, images, epochs ({about['epochs']}), "
        f"and attack steps ({about['train_steps']}), one seed. The rate rises to {about['rate']:g}{of_trades} and "
        "falls to 0. `halves` is DRRDN's network with the loss of the class alone. CW is PGD on the margin. MNIST test "
        "images from number 1,000 on: settings were changed once after a run on those before and once after a run on "
        "these, by trials on training images. The paper, with 100 epochs and other networks, has clean / PGD-40 / "
        "PGD-100 of 99.45 / 96.58 / 95.32 for Madry, 99.50 / 96.95 / 95.73 for TRADES and 99.56 / 97.55 / 96.78 for "
        "DRRDN, and nothing under AutoAttack.",
        "",
        script.table(reports),
        "",
        *([f"The ablation is of an earlier run, in which: {', '.join(otherwise)}.", ""] if otherwise else []),
        *([f"Not measured: {', '.join(f'`{k}`' for k in missing)}.", ""] if missing else []),
        "Hybrids (Table 3): DRRDN's reconstructor puts z together from parts of natural images and of their "
        "adversaries (primed, PGD-40), and the Standard model's head, fine-tuned on natural ones, reads it. "
        "Below, as shares of right answers, what DRRDN's own heads and fresh ones read from its parts: c_i and "
        "`domain` natural or adversarial, of which 0.5 is chance, c_s and `class` the class.",
        "",
        script.hybrid_table(folder),
        "",
        *(
            [
                "Figure 2 (t-SNE): z_s, z_i, and what the Standard model makes of the same images; adversaries are "
                "those made on DRRDN.",
                "",
                f"![Figure 2]({picture})",
                "",
            ]
            if (folder / picture).is_file()
            else []
        ),
        *unhappy(reports),
        "",
    ]
    return "\n".join([*lines, f"`{json.dumps({**_about(reports['white']), 'training': about})}`", ""])


SWEPT = ("iterative not weaker", "budget monotone", "reaches chance", "converged", "clamp hides nothing", "seeds")
"""The checks that vary the attack; what they say is worth reading where they pass, too."""


def sweeps(report: Report, without: Sequence[str]) -> list[str]:
    """What tells whether the attacks on a model can be trusted, as a table; not of models `without` a purifier."""
    rows = [
        f"| {v.check} | {v.model} | {v.verdict} | {v.detail} |"
        for v in report.checks
        if v.check in SWEPT and v.model not in without
    ]
    header = ["| check | model | verdict | detail |", "|---|---|---|---|"]
    return ["PGD swept over budgets, steps, draws and starts, on the first images:", "", *header, *rows, ""]


def unhappy(reports: Mapping[str, Report]) -> list[str]:
    """The checks that did not pass, as a table, and how often the others did."""
    rows = [
        f"| {part} | {v.check} | {v.model} | {v.verdict} | {v.detail} |"
        for part, report in reports.items()
        for v in report.checks
        if v.verdict in ("warn", "fail")
    ]
    passed = Counter(v.check for report in reports.values() for v in report.checks if v.verdict == "pass")
    told = ", ".join(f"{check} ({times})" for check, times in sorted(passed.items()))
    passes = ["", f"Checks that passed, and how often: {told}."] if passed else []
    if not rows:
        return ["No check warned or failed.", *passes]
    header = ["| part | check | model | verdict | detail |", "|---|---|---|---|---|"]
    return ["Checks that did not pass:", "", *header, *rows, *passes]


def dir_ablation_section(folder: Path) -> str:
    found = json.loads((folder / "dir_ablation.json").read_text("utf-8"))
    text = (
        "In small, one seed: all have ten times the squared error beside Eq. 7 unless they say otherwise. Without "
        "pre-training three epochs are hardly a training, so that row says nothing about the paper's. Every variant is "
        "trained on the same batches, variants of one shape from the same weights. PGD-20 draws the masks once a step, "
        "`+ EOT` averages over draws, differences are to the full method."
    )
    seconds = {row["variant"]: row["seconds"] for row in found["rows"]}
    about = _options(found) | {"training_seconds": seconds}
    table = load("dir_ablation").table(found)
    return "\n".join(["## DIR's ablations", "", text, "", table, "", f"`{json.dumps(about)}`", ""])


def agreement_section(folder: Path) -> str:
    found = json.loads((folder / "apgd_agreement.json").read_text("utf-8"))
    lines = [
        "## Auto-PGD against pyautoattack's",
        "",
        f"On the undefended {found['preset']}, {found['options']['norm']} eps {found['options']['eps']:g}, 100 steps; "
        "differences to pyautoattack's attack with the same loss, which has 5 restarts; ours with 1 has fewer.",
        "",
        "| attack | robust accuracy | minus pyautoattack (points) | images that differ |",
        "|---|---|---|---|",
    ]
    for row in found["rows"]:
        gap = row["minus_pyautoattack"]
        points = f"{100 * gap['mean']:+.1f} [{100 * gap['low']:+.1f}, {100 * gap['high']:+.1f}]"
        accuracy = wilson(sum(row["correct"]) / len(row["correct"]), len(row["correct"]))
        lines.append(f"| {row['attack']} | {accuracy} | {points} | {row['disagree']} |")
    return "\n".join([*lines, "", f"`{json.dumps(_options(found))}`", ""])


def binarisation_section(folder: Path) -> str:
    found = json.loads((folder / "binarisation.json").read_text("utf-8"))
    lines = [
        "## Attacks that must find what is there",
        "",
        "The binarisation test of Zimmermann et al. 2022 on the features of "
        f"{found['preset']}, Linf eps {found['options']['eps']:g}: "
        "a planted adversarial example exists for every image; an attack passes from 95 %.",
        "",
        "| attack | found | random search |",
        "|---|---|---|",
    ]
    for row in found["rows"]:
        usable = [i for i, flag in enumerate(row["usable"]) if flag]
        shares = [sum(row[k][i] for i in usable) / len(usable) for k in ("solved", "solved_at_random")]
        lines.append(f"| {row['attack']} | {wilson(shares[0], len(usable))} | {wilson(shares[1], len(usable))} |")
    return "\n".join([*lines, "", f"`{json.dumps(_options(found))}`", ""])


def preset_section() -> str:
    text = (
        "On the first n of the 2,000 Fashion-MNIST test images that ship with the package, Linf eps 0.1. `bare`: the "
        "classifier without its purifier on the same examples; those that were made through the purifier or on a "
        "surrogate were not made for it, so that this is no robustness. `c_i_on_z_s`, `c_i_on_z_i`: how often the "
        "domain head tells natural from attacked by the class-specific and by the class-irrelevant part, 50 % is "
        "chance; `c_s_on_z_i`: how often the class head is right on the class-irrelevant part, 10 % is chance."
    )
    lines = ["## Presets", "", text, "", "| preset | command | measured |", "|---|---|---|"]
    for name in presets.names():
        preset = presets.describe(name)
        n = preset.measured["n"]
        measured = ", ".join(f"{k} {wilson(v, n)}" for k, v in preset.measured.items() if k != "n")
        lines.append(f"| {name} | `{preset.command}` | {measured} |")
    return "\n".join([*lines, ""])


def render(folder: Path) -> str:
    sections = [report_section(name, folder) for name in SECTIONS]
    of_dir = [dir_section(folder), dir_ablation_section(folder)]
    data = {
        "fashion_mnist": "Fashion-MNIST",
        "cifar10": "CIFAR-10 (JPEG-75 training images, the first exact test images)",
    }
    of_detectors = [detection_section(name, title, folder) for name, title in data.items()]
    others = [
        ablation_section(folder),
        *of_dir,
        *filter(None, [atop_section(folder), cdvae_section(folder), *of_detectors, drrdn_section(folder)]),
        agreement_section(folder),
        binarisation_section(folder),
    ]
    others.append(preset_section())
    return "\n".join([HEAD, *filter(None, [overview(folder)]), *sections, *others])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("results"))
    folder = parser.parse_args().folder
    with replacing(folder / "README.md") as temporary:
        temporary.write_text(render(folder), "utf-8")


if __name__ == "__main__":
    main()
