"""DIR's ablations (section 4.3 and appendix C of the paper) in small, on Fashion-MNIST.

    python examples/paper_tables/dir_ablation.py                     # about ten minutes a variant on one core
    python examples/paper_tables/dir_ablation.py --epochs 1 --pretraining-epochs 1 --train 64 --images 32

The target is `fashion_mnist_robust`, frozen. Variants of one shape start from the same weights and see the same
batches; those that differ in the second stage alone share the first. A killed run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import ablations
import torch
from torch import Tensor, nn

from art_ext import presets
from art_ext.attacks import Averaged, Linf, ascent, cross_entropy, pgd
from art_ext.data import fashion_mnist
from art_ext.nn import seeded
from art_ext.objectives import DIRPretraining, DIRRestoration
from art_ext.purifiers import DIR

EPS = 0.1
SHAPE = {"channels": 1, "patch": 4, "width": 48, "heads": 3, "depth": 3, "decoder_depth": 1}
FULL = "full (alpha 2, ratio 50 %, depth 3 + 1)"
PIXEL = 10.0
"""Weight of the squared error, which the paper adds only where it leaves out the pre-training."""
Variant = tuple[dict[str, Any], bool, dict[str, Any]]
VARIANTS: dict[str, Variant] = {  # shape, pre-training, second stage
    FULL: ({}, True, {}),
    "no squared error (Eq. 7 as printed)": ({}, True, {"pixel": 0.0}),
    "no pre-training": ({}, False, {}),
    "alpha 0 (no L_rep)": ({}, True, {"alpha": 0.0}),
    "alpha 5": ({}, True, {"alpha": 5.0}),
    "ratio 30 %": ({"ratio": 0.3}, True, {}),
    "ratio 70 %": ({"ratio": 0.7}, True, {}),
    "depth 1 + 1": ({"depth": 1}, True, {}),
    "depth 3 + 2": ({"decoder_depth": 2}, True, {}),
    "target trained too (released code)": ({}, True, {"joint": True, "alpha": 1.0}),
}
ATTACKS = {"clean": "clean", "pgd": "PGD-20", "eot": "PGD-20 + EOT", "frozen": "PGD-20, masks frozen"}
TARGET = "target alone"


def train(name: str, seed: int, args: argparse.Namespace) -> tuple[DIR, nn.Module]:
    """A variant's purifier and the classifier that it was trained for."""
    shape, pretrained, game = VARIANTS[name]
    target = presets.load("fashion_mnist_robust")
    with seeded(seed):
        purifier = DIR(**(SHAPE | shape))
    common: dict[str, Any] = {"images": args.train, "seed": seed, "runs": args.runs, "labels": True}
    if pretrained:
        stage = f"pretraining {shape}" if shape else "pretraining"
        ablations.train(DIRPretraining(purifier, target, eps=EPS), stage, epochs=args.pretraining_epochs, **common)
    objective = DIRRestoration(purifier, target, eps=EPS, **{"pixel": PIXEL, **game})
    ablations.train(objective, name, epochs=args.epochs, rate=args.restoration_rate, **common)
    return purifier.eval().requires_grad_(False), target.eval().requires_grad_(False)


def measure(purifier: DIR | None, target: nn.Module, x: Tensor, y: Tensor, draws: int) -> dict[str, list[bool]]:
    """Answers on clean images and under PGD-20: a draw a step as in the paper, mean logits of draws, masks frozen."""
    defended = nn.Sequential(target) if purifier is None else nn.Sequential(purifier, target)

    def attacked(model: nn.Module) -> Tensor:
        pieces = zip(x.split(64), y.split(64), strict=True)
        return torch.cat([
            pgd(ascent(cross_entropy(model, b)), a, norm=Linf(), eps=EPS, steps=20, step_size=EPS / 4)
            for a, b in pieces
        ])  # fmt: skip

    with seeded(1):
        found = {"clean": ablations.answers(defended, x, y)}
        found["pgd"] = ablations.answers(defended, attacked(defended), y)
        if purifier is None:
            return found | {"eot": found["pgd"], "frozen": found["pgd"]}
        found["eot"] = ablations.answers(defended, attacked(Averaged(defended, draws)), y)
        purifier.set_masks(0)
        found["frozen"] = ablations.answers(defended, attacked(defended), y)
    purifier.set_masks(None)
    return found


def run(args: argparse.Namespace) -> dict[str, Any]:
    test = fashion_mnist("test", args.images)
    about = ablations.stated(vars(args))
    rows = ablations.rows_so_far(args.out, about["options"], args.variants)
    alone = measure(None, presets.load("fashion_mnist_robust"), test.x, test.y, 1)
    for seed in args.seeds:
        for name in args.variants:
            if (name, seed) in [(row["variant"], row["seed"]) for row in rows]:
                continue
            start = time.perf_counter()
            purifier, target = train(name, seed, args)
            seconds = round(time.perf_counter() - start)
            correct = measure(purifier, target, test.x, test.y, args.draws)
            rows.append({"variant": name, "seed": seed, "seconds": seconds, "correct": correct})
            ablations.save({"rows": rows, "target": alone} | about, args.out)
    return {"rows": rows, "target": alone} | about


def table(found: dict[str, Any]) -> str:
    """Accuracy of the target and of each variant, and what each loses against the full method."""
    rows = [{"variant": TARGET, "correct": found["target"]}, *found["rows"]]
    return ablations.table(rows, ATTACKS, ("clean", "eot"), FULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pretraining-epochs", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument(
        "--restoration-rate", type=float, default=2e-4, help="of the second stage; 1e-3 destroys the first"
    )
    parser.add_argument("--train", type=int, default=4000, help="training images")
    parser.add_argument("--images", type=int, default=512, help="test images")
    parser.add_argument("--draws", type=int, default=5, help="of EOT")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--runs", type=Path, default=Path("runs/dir_ablation"), help="where checkpoints are kept")
    parser.add_argument("--out", type=Path, default=Path("results/dir_ablation.json"))
    print(table(run(parser.parse_args())))


if __name__ == "__main__":
    main()
