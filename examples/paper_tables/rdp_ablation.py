"""RDP's ablation (the paper's Figure 8) on Fashion-MNIST: each loss term and the reconstruction branch left out.

    python examples/paper_tables/rdp_ablation.py                       # about 40 minutes on one core
    python examples/paper_tables/rdp_ablation.py --epochs 1 --images 64 --train 256 --seeds 0

Every variant starts from the same weights and sees the same batches. Two forms of the reconstruction branch are run:
Algorithm 1 updates P by L_P alone, so that R cannot change P; the paper's prose lets both branches share the latent.
A killed run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import ablations
import torch
from torch import Tensor, nn

from art_ext import presets
from art_ext.attacks import Linf, ascent, cross_entropy, pgd
from art_ext.data import fashion_mnist
from art_ext.nn import FeatureExtractor, seeded
from art_ext.objectives import RDPObjective, Weights
from art_ext.purifiers import RDP

EPS = 0.1
PAPER = Weights()
SHARED = "shared latent (the prose)"
VARIANTS: dict[str, tuple[Weights, bool]] = {
    "full (Algorithm 1)": (PAPER, False),
    "no reconstruction branch": (replace(PAPER, reconstruction=0.0), False),
    SHARED: (PAPER, True),
    "no feature loss": (replace(PAPER, feature=0.0), False),
    "no pixel loss": (replace(PAPER, pixel=0.0), False),
    "no latent loss": (replace(PAPER, latent=0.0), False),
    "no adversarial loss": (replace(PAPER, adversarial=0.0), False),
}


def train(name: str, seed: int, args: argparse.Namespace) -> RDP:
    weights, shared = VARIANTS[name]
    features = FeatureExtractor(presets.load("fashion_mnist_vgg"), "features.relu3_3")
    with seeded(seed):
        rdp = RDP(1, args.width, args.blocks, "residual", fold=2)
        objective = RDPObjective(rdp, features, weights=weights, shared_latent=shared, eps=EPS, steps=5)
    ablations.train(
        objective, name, images=args.train, epochs=args.epochs, seed=seed, runs=args.runs, labels=False
    )  # fmt: skip
    return rdp.eval().requires_grad_(False)


def adversaries(x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Clean images, PGD-40 on the classifier alone, PGD-40 on the surrogate: none of them knows the purifier."""
    made = {"clean": x}
    with seeded(0):
        for name, preset in {"blind": "fashion_mnist_cnn", "transfer": "fashion_mnist_surrogate"}.items():
            model = presets.load(preset)
            pieces = zip(x.split(250), y.split(250), strict=True)
            made[name] = torch.cat([_pgd(model, a, b) for a, b in pieces])
    return made


def _pgd(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return pgd(ascent(cross_entropy(model, y)), x, norm=Linf(), eps=EPS, steps=40, step_size=0.01)


def run(args: argparse.Namespace) -> dict[str, Any]:
    test = fashion_mnist("test", args.images)
    images = adversaries(test.x, test.y)
    classifier = presets.load("fashion_mnist_cnn")
    rows: list[dict[str, Any]] = []
    for seed in args.seeds:
        for name in VARIANTS:
            start = time.perf_counter()
            rdp = train(name, seed, args)
            seconds = round(time.perf_counter() - start)
            defended = nn.Sequential(rdp, classifier)
            correct = {attack: ablations.answers(defended, x, test.y) for attack, x in images.items()}
            error = {a: float((rdp(x) - test.x).abs().mean()) for a, x in images.items()}
            rows.append({"variant": name, "seed": seed, "seconds": seconds, "correct": correct, "pixel_error": error})
    undefended = {attack: ablations.answers(classifier, x, test.y) for attack, x in images.items()}
    weights = {name: asdict(w) | {"shared_latent": s} for name, (w, s) in VARIANTS.items()}
    return {"rows": rows, "undefended": undefended, "weights": weights} | ablations.stated(vars(args))


def table(found: dict[str, Any]) -> str:
    """Accuracy of each variant, and its paired difference to the full method, over images and seeds."""
    attacks = {"clean": "clean", "blind": "blind PGD-40", "transfer": "transfer PGD-40"}
    return ablations.table(found["rows"], attacks, ("blind", "transfer"), "full (Algorithm 1)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--train", type=int, default=8000, help="training images")
    parser.add_argument("--images", type=int, default=1000, help="test images")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"), help="where checkpoints are kept")
    parser.add_argument("--out", type=Path, default=Path("results/rdp_ablation.json"))
    args = parser.parse_args()
    found = run(args)
    ablations.save(found, args.out)
    print(table(found))


if __name__ == "__main__":
    main()
