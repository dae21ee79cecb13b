"""DIR on Fashion-MNIST before an adversarially trained classifier: the paper's attacks, and stronger ones.

    python examples/paper_tables/dir_fashion_mnist.py                     # about two and a half hours on one core
    python examples/paper_tables/dir_fashion_mnist.py --shard 0 2 &       # the same on two ...
    python examples/paper_tables/dir_fashion_mnist.py --shard 1 2; wait
    python examples/paper_tables/dir_fashion_mnist.py --merge 2           # ... and one result of both
    python examples/paper_tables/dir_fashion_mnist.py --images 8 --quick

`paper`: PGD, MI and VNI of 20 steps through the whole pipeline, one draw of the masks a step, beside other purifiers
before the same classifier. `strong`: AutoAttack, BPDA + EOT, Eq. 8, PGD-200 + EOT-20. `frozen`: masks that attacker
and defence share, so that nothing is owed to randomness. `diagnostics`: attacks on restorations (Eq. 9) and on each
mask alone (Eq. 8 as it may be meant), which nobody can make. A killed run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ablations
import parts
import torch
import worst_cases
from art.defences.preprocessor import JpegCompression
from torch import Tensor, nn

from art_ext import presets
from art_ext.attacks import Linf, ascent, cross_entropy, pgd
from art_ext.data import fashion_mnist
from art_ext.defences import ArtPurifier
from art_ext.evaluation import Attack, Defended, Knowledge, Probe, Report, Threat
from art_ext.nn import seeded
from art_ext.purifiers import DIR, Purifier
from art_ext.purifiers.dir import per_mask_restorations, representation_attack

EPS = 0.1
STEP = {"step_size": EPS / 4}
TARGET, DEFENDED, FROZEN = "target alone", "DIR", "DIR, masks frozen"
PREFIX = "dir_fashion_mnist"
COLUMNS = {
    "PGD-20": ("native PGD-20",),
    "MI-20": ("native MI-FGSM-20",),
    "VNI-20": ("torchattacks VNI-FGSM-20",),
    "BPDA + EOT-20, PGD-40": ("native PGD-40, bpda", "native PGD-40"),
    "Eq. 8, PGD-40": ("Eq. 8, PGD-40, adaptive", "Eq. 8, PGD-40"),
    "PGD-200 + EOT-20": ("native PGD-200",),
    "AutoAttack": ("autoattack standard", "autoattack rand"),
    "APGD-100 DLR": ("native APGD-100 dlr",),
}
FULL, BPDA, OWN = (Knowledge.FULL,), (Knowledge.BPDA,), (Knowledge.ADAPTIVE,)
SETTING: dict[str, Any] = {"threat": Threat("Linf", EPS), "knowledge": BPDA + FULL + OWN}


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
    return parts.part("paper", [alone, defended, *others], paper_attacks(EPS, args.quick), args, **SETTING)


def strong(args: argparse.Namespace) -> Report:
    """Attackers who know the purifier and average over its masks."""
    alone, defended, _ = models()
    probe = Probe(4, 2) if args.quick else Probe(32, 20, seeds=3)
    few = args.images if args.long_images is None else args.long_images
    attacks = strong_attacks(EPS, args.quick, few)
    return parts.part("strong", [alone, defended], attacks, args, probe=probe, **SETTING)


def frozen(args: argparse.Namespace) -> Report:
    """What is left where the masks are known and stay the same."""
    alone, _, fixed = models()
    return parts.part("frozen", [alone, fixed], frozen_attacks(EPS, args.quick), args, **SETTING)


def paper_attacks(eps: float, quick: bool) -> list[Attack]:
    """20 steps of eps / 4 (2/255 at 8/255), one draw of the masks a step, the last iterate."""
    steps: dict[str, Any] = {"steps": 2 if quick else 20, "step_size": eps / 4}
    return [
        Attack("native", "PGD", {**steps, "best": False}, eot_samples=1, knowledge=FULL),
        Attack("native", "MI-FGSM", {**steps, "best": False}, eot_samples=1, knowledge=FULL),
        Attack("torchattacks", "VNI-FGSM", {**steps, "N": 5}, eot_samples=1, knowledge=FULL),
    ]


def strong_attacks(eps: float, quick: bool, few: int) -> list[Attack]:
    """BPDA + EOT and Eq. 8 with the paper's 40 steps, then exact gradients averaged over draws on `few` images."""
    attacks = [
        Attack("native", "PGD", {"steps": 2 if quick else 40, "step_size": eps / 4, "best": False}, knowledge=BPDA),
        _mask_aware(eps, quick),
        Attack("native", "PGD", {"steps": 3 if quick else 200, "best": False}, few, knowledge=FULL),
    ]
    if not quick:
        attacks.append(Attack("autoattack", "standard", images=few, on="deterministic", knowledge=FULL))
        attacks.append(Attack("autoattack", "rand", images=few, on="randomised", knowledge=FULL))
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
    steps = {"steps": 2 if quick else 40, "step_size": eps / 4, "best": False}
    return Attack("native", "PGD", steps, eot_samples=1, knowledge=OWN, label="Eq. 8, PGD-40")


PARTS: dict[str, Callable[[argparse.Namespace], Report]] = {"paper": paper, "strong": strong, "frozen": frozen}


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


def table(reports: dict[str, Report]) -> str:
    """The paper's protocol and stronger attacks side by side, and what DIR adds to its target, as Markdown."""
    both = [reports["paper"], reports["strong"]]
    worst_over = {TARGET: both, DEFENDED: both, FROZEN: [reports["frozen"]]}
    first = parts.table(list(reports.values()), COLUMNS, worst_over)
    lines = [first, "", f"DIR minus the target, {parts.POINTS}, paired:", ""]
    for name in ("PGD-20", "PGD-200 + EOT-20", "AutoAttack"):
        ours, theirs = (parts.cell(both, m, COLUMNS[name]) for m in (DEFENDED, TARGET))
        if ours is not None and theirs is not None:
            lines.append(f"- {name}: {parts.gap(ours.survived, theirs.survived)}")
    counted = [worst_cases.counted(both, m) for m in (DEFENDED, TARGET)]
    for repeats in (1, worst_cases.STATED):
        ours, theirs = (worst_cases.left(cells, repeats) for cells in counted)
        n = min(len(ours), len(theirs))
        lines.append(f"- worst case, R = {repeats}: {parts.gap(ours[:n], theirs[:n])}")
    return "\n".join(lines)


def diagnostics_table(results: Path) -> str:
    """What the target says about perturbed restorations, as Markdown."""
    rows = json.loads((results / f"{PREFIX}_diagnostics.json").read_text("utf-8"))["rows"]
    lines = [f"| {r['attack']} | {parts.interval(r['correct'])} |" for r in rows]
    return "\n".join(["| diagnostic | accuracy |", "|---|---|", *lines])


def main() -> None:
    parser = parts.arguments(__doc__, [*PARTS, "diagnostics"], "runs/dir_table")
    parser.add_argument("--long-images", type=int, help="for PGD-200 + EOT-20 and AutoAttack, all of them unless given")
    args = parser.parse_args()
    if parts.run(args, PREFIX, PARTS, {"diagnostics": diagnostics}):
        print(table(parts.load(args.out, PREFIX, list(PARTS))), diagnostics_table(args.out), sep="\n\n")


if __name__ == "__main__":
    main()
