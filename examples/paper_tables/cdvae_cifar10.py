r"""CD-VAE at the paper's size on CIFAR-10: classifiers WRN-28-10, clean CD-VAEs, the game, and Tables 6 and 7.

    python examples/paper_tables/cdvae_cifar10.py --data FOLDER --device cuda --precision bf16-mixed
    python examples/paper_tables/cdvae_cifar10.py --data FOLDER --classifier-epochs 1 --epochs 1 --game-epochs 1 \
        --train 64 --images 8 --strong-images 4 --width 4 --latent 8 --depth 10 --widen 1 --quick

FOLDER holds what `cifar10.load` reads. Stages: a classifier of x; CD-VAE at gamma 2e-3 and a classifier of its G(x),
the grey-box defence; CD-VAE at gamma 2, and the game that starts from it and from the classifier of x, as the released
one does. Differs from the released code: the rate falls at halves and three quarters instead of oscillating, images are
shifted and flipped without RandAugment, and the game has AdamW, as the paper says, not SGD at 1. Each stage is resumed
from its checkpoint, and `--minutes` ends the training before its time is up.
"""

from __future__ import annotations

import argparse
import copy
from typing import Any

import cdvae_fashion_mnist as small
import cifar10
import torch
from cdvae_tables import table
from torch import nn

from art_ext.classifiers import ClassifierObjective, WideResNet
from art_ext.data import Images
from art_ext.evaluation import Attack, Defended, Report
from art_ext.nn import seeded
from art_ext.objectives import CDVAEGame, CDVAETraining
from art_ext.purifiers import CDVAE
from art_ext.training import Objective

EPS, EPS_L2 = 8 / 255, 1.0
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def trained(
    name: str, objective: Objective, epochs: int, data: Images, args: argparse.Namespace, schedule: dict[str, Any]
) -> None:
    """A stage with its own optimiser; of a classifier, the SGD of WideResNets."""
    players = objective.players()
    optimizers = {player: objective.optimizer(player, parameters) for player, parameters in players.items()}
    if isinstance(objective, ClassifierObjective):
        sgd: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}
        optimizers = {k: torch.optim.SGD(p, **sgd) for k, p in players.items()}
    falls = [max(1, epochs * k // 4) for k in (2, 3)]
    schedule[name] = cifar10.train(name, objective, optimizers, epochs, falls, data, args)
    objective.requires_grad_(False)


def networks(data: Images, args: argparse.Namespace) -> tuple[list[Defended], dict[str, Any]]:
    """The models of the tables, trained, and what the schedule was."""
    schedule: dict[str, Any] = {}
    shape: dict[str, Any] = {"size": 32, "width": args.width, "latent": args.latent, "classes": 0}
    wide: dict[str, Any] = {"depth": args.depth, "widen": args.widen, "std": STD}
    with seeded(args.seed):
        plain, of_redundant = (WideResNet(3, 10, **wide, mean=MEAN).to(args.device) for _ in range(2))
        purifiers = [CDVAE(3, **shape, mean=MEAN, std=STD).to(args.device) for _ in range(2)]
        # Residuals have no mean to subtract.
        of_residuals = [WideResNet(3, 10, **wide, dropout=0.3).to(args.device) for _ in range(2)]
    trained("classifier of x", ClassifierObjective(plain), args.classifier_epochs, data, args, schedule)
    for purifier, classifier, gamma in zip(purifiers, of_residuals, args.gammas, strict=True):
        objective = CDVAETraining(purifier, classifier, gamma=gamma, mixup=args.mixup)
        trained(f"cdvae, gamma {gamma:g}", objective, args.epochs, data, args, schedule)
    grey, start = purifiers
    objective = ClassifierObjective(of_redundant, purifier=grey)
    trained("classifier of G(x)", objective, args.classifier_epochs, data, args, schedule)
    player = copy.deepcopy(plain)
    game = CDVAEGame(start, player, of_residuals[1], variant=args.variant, eps=EPS, steps=args.steps)
    trained(f"game, {args.variant}", game, args.game_epochs, data, args, schedule)
    start.set_sampling(args.sample)
    title = f"CD-VAE, {args.variant} game" + (", z sampled" if args.sample else "")
    found = [
        Defended(small.UNDEFENDED, plain.eval()),
        Defended(small.GREY, of_redundant.eval(), grey.eval(), surrogate=plain),
        Defended(title, player.eval(), start.eval(), surrogate=plain),
    ]
    return found, schedule


def measure(models: list[Defended], test: Images, args: argparse.Namespace) -> dict[str, Report]:
    """Tables 6 and 7, each in both norms, the second with exact gradients on fewer images."""
    bounded = {"steps": 2 if args.quick else 100}
    unseen = [Attack("native", k, bounded, knowledge=small.FULL) for k in ("JPEG", "ReColorAdv", "StAdv")]
    blind_stadv = Attack("native", "StAdv", bounded, knowledge=small.TRANSFER)
    full, reports = small.full_attacks(args.quick, args.strong_images), {}
    for suffix, norm, eps, extra, more in (("", "Linf", EPS, [blind_stadv], unseen), ("_l2", "L2", EPS_L2, [], [])):
        parts = {
            f"grey{suffix}": ([*small.blind_attacks(eps, args.quick), *extra], args.images),
            f"white{suffix}": ([*full, *more], args.strong_images),
        }
        knowledge = small.TRANSFER + small.FULL + small.OWN
        reports |= cifar10.measure(parts, models, knowledge, eps, test, args, norm=norm)
    return reports


def run(args: argparse.Namespace) -> dict[str, Any]:
    data, test = cifar10.load(args.data, args.train, args.images)
    models, schedule = networks(data, args)
    reports = measure(models, test, args)
    purifier: nn.Module | None = models[1].purifier
    assert purifier is not None
    sizes = {"classifier": models[0].classifier, "purifier": purifier}
    made = cifar10.about(args, data, schedule, sizes, reports)
    return made | {"table": table(reports)}


def main() -> None:
    parser = cifar10.arguments(__doc__, "cdvae_cifar10")
    parser.add_argument("--classifier-epochs", type=int, default=100, help="of x, and of G(x)")
    parser.add_argument("--epochs", type=int, default=300, help="of each CD-VAE on clean images")
    parser.add_argument("--game-epochs", type=int, default=150)
    parser.add_argument(
        "--gammas", type=float, nargs=2, default=[2e-3, 2.0], help="of the defence and the game's start"
    )
    parser.add_argument("--mixup", type=float, default=2.0, help="a of Beta(a, a), 0 for none; released: 2")
    parser.add_argument("--variant", default="paper", choices=["paper", "released"], help="of the game")
    parser.add_argument("--sample", action="store_true", help="draw z at inference after the game, as released")
    parser.add_argument("--steps", type=int, default=10, help="of the game's attack")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--latent", type=int, help="of the VAE; 2048 unless given")
    parser.add_argument("--depth", type=int, default=28)
    parser.add_argument("--widen", type=int, default=10)
    cifar10.main(parser, run)


if __name__ == "__main__":
    main()
