"""The pages of a folder of results, so that no number there is typed by hand, and the list of what can be run."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from art_ext import presets
from art_ext.evaluation import mean_interval, paired_difference
from art_ext.evaluation.report import several
from art_ext.files import replacing
from experiments import claims
from experiments.core import SCALES, Experiment, Item
from experiments.page import apart, grid, made_by, read, section, tables, there

PAPERS = {"rdp": "RDP", "cdvae": "CD-VAE", "dir": "DIR", "atop": "AToP", "drrdn": "DRRDN", "cifar10": "CIFAR-10"}
IN_ORDER = ("rdp", "dir", "atop", "cdvae", "drrdn")
"""Of the overview and of the table of claims."""
STATES = {"paper": "run at paper scale", "small": "run small", "": "declared"}
HEAD = f"""# Results

Written by `python -m experiments render` from the JSON files in this folder and the presets' own. Reports hold every
answer of every model. Accuracies carry n and a 95 % interval, Student's t over images with two right and two wrong ones
added (which count for less where means over redraws vary less than single answers would); differences are paired on the
same images, Student's t with one image more in each direction. Both are over images, for these networks, one training
each unless a section says otherwise: another training of the same recipe would give other networks, and differences
between two of them are no differences between methods. R is how often a randomised model answered each image; worst
cases of such models stand at R = 1 and at R = {several.STATED}. Verdicts of the checks are judged anew from the
reports' answers; those on the models themselves are as they were when they were run.
[How an evaluation is read](../docs/evaluation.md): what attackers know, what the worst case counts, and what each check
holds against the numbers. `PGD-40` is PGD of 40 steps, `EOT-20` an average over 20 draws.
"""
SHORT = f"""Each method as its paper attacks it, and beside it the worst case: images that no attack inside the ball, of
this kind or of those that know the method, broke. That of a randomised method falls with the number of redraws, R,
without a limit. It stands at R = 1, the mean over single redraws, where it can be held against what draws nothing, and
at R = {several.STATED}, where all of {several.STATED} have to be right; the clean accuracy at R = {several.STATED} is
what redraws cost without any attack. What draws nothing has one value at every R. The last columns are the worst case,
on the same images, of networks that were adversarially trained and purify nothing. Worst cases stand on as many images
as their slowest attack saw; where those are fewer than in the first columns, the clean accuracy on them stands beside,
and an estimate for as many as another attack of the same knowledge saw (double sampling). AutoAttack is shorter on what
draws (no FAB-T, fewer queries of Square or none), so that it flatters DIR and AToP beside the adversarially trained
network. Data, networks and schedules are ours and small: these are not the papers' numbers. What was found, and what
the checks said, is on the pages:"""
CLAIMS = """What the papers say, their numbers on their data, and what was measured here by their protocol and under the
strongest attacks: differences in points, paired on the same images, or an accuracy. A claim that one keeps more than
another holds where the whole interval is above 0, and does not hold where it is below; in between it is not shown at
this n. Where little is to be lost, the limit is below 0 by the points that the row names. A detector has to be surely
better (after Holm) in most cells. A claim about one accuracy holds where the interval is above nine tenths of the
paper's. What is claimed to be better than no defence is held against the adversarially trained network under the
strongest attacks: anything is more than nothing. Worst cases are those at R = 1. Figures of CIFAR-10's presets, "a
against b" without a difference, are not paired: such a claim is shown where their intervals are apart. Each is judged
for itself, at 95 %, for these networks: small ones, one training each, on small images. Where the two verdicts differ,
the second is the one to go by."""


def module(paper: str) -> Any:
    """A paper's table of settings."""
    return importlib.import_module(f"experiments.{paper}")


def pages(folder: Path) -> dict[str, str]:
    """Every page of a folder of results, by name."""
    made = {"README.md": overview(folder)}
    for paper, title in PAPERS.items():
        scale = [f"At the paper's scale, {e.data}: {t}\n\n{text}" for e in experiments(paper, "paper")
                 for t, text in tables(e, folder)]  # fmt: skip
        found = "\n\n".join([*module(paper).page(folder), *scale]).rstrip()
        text = f"# {title}\n\n[All results and the table of claims](README.md). {counted(paper, folder)}\n\n{found}"
        made[f"{paper}.md"] = f"{text.rstrip()}\n"
    return made


def overview(folder: Path) -> str:
    """The first page: what was found in short, claims with two verdicts, what holds of the attacks, presets."""
    links = "\n".join(f"- [{PAPERS[p]}]({p}.md): {counted(p, folder)}" for p in (*IN_ORDER, "cifar10"))
    rows = [row for paper in (*IN_ORDER, "cifar10") for row in module(paper).ROWS]
    told = {PAPERS[p]: module(p).CLAIMS for p in IN_ORDER}
    blocks = [
        section("In short", SHORT, links, claims.overview(folder, rows)),
        section("Claims", CLAIMS, claims.claims(folder, told)),
        agreement(folder), binarisation(folder), measured_presets(),
    ]  # fmt: skip
    return "\n".join([HEAD, *filter(None, blocks)])


def render(folder: Path) -> list[Path]:
    """Writes the pages beside the results, and gives their paths."""
    for name, text in pages(folder).items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, "utf-8")
    return [folder / name for name in ("README.md", *(f"{p}.md" for p in PAPERS))]


def experiments(paper: str, scale: str) -> Iterator[Experiment]:
    """The paper's experiments on every data set at a scale."""
    return (module(paper).declare(data, scale) for data in module(paper).DECLARED)


def listed(folder: Path) -> list[list[str]]:
    """A row a table or figure of the papers: whose, which, what it shows, the command, and its state."""
    found = []
    for paper, title in PAPERS.items():
        for item in module(paper).ITEMS:
            data = f"--data {item.data[0]} " if item.data else ""
            command = f"{paper} {data}--part {' '.join(item.parts)}" if item.parts else ""
            found.append([title, item.name, item.shows, command, state(paper, item, folder)])
    return found


def state(paper: str, item: Item, folder: Path) -> str:
    """How far the parts of a table or figure have been run, by what a folder holds, on the data set that has most."""
    if not item.parts:
        return "a drawing: nothing to run"
    best = (0, 0, "")
    for rank, scale in enumerate(SCALES):
        for e in experiments(paper, scale):
            held = [p for p in item.parts if p in e.parts and e.data in (item.data or (e.data,))]
            done = sum(there(folder, e.file(p)) for p in held)
            best = max(best, (done == len(held), done and rank + 1, f"{STATES[scale]} ({e.data})")) if done else best
    if not best[2]:
        return STATES[""]
    return best[2] if best[0] else f"in part {best[2]}"


def counted(paper: str, folder: Path) -> str:
    """How many of a paper's tables and figures have been run."""
    states = [state(paper, item, folder) for item in module(paper).ITEMS if item.parts]
    whole, part = (sum(s.startswith(k) for s in states) for k in ("run", "in part"))
    rest = len(states) - whole - part
    told = f"Of {len(states)} tables and figures {whole} were run, {part} in part, {rest} are declared"
    return f"{told} (`python -m experiments list`)."


def agreement(folder: Path) -> str:
    """Auto-PGD beside that of AutoAttack's authors."""
    if not there(folder, "apgd_agreement"):
        return ""
    found = read(folder, "apgd_agreement")
    correct = {row["attack"]: row["correct"] for row in found["rows"]}
    rows, theirs = [], ""
    for name, right in correct.items():
        theirs = name if name.startswith("pyautoattack") else theirs
        differ = sum(a != b for a, b in zip(right, correct[theirs], strict=True))
        beside = ["", ""] if name == theirs else [apart(paired_difference(right, correct[theirs])), str(differ)]
        rows.append([name, str(mean_interval(right)), *beside])
    return section(
        "Auto-PGD against pyautoattack's",
        f"On the undefended {found['preset']}, {found['options']['norm']} eps {found['options']['eps']:g}, 100 steps; "
        "differences to pyautoattack's attack with the same loss, which has 5 restarts; ours with 1 has fewer.",
        grid(["attack", "robust accuracy", "minus pyautoattack (points)", "images that differ"], rows),
        made_by(found),
    )


def binarisation(folder: Path) -> str:
    """Attacks on planted examples."""
    if not there(folder, "binarisation"):
        return ""
    found = read(folder, "binarisation")
    rows = []
    for row in found["rows"]:
        usable = [i for i, flag in enumerate(row["usable"]) if flag]
        solved = ([float(row[k][i]) for i in usable] for k in ("solved", "solved_at_random"))
        rows.append([row["attack"], *(str(mean_interval(v)) for v in solved)])
    return section(
        "Attacks that must find what is there",
        f"The binarisation test of Zimmermann et al. 2022 on the features of {found['preset']}, Linf eps "
        f"{found['options']['eps']:g}: a planted adversarial example exists for every image; an attack passes from "
        "95 %.",
        grid(["attack", "found", "random search"], rows), made_by(found),
    )  # fmt: skip


def measured_presets() -> str:
    """What the presets' own files say."""
    rows = []
    for name in presets.names():
        preset: Any = presets.describe(name)
        measured: Mapping[str, Any] = preset.measured
        told = ", ".join(f"{k} {several.of_share(v, measured['n'])}" for k, v in measured.items() if k != "n")
        rows.append([name, f"`{preset.command}`", told])
    return section(
        "Presets",
        "On the first n of the 2,000 Fashion-MNIST test images that ship with the package, Linf eps 0.1; those of "
        "CIFAR-10 on the first n exact test images, Linf eps 8/255. `bare`: the "
        "classifier without its purifier on the same examples; those that were made through the purifier or on a "
        "surrogate were not made for it, so that this is no robustness. `c_i_on_z_s`, `c_i_on_z_i`: how often the "
        "domain head tells natural from attacked by the class-specific and by the class-irrelevant part, 50 % is "
        "chance; `c_s_on_z_i`: how often the class head is right on the class-irrelevant part, 10 % is chance.",
        grid(["preset", "command", "measured"], rows),
    )
