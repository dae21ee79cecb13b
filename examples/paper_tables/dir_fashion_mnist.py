"""DIR on Fashion-MNIST before an adversarially trained classifier: the paper's attacks, and stronger ones.

    python examples/paper_tables/dir_fashion_mnist.py                     # about two and a half hours on one core
    python examples/paper_tables/dir_fashion_mnist.py --shard 0 2 &       # the same on two ...
    python examples/paper_tables/dir_fashion_mnist.py --shard 1 2; wait
    python examples/paper_tables/dir_fashion_mnist.py --merge 2           # ... and one result of both
    python examples/paper_tables/dir_fashion_mnist.py --images 8 --quick

`paper`: PGD, MI and VNI of 20 steps through the whole pipeline, one draw of the masks a step, beside other purifiers
before the same classifier. `strong`: AutoAttack, BPDA + EOT, Eq. 8, PGD-200 + EOT-20, a margin loss. `frozen`: masks
that attacker and defence share, so that nothing is owed to randomness. Attacks on restorations (Eq. 9) and on each mask
alone (Eq. 8 as it may be meant) are none that anybody can make, and stand apart. A killed run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ablations
import torch
from art.defences.preprocessor import JpegCompression
from torch import Tensor, nn

from art_ext import presets
from art_ext.attacks import Linf, ascent, cross_entropy, pgd
from art_ext.data import fashion_mnist
from art_ext.defences import ArtPurifier
from art_ext.evaluation import (
    Attack,
    Cell,
    Defended,
    Interval,
    Knowledge,
    Probe,
    Report,
    Threat,
    evaluate,
    merged,
    paired_difference,
    wilson,
)
from art_ext.evaluation.report import robust
from art_ext.nn import seeded
from art_ext.purifiers import DIR, Purifier
from art_ext.purifiers.dir import per_mask_restorations, representation_attack

EPS = 0.1
STEP = {"step_size": EPS / 4}
DATA = {"name": "Fashion-MNIST test, the stratified 2,000 images that ship with the package", "order": "the first ones"}
TARGET, DEFENDED, FROZEN = "target alone", "DIR", "DIR, masks frozen"
KNOWN = {"native PGD-40 bpda", "Eq. 8, PGD-40"}
COLUMNS = {
    "PGD-20": ("native PGD-20",),
    "MI-20": ("native MI-FGSM-20",),
    "VNI-20": ("torchattacks VNI-FGSM-20",),
    "BPDA + EOT-20, PGD-40": ("native PGD-40 bpda",),
    "Eq. 8, PGD-40": ("Eq. 8, PGD-40",),
    "PGD-200 + EOT-20": ("native PGD-200",),
    "margin PGD-50 + EOT-20": ("native PGD-50 margin",),
    "AutoAttack": ("autoattack standard", "autoattack rand"),
    "APGD-100 DLR": ("native APGD-100 dlr",),
}
FULL, BPDA, OWN = (Knowledge.FULL,), (Knowledge.BPDA,), (Knowledge.OWN,)


def models() -> tuple[Defended, Defended, Defended]:
    """The target, DIR before it, and DIR with one draw of the masks for good."""
    target, purifier, frozen = (presets.load(f"fashion_mnist_{k}") for k in ("robust", "dir", "dir"))
    assert isinstance(purifier, DIR)
    assert isinstance(frozen, DIR)
    alone = Defended(TARGET, target, robust=True)
    return alone, Defended(DEFENDED, target, purifier), Defended(FROZEN, target, frozen.set_masks(0))


def paper(args: argparse.Namespace) -> Report:
    """The columns of the paper's Table 1, but AutoAttack; with JPEG and RDP before the same target."""
    alone, defended, _ = models()
    rdp, jpeg = presets.load("fashion_mnist_rdp"), ArtPurifier(JpegCompression((0, 1), quality=50, channels_first=True))
    assert isinstance(rdp, Purifier)
    others = [Defended("RDP", alone.classifier, rdp), Defended("JPEG (quality 50)", alone.classifier, jpeg)]
    return run("paper", [alone, defended, *others], paper_attacks(EPS, args.quick), args)


def strong(args: argparse.Namespace) -> Report:
    """Attackers who know the purifier and average over its masks."""
    alone, defended, _ = models()
    probe = Probe(4, 2) if args.quick else Probe(64, 20, seeds=3)
    return run("strong", [alone, defended], strong_attacks(EPS, args.quick), args, probe)


def frozen(args: argparse.Namespace) -> Report:
    """What is left where the masks are known and stay the same."""
    alone, _, fixed = models()
    return run("frozen", [alone, fixed], frozen_attacks(EPS, args.quick), args)


def paper_attacks(eps: float, quick: bool) -> list[Attack]:
    """20 steps of eps / 4 (2/255 at 8/255), one draw of the masks a step, the last iterate."""
    steps: dict[str, Any] = {"steps": 2 if quick else 20, "step_size": eps / 4}
    return [
        Attack("native", "PGD", {**steps, "best": False}, draws=1, knowledge=FULL),
        Attack("native", "MI-FGSM", {**steps, "best": False}, draws=1, knowledge=FULL),
        Attack("torchattacks", "VNI-FGSM", {**steps, "N": 5}, draws=1, knowledge=FULL),
    ]


def strong_attacks(eps: float, quick: bool) -> list[Attack]:
    """BPDA + EOT and Eq. 8 with the paper's 40 steps, then exact gradients averaged over draws."""
    attacks = [
        Attack("native", "PGD", {"steps": 2 if quick else 40, "step_size": eps / 4}, knowledge=BPDA),
        _mask_aware(eps, quick),
        Attack("native", "PGD", {"steps": 3 if quick else 200, "best": False}, knowledge=FULL),
        Attack("native", "PGD", {"steps": 2 if quick else 50, "loss": "margin"}, knowledge=FULL),
    ]
    if not quick:
        attacks.append(Attack("autoattack", "standard", on="deterministic", knowledge=FULL))
        attacks.append(Attack("autoattack", "rand", on="randomised", knowledge=FULL))
    return attacks


def frozen_attacks(eps: float, quick: bool) -> list[Attack]:
    """The same for a model that draws nothing."""
    return [
        paper_attacks(eps, quick)[0],
        Attack("native", "PGD", {"steps": 3 if quick else 200}, knowledge=FULL),
        Attack("native", "APGD", {"steps": 2 if quick else 100, "loss": "dlr"}, knowledge=FULL),
        _mask_aware(eps, quick),
    ]


def _mask_aware(eps: float, quick: bool) -> Attack:
    steps = {"steps": 2 if quick else 40, "step_size": eps / 4}
    return Attack("native", "PGD", steps, knowledge=OWN, label="Eq. 8, PGD-40")


PARTS: dict[str, Callable[[argparse.Namespace], Report]] = {"paper": paper, "strong": strong, "frozen": frozen}


def run(
    part: str, models: list[Defended], attacks: list[Attack], args: argparse.Namespace, probe: Probe | None = None
) -> Report:
    data = fashion_mnist("test", args.images)
    return evaluate(
        models, attacks, data.x, data.y, threat=Threat("Linf", EPS), knowledge=BPDA + FULL + OWN,
        draws=2 if args.quick else 20, average="gradients", redraws=10, batch_size=64, probe=probe,
        shard=tuple(args.shard), folder=folder(args, part, *args.shard), data=DATA | {"images": args.images},
    )  # fmt: skip


def folder(args: argparse.Namespace, part: str, shard: int, shards: int) -> Path:
    return Path(args.runs) / f"{part} {shard} of {shards}"


def diagnostics(args: argparse.Namespace) -> dict[str, Any]:
    """Answers of the target on perturbed restorations (Eq. 9), and on those of a perturbation a mask (Eq. 8)."""
    data, (alone, defended, _) = fashion_mnist("test", args.images), models()
    target, purifier = alone.classifier, defended.purifier
    assert isinstance(purifier, DIR)
    steps = 2 if args.quick else 20

    def pgd20(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return pgd(ascent(cross_entropy(model, y)), x, norm=Linf(), eps=EPS, steps=steps, **STEP)

    def perturbed(x: Tensor, y: Tensor) -> Tensor:
        return representation_attack(purifier, target, x, y, eps=EPS, steps=steps, **STEP)

    made: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "target, PGD-20 on images": lambda x, y: pgd20(target, x, y),
        "restorations, no attack": lambda x, _: purifier(x),
        "restorations of clean images, PGD-20 on them (Eq. 9)": perturbed,
        "restorations of PGD-20 images, PGD-20 on them (Eq. 9)": lambda x, y: perturbed(
            pgd20(nn.Sequential(purifier, target), x, y), y
        ),
        "PGD-40 on each mask alone (Eq. 8)": lambda x, y: per_mask_restorations(
            purifier, target, x, y, eps=EPS, steps=2 * steps, **STEP
        ),
    }
    rows = []
    for name, images in made.items():
        with seeded(0):
            pieces = zip(data.x.split(64), data.y.split(64), strict=True)
            given = torch.cat([images(x, y) for x, y in pieces])
        rows.append({"attack": name, "correct": ablations.answers(target, given, data.y)})
    return {"rows": rows} | ablations.stated({"images": args.images, "eps": EPS, "steps": steps, "seed": 0})


def worst(reports: list[Report], model: str, knowledge: str | None = None) -> list[bool]:
    """Per image, whether no attack of any part broke it, over the images that all saw."""
    return robust([c for r in reports for c in r.attacked(model) if knowledge in (None, c.knowledge)])


def table(reports: dict[str, Report]) -> str:
    """The paper's protocol and stronger attacks side by side, in the paper's words, as Markdown."""
    lines = [" | ".join(["", "model", "clean", *COLUMNS, "worst case", ""]).strip(), "|---" * (len(COLUMNS) + 3) + "|"]
    for model in dict.fromkeys(m for r in reports.values() for m in r.models()):
        given = [r for r in reports.values() if model in r.models()]
        entries = [str(given[0].cell(model, "clean", "none").accuracy)]
        for titles in COLUMNS.values():
            cells = [c for r in given for c in r.attacked(model) if _bare(c) in titles]
            # Where there is nothing to know, Eq. 8 and BPDA are PGD-40.
            entries.append(str(cells[0].accuracy) if cells and not (KNOWN & {*titles} and model == TARGET) else "")
        lines.append(" | ".join(["", model, *entries, str(_interval(worst(given, model))), ""]).strip())
    return "\n".join([*lines, "", f"DIR minus the target in points, paired: {comparison(reports)}."])


def _bare(cell: Cell) -> str:
    """Title without the number of draws, with the knowledge where it is special."""
    by = f" {cell.knowledge}" if cell.knowledge == "bpda" else ""
    return cell.attack.split(" + EOT")[0] + by


def comparison(reports: dict[str, Report]) -> str:
    """What DIR adds to its target, under PGD-20 and in the worst case, paired on the same images."""
    found = []
    pairs = ((DEFENDED, "full"), (TARGET, "undefended"))
    by_pgd = [reports["paper"].cell(m, "native PGD-20", k).survived for m, k in pairs]
    both = [reports["paper"], reports["strong"]]
    by_all = [[float(v) for v in worst(both, m)] for m in (DEFENDED, TARGET)]
    for name, (ours, theirs) in {"PGD-20": by_pgd, "worst case": by_all}.items():
        gap = paired_difference(ours, theirs)
        found.append(f"{name} {100 * gap.mean:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}] n={len(ours)}")
    return "; ".join(found)


def load(results: Path) -> dict[str, Report]:
    """The reports of a folder, by part."""
    return {part: Report.load(results / f"dir_fashion_mnist_{part}.json") for part in PARTS}


def diagnostics_table(results: Path) -> str:
    """What the target says about perturbed restorations, as Markdown."""
    rows = json.loads((results / "dir_fashion_mnist_diagnostics.json").read_text("utf-8"))["rows"]
    return "\n".join(
        ["| diagnostic | accuracy |", "|---|---|", *(f"| {r['attack']} | {_interval(r['correct'])} |" for r in rows)]
    )


def _interval(values: list[bool]) -> Interval:
    return wilson(sum(values) / len(values), len(values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--quick", action="store_true", help="few steps, no AutoAttack")
    parser.add_argument("--parts", nargs="+", default=[*PARTS, "diagnostics"], choices=[*PARTS, "diagnostics"])
    parser.add_argument(
        "--shard", type=int, nargs=2, default=(0, 1), help="which of how many parts of the images to do"
    )
    parser.add_argument("--merge", type=int, help="make the results of so many shards, once all have ended")
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--runs", type=Path, default=Path("runs/dir_table"), help="state and examples")
    args = parser.parse_args()
    whole = args.merge is not None or args.shard[1] == 1
    for part in args.parts:
        path = args.out / f"dir_fashion_mnist_{part}.json"
        if part == "diagnostics":
            if whole:
                ablations.save(diagnostics(args), path)
        elif args.merge is not None:
            folders = [folder(args, part, i, args.merge) for i in range(args.merge)]
            merged([Report.load(f / "report.json") for f in folders]).save(path)
        else:
            report = PARTS[part](args)
            if whole:
                report.save(path)
    if whole and not args.quick and {*PARTS, "diagnostics"} == {*args.parts}:
        print(table(load(args.out)), diagnostics_table(args.out), sep="\n\n")


if __name__ == "__main__":
    main()
