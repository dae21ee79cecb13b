"""Writes results/README.md from the JSON files beside it, so that no number there is typed by hand.

python examples/paper_tables/render.py
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import parts
import purifier_sections as purifiers
import representation_sections as representations
from claims import claims
from overview import overview
from worst_cases import STATED

from art_ext import presets
from art_ext.evaluation import paired_difference
from art_ext.files import replacing

HEAD = f"""# Results

Written by `python examples/paper_tables/render.py` from the JSON files in this folder and the presets' own. Reports
hold every answer of every model. Accuracies carry n and a 95 % interval, Student's t over images with two right and two
wrong ones added (which count for less where means over redraws vary less than single answers would); differences are
paired on the same images, Student's t with one image more in each direction. Both are over images, for these networks,
one training each unless a section says otherwise: another training of the same recipe would give other networks, and
differences between two of them are no differences between methods. R is how often a randomised model answered each
image; worst cases of such models stand at R = 1 and at R = {STATED}. Verdicts of the checks are judged anew from the
reports' answers; those on the models themselves are as they were when they were run.
[How an evaluation is read](../docs/evaluation.md): what attackers know, what the worst case counts, and what each check
holds against the numbers. `PGD-40` is PGD of 40 steps, `EOT-20` an average over 20 draws.
"""
DETECTED = {
    "fashion_mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10 (JPEG-75 training images, the first exact test images)",
}


def agreement(folder: Path) -> str:
    found = json.loads((folder / "apgd_agreement.json").read_text("utf-8"))
    correct = {row["attack"]: row["correct"] for row in found["rows"]}
    rows, theirs = [], ""
    for name, right in correct.items():
        theirs = name if name.startswith("pyautoattack") else theirs
        row = {"attack": name, "robust accuracy": str(parts.interval(right))}
        if name != theirs:
            apart = paired_difference(right, correct[theirs])
            row["minus pyautoattack (points)"] = (
                f"{100 * apart.mean:+.1f} [{100 * apart.low:+.1f}, {100 * apart.high:+.1f}]"
            )
            row["images that differ"] = str(sum(a != b for a, b in zip(right, correct[theirs], strict=True)))
        rows.append(row)
    lines = [
        "## Auto-PGD against pyautoattack's",
        "",
        f"On the undefended {found['preset']}, {found['options']['norm']} eps {found['options']['eps']:g}, 100 steps; "
        "differences to pyautoattack's attack with the same loss, which has 5 restarts; ours with 1 has fewer.",
        "",
        parts.grid([*rows[0], "minus pyautoattack (points)", "images that differ"], rows),
    ]
    return "\n".join([*lines, "", f"`{json.dumps(parts.options(found))}`", ""])


def binarisation(folder: Path) -> str:
    found = json.loads((folder / "binarisation.json").read_text("utf-8"))
    rows = []
    for row in found["rows"]:
        usable = [i for i, flag in enumerate(row["usable"]) if flag]
        found_in = {"found": row["solved"], "random search": row["solved_at_random"]}
        solved = {k: str(parts.interval([float(values[i]) for i in usable])) for k, values in found_in.items()}
        rows.append({"attack": row["attack"], **solved})
    lines = [
        "## Attacks that must find what is there",
        "",
        "The binarisation test of Zimmermann et al. 2022 on the features of "
        f"{found['preset']}, Linf eps {found['options']['eps']:g}: "
        "a planted adversarial example exists for every image; an attack passes from 95 %.",
        "",
        parts.grid(["attack", "found", "random search"], rows),
    ]
    return "\n".join([*lines, "", f"`{json.dumps(parts.options(found))}`", ""])


def measured_presets() -> str:
    text = (
        "On the first n of the 2,000 Fashion-MNIST test images that ship with the package, Linf eps 0.1. `bare`: the "
        "classifier without its purifier on the same examples; those that were made through the purifier or on a "
        "surrogate were not made for it, so that this is no robustness. `c_i_on_z_s`, `c_i_on_z_i`: how often the "
        "domain head tells natural from attacked by the class-specific and by the class-irrelevant part, 50 % is "
        "chance; `c_s_on_z_i`: how often the class head is right on the class-irrelevant part, 10 % is chance."
    )
    rows = []
    for name in presets.names():
        preset = presets.describe(name)
        n = preset.measured["n"]
        measured = ", ".join(f"{k} {parts.of_share(v, n)}" for k, v in preset.measured.items() if k != "n")
        rows.append({"preset": name, "command": f"`{preset.command}`", "measured": measured})
    return "\n".join(["## Presets", "", text, "", parts.grid(["preset", "command", "measured"], rows), ""])


def render(folder: Path) -> str:
    """The page of a folder of results, Markdown."""
    sections = [
        overview(folder),
        claims(folder),
        *(purifiers.rdp(name, folder) for name in purifiers.RDP),
        purifiers.rdp_ablations(folder),
        purifiers.dir_(folder),
        purifiers.dir_targets_(folder),
        purifiers.dir_ablations(folder),
        purifiers.atop_(folder),
        representations.cdvae(folder),
        *(representations.detection(name, title, folder) for name, title in DETECTED.items()),
        representations.drrdn(folder),
        agreement(folder),
        binarisation(folder),
        measured_presets(),
    ]
    return "\n".join([HEAD, *filter(None, sections)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("results"))
    folder = parser.parse_args().folder
    with replacing(folder / "README.md") as temporary:
        temporary.write_text(render(folder), "utf-8")


if __name__ == "__main__":
    main()
