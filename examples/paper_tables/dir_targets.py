"""DIR before three targets on Fashion-MNIST: frozen, trained with it, and the target alone trained as long.

    python examples/paper_tables/dir_targets.py                      # about an hour and a half on one core
    python examples/paper_tables/dir_targets.py --seeds 0 1 2 --arms frozen   # further training seeds of one arm
    python examples/paper_tables/dir_targets.py --train 64 --epochs 1 --pretraining-epochs 1 --images 8 --quick

`frozen`: the second stage of Algorithm 1 with a squared error for each mask. `joint`: the released code's training of
both networks, with its two rates and without a squared error. `further`: no DIR; the target alone goes on with the
optimiser, the images and the adversaries' budget that it has in `joint`. Each arm is measured on training images (the
loss of the pipeline beside that of the target alone, what single restorations do, what share of a perturbation is
discarded) and on test images. A killed run goes on where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ablations
import torch
from torch import nn

from art_ext import presets
from art_ext.attacks import Linf, ascent, cross_entropy, pgd
from art_ext.classifiers import ClassifierObjective
from art_ext.data import fashion_mnist, shift_and_flip
from art_ext.evaluation import Attack, Defended, Knowledge, Probe, Threat, evaluate
from art_ext.nn import seeded
from art_ext.objectives import DIRPretraining, DIRRestoration
from art_ext.purifiers import DIR
from art_ext.purifiers.dir import share_discarded, slopes
from art_ext.training import Batches, Objective

EPS = 0.1
SHAPE: dict[str, Any] = {"channels": 1, "patch": 4, "width": 48, "heads": 3, "depth": 3, "decoder_depth": 1}
FROZEN: dict[str, Any] = {"alpha": 1.0, "pixel": 10.0, "per_mask": True}
JOINT: dict[str, Any] = {"alpha": 1.0, "joint": True}
ARMS = ("frozen", "joint", "further")
TITLES = {
    "frozen": "DIR, target frozen", "joint": "DIR, target trained with it", "further": "target alone, trained further"
}  # fmt: skip
ALONE, PRESET = "target alone", "the preset `fashion_mnist_dir`"
PREFIX = "dir_fashion_mnist_targets"
COLUMNS = {
    "PGD-20": ("native PGD-20",),
    "PGD-40 + EOT-20": ("native PGD-40",),
    "APGD-100": ("native APGD-100",),
    "APGD-100 DLR": ("native APGD-100 dlr",),
    "PGD-200 + EOT-20": ("native PGD-200",),
    "AutoAttack": ("native AutoAttack",),
}
PARTS = ("long", "autoattack", "probes")
WATCHED = 256
"""Training images on which an arm is compared with its target."""


def trained(arm: str, seed: int, args: argparse.Namespace) -> tuple[DIR | None, nn.Module, dict[str, Any]]:
    """The purifier, its target, and what they do on training images."""
    target = presets.load("fashion_mnist_robust").requires_grad_(False)
    if arm == "further":
        objective: Objective = ClassifierObjective(target, eps=EPS, steps=5, step_size=EPS / 4)
        optimizer = torch.optim.SGD(target.parameters(), 0.1, momentum=0.9, weight_decay=2e-4)
        _train(objective, f"further {seed}", {"classifier": optimizer}, args, seed)
        return None, target.eval(), {}
    with seeded(seed):
        purifier = DIR(**SHAPE)
    first = DIRPretraining(purifier, target, eps=EPS)
    adam = {"restorer": torch.optim.Adam(purifier.parameters(), 1e-3)}
    _train(first, f"pretraining {seed}", adam, args, seed, args.pretraining_epochs)
    objective = DIRRestoration(purifier, target, eps=EPS, **(FROZEN if arm == "frozen" else JOINT))
    (moved,) = objective.players().values()
    optimizers = {"restorer": torch.optim.Adam(moved, args.rate) if arm == "frozen" else
                  objective.optimizer("restorer", moved)}  # fmt: skip
    _train(objective, f"{arm} {seed}", optimizers, args, seed)
    purifier.eval().requires_grad_(False)
    return purifier, target.eval().requires_grad_(False), watched(objective, purifier)


def _train(
    objective: Objective, name: str, optimizers: dict[str, torch.optim.Optimizer], args: argparse.Namespace, seed: int,
    epochs: int | None = None,
) -> None:  # fmt: skip
    epochs, data = epochs or args.epochs, fashion_mnist("train", args.train)
    batches = Batches(data.x, data.y, batch_size=64, seed=seed, augment=shift_and_flip(2))
    cosine = [torch.optim.lr_scheduler.CosineAnnealingLR(o, epochs) for o in optimizers.values()]
    ablations.follow(
        objective, name, batches, optimizers, cosine, epochs=epochs, seed=seed, runs=args.runs,
        facts=[args.train, epochs, args.rate, args.pretraining_epochs],
    )  # fmt: skip


def watched(objective: DIRRestoration, purifier: DIR) -> dict[str, Any]:
    """On training images: both losses, the slopes, and the share of an adversarial perturbation that is discarded."""
    data = fashion_mnist("train", WATCHED)
    with seeded(1):
        found: dict[str, Any] = {"L_adv": objective.adversarial_losses(data.x, data.y)}
        found["slopes"] = slopes(purifier, data.x)
        gradient = ascent(cross_entropy(nn.Sequential(purifier, objective.target), data.y))
        x_adv = pgd(gradient, data.x, norm=Linf(), eps=EPS, steps=20, step_size=EPS / 4)
        found["discarded"] = share_discarded(purifier, data.x, x_adv)
    return found | {"n": WATCHED}


def of_the_preset() -> dict[str, Any]:
    """The same of the preset, whose second stage had the squared error of the mean of the restorations."""
    purifier = presets.load("fashion_mnist_dir")
    assert isinstance(purifier, DIR)
    return watched(DIRRestoration(purifier, presets.load("fashion_mnist_robust"), eps=EPS), purifier)


def attacks(args: argparse.Namespace) -> list[Attack]:
    """The paper's PGD-20, one draw a step; then what is averaged over 20 draws."""
    few = args.long_images or args.images
    quick, full = args.quick, (Knowledge.FULL,)
    long = {"steps": 2 if quick else 100}
    found = [
        Attack("native", "PGD", {"steps": 2 if quick else 20, "step_size": EPS / 4, "best": False}, eot_samples=1,
               knowledge=full),
        Attack("native", "PGD", {"steps": 3 if quick else 40}, knowledge=full),
        Attack("native", "APGD", long, few, knowledge=full),
        Attack("native", "APGD", {**long, "loss": "dlr"}, few, knowledge=full),
    ]  # fmt: skip
    if "long" in args.parts:
        found.append(Attack("native", "PGD", {"steps": 4 if quick else 200}, few, knowledge=full))
    if "autoattack" in args.parts:
        parameters = {"steps": 2, "queries": 2, "targets": 1} if quick else {}
        found.append(Attack("native", "AutoAttack", parameters, few, knowledge=full))
    return found


def training_table(found: Mapping[str, Any]) -> str:
    """What was measured on training images, as Markdown."""
    rows = []
    for name, of in found["models"].items():
        if of:
            losses, slope = of["L_adv"], of["slopes"]
            cells = [losses["pipeline"], losses[ALONE], slope["seen"], slope["hidden"], of["discarded"]]
            rows.append(" | ".join([name, *(f"{v:.2f}" for v in cells)]))
    titles = ("model", "L_adv", "L_adv, its target alone", "slope, seen", "slope, hidden", "discarded")
    return "\n".join(f"| {row} |" for row in (" | ".join(titles), " | ".join(["---"] * len(titles)), *rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pretraining-epochs", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rate", type=float, default=1e-3, help="of Adam in the frozen arm, the highest")
    parser.add_argument("--train", type=int, default=8000, help="training images")
    parser.add_argument("--images", type=int, default=512, help="test images")
    parser.add_argument("--long-images", type=int, help="for APGD, AutoAttack and PGD-200; all of them unless given")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--quick", action="store_true", help="few steps: shows that it runs")
    parser.add_argument("--only-train", action="store_true")
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=PARTS, help="of what takes hours")
    parser.add_argument("--runs", type=Path, default=Path("runs/dir_targets"))
    parser.add_argument("--out", type=Path, default=Path("results"))
    args = parser.parse_args()
    models = [Defended(ALONE, presets.load("fashion_mnist_robust"), robust=True)]
    told = {PRESET: of_the_preset()}
    for seed in args.seeds:
        for arm in args.arms:
            purifier, target, found = trained(arm, seed, args)
            title = f"{TITLES[arm]}, seed {seed}"
            models.append(Defended(title, target, purifier, robust=purifier is None))
            told[title] = found
            print(title, found, flush=True)
    ablations.save({"models": told} | ablations.stated(vars(args)), args.out / f"{PREFIX}_training.json")
    if args.only_train:
        return
    data = fashion_mnist("test", args.images)
    report = evaluate(
        models, attacks(args), data.x, data.y, threat=Threat("Linf", EPS), knowledge=[Knowledge.FULL],
        average="gradients", probe=(Probe(4, 2) if args.quick else Probe()) if "probes" in args.parts else None,
        folder=args.runs / "evaluation",
        data={"name": "Fashion-MNIST", "split": "test"},
    )  # fmt: skip
    report.save(args.out / f"{PREFIX}.json")
    print(report.markdown())


if __name__ == "__main__":
    main()
