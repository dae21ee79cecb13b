r"""DIR at the paper's size on CIFAR-10: target, pre-training, restoration, and the paper's table.

    python examples/paper_tables/dir_cifar10.py --data FOLDER --device cuda --precision bf16-mixed
    python examples/paper_tables/dir_cifar10.py --data FOLDER --target-epochs 1 --pretraining-epochs 1 --epochs 1 \
        --train 256 --images 16 --width 24 --depth 1 --decoder-depth 1 --target-width 8 --quick

FOLDER holds what `cifar10.load` reads. Each stage is resumed from its checkpoint, so a run may be killed at any time,
and `--minutes` ends the training before its time is up. The JSON holds the schedule, its seconds, and memory.
"""

from __future__ import annotations

import argparse
import copy
from typing import Any

import cifar10
import dir_fashion_mnist as table
import torch
from torch import nn

from art_ext.attacks import Linf
from art_ext.classifiers import ClassifierObjective, ResNet18
from art_ext.data import Images
from art_ext.evaluation import Defended, Report
from art_ext.nn import seeded
from art_ext.objectives import DIRPretraining, DIRRestoration
from art_ext.purifiers import DIR
from art_ext.training import Objective

EPS, STEP = 8 / 255, 2 / 255


def stages(purifier: DIR, target: nn.Module, args: argparse.Namespace) -> dict[str, tuple[Objective, int]]:
    """Objective and epochs of each stage, with the paper's attack: PGD-5 at 8/255 in steps of 2/255."""
    attack: dict[str, Any] = {"eps": EPS, "steps": 5, "step_size": STEP, "norm": Linf()}
    restoration = DIRRestoration(purifier, target, **attack, joint=args.joint, pixel=args.squared_error)
    restoration.learning_rate = restoration.learning_rate if args.rate is None else args.rate
    return {
        "target": (ClassifierObjective(target, **attack), args.target_epochs),
        "pretraining": (DIRPretraining(purifier, target, **attack), args.pretraining_epochs),
        "restoration": (restoration, args.epochs),
    }


def measure(
    alone: nn.Module, target: nn.Module, purifier: DIR, test: Images, args: argparse.Namespace
) -> dict[str, Report]:
    """The parts of the Fashion-MNIST table for these models, the strong one on fewer images."""
    models = [Defended(table.TARGET, alone, robust=True), Defended(table.DEFENDED, target, purifier)]
    parts = {
        "paper": (table.paper_attacks(EPS, args.quick), args.images),
        "strong": (table.strong_attacks(EPS, args.quick, args.strong_images), args.strong_images),
    }
    return cifar10.measure(parts, models, table.BPDA + table.FULL + table.OWN, EPS, test, args)


def run(args: argparse.Namespace) -> dict[str, Any]:
    data, test = cifar10.load(args.data, args.train, args.images)
    with seeded(args.seed):
        target = ResNet18(3, 10, args.target_width).to(args.device)
        purifier = DIR(3, args.patch, args.width, args.heads, args.depth, args.decoder_depth).to(args.device)
    schedule = {}
    for name, (objective, epochs) in stages(purifier, target, args).items():
        players = objective.players()
        optimizers = {player: objective.optimizer(player, parameters) for player, parameters in players.items()}
        if name == "target":
            optimizers = {k: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=2e-4) for k, p in players.items()}
        # A tenth of the rate after 5/6 of the epochs (the paper: 75 of 90); pre-training has one rate.
        falls = [] if name == "pretraining" else [max(1, 5 * epochs // 6)]
        schedule[name] = cifar10.train(name, objective, optimizers, epochs, falls, data, args)
        if name == "target":
            alone = copy.deepcopy(target).eval()  # what DIR has to beat, also where it trains the target further
    reports = measure(alone, target.eval(), purifier.eval().requires_grad_(False), test, args)
    return cifar10.about(args, data, schedule, {"target": target, "purifier": purifier}, reports)


def main() -> None:
    parser = cifar10.arguments(__doc__, "dir_cifar10")
    parser.add_argument("--target-epochs", type=int, default=90)
    parser.add_argument("--pretraining-epochs", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=90, help="of the restoration")
    parser.add_argument("--joint", action="store_true", help="train the target with the purifier, as the code does")
    parser.add_argument("--rate", type=float, help="SGD's in the restoration; the paper's 1e-2 unless given")
    parser.add_argument("--squared-error", type=float, default=0.0, help="its weight in the restoration; paper: none")
    parser.add_argument("--target-width", type=int, default=64)
    parser.add_argument("--patch", type=int, default=2)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--heads", type=int, default=3)
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--decoder-depth", type=int, default=2)
    cifar10.main(parser, run)


if __name__ == "__main__":
    main()
