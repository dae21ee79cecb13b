"""Writes results/README.md from the JSON files beside it, so that no number there is typed by hand.

python examples/paper_tables/render.py
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path
from types import ModuleType

from art_ext import presets
from art_ext.evaluation import Report, wilson
from art_ext.training import replacing

HEAD = """# Results

Written by `python examples/paper_tables/render.py` from the JSON files in this folder, which hold every answer of every
model; accuracies carry n and a 95 % Wilson interval, differences are paired on the same images.
"""
SECTIONS = {
    "blind": (
        "RDP on Fashion-MNIST, attackers who do not know the purifier",
        "The paper's kind of attacker, with ART's preprocessing defences in the same run.",
    ),
    "white": (
        "RDP on Fashion-MNIST, attackers who know it",
        "Deterministic, and with the paper's dynamic inference (Gaussian noise, std 0.05) under EOT. "
        "`own` is SSP through the purifier.",
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
    lines = [f"## {title}", "", text, "", report.markdown()]
    lines += ["| model | left when every attack is tried on every image |", "|---|---|"]
    lines += [f"| {model} | {report.worst_case(model)} |" for model in report.models()]
    about = {k: report.provenance[k] for k in ("versions", "python", "device", "threads", "seed", "images")}
    return "\n".join([*lines, "", f"`{json.dumps(about)}`", ""])


def ablation_section(folder: Path) -> str:
    found = json.loads((folder / "rdp_ablation.json").read_text("utf-8"))
    seconds = [row["seconds"] for row in found["rows"]]
    about = {
        "options": found["options"],
        "versions": found["versions"],
        "training_seconds": [min(seconds), max(seconds)],
    }
    text = (
        "Every variant from the same weights on the same batches; accuracy is the mean over seeds, n counts images. "
        "Under Algorithm 1 the reconstruction loss never reaches the purifier: without that branch nothing changes."
    )
    title = "## RDP's ablation (the paper's Figure 8)"
    return "\n".join([title, "", text, "", load("rdp_ablation").table(found), "", f"`{json.dumps(about)}`", ""])


def agreement_section(folder: Path) -> str:
    found = json.loads((folder / "apgd_agreement.json").read_text("utf-8"))
    lines = [
        "## Auto-PGD against pyautoattack's",
        "",
        f"On the undefended {found['preset']}, {found['options']['norm']} eps {found['options']['eps']:g}, 100 steps; "
        "differences to pyautoattack's attack with the same loss.",
        "",
        "| attack | robust accuracy | minus pyautoattack (points) | images that differ |",
        "|---|---|---|---|",
    ]
    for row in found["rows"]:
        gap = row["minus_pyautoattack"]
        points = f"{100 * gap['mean']:+.1f} [{100 * gap['low']:+.1f}, {100 * gap['high']:+.1f}]"
        accuracy = wilson(sum(row["correct"]) / len(row["correct"]), len(row["correct"]))
        lines.append(f"| {row['attack']} | {accuracy} | {points} | {row['disagree']} |")
    return "\n".join([*lines, "", f"`{json.dumps({'options': found['options'], 'versions': found['versions']})}`", ""])


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
    return "\n".join([*lines, "", f"`{json.dumps({'options': found['options'], 'versions': found['versions']})}`", ""])


def preset_section() -> str:
    lines = ["## Presets", "", "| preset | command | measured |", "|---|---|---|"]
    for name in presets.names():
        preset = presets.describe(name)
        n = preset.measured["n"]
        measured = ", ".join(f"{k} {wilson(v, n)}" for k, v in preset.measured.items() if k != "n")
        lines.append(f"| {name} | `{preset.command}` | {measured} |")
    return "\n".join([*lines, ""])


def render(folder: Path) -> str:
    sections = [report_section(name, folder) for name in SECTIONS]
    others = [ablation_section(folder), agreement_section(folder), binarisation_section(folder), preset_section()]
    return "\n".join([HEAD, *sections, *others])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("results"))
    folder = parser.parse_args().folder
    with replacing(folder / "README.md") as temporary:
        temporary.write_text(render(folder), "utf-8")


if __name__ == "__main__":
    main()
