r"""DRRDN at the paper's size on CIFAR-10: WRN-28-10, Linf 0.031, beside Standard, Madry, TRADES and `halves`.

    python examples/paper_tables/drrdn_cifar10.py --data FOLDER --device cuda --precision bf16-mixed
    python examples/paper_tables/drrdn_cifar10.py --data FOLDER --epochs 1 --train 64 --images 8 --strong-images 4 \
        --depth 10 --widen 1 --train-steps 1 --quick

FOLDER holds what `cifar10.load` reads. The training attack is the paper's (10 steps of 0.007), its 100 epochs are cut
to `--epochs` with the rate's falls after the same shares, 55, 75 and 90 %. Momentum, weight decay and augmentation, of
which the paper says nothing, are those of TRADES. The weights of Eqs. 6 to 8 are those of drrdn_mnist.py; the paper
has 1. `halves` is DRRDN's network, which has a linear layer more than WRN-28-10, with the loss of the class alone.
Each network is resumed from its checkpoint, and `--minutes` ends the training before its time is up.
`--models` makes and measures only some. The JSON holds the schedule, its seconds, and memory.
"""

from __future__ import annotations

import argparse
from typing import Any

import cifar10
import drrdn_mnist as mnist
import torch
from torch import nn

from art_ext.classifiers import WideDRRDN, WideResNet
from art_ext.classifiers.drrdn import PAPER, DRRDNObjective
from art_ext.data import Images
from art_ext.evaluation import Attack, Defended, Knowledge, Report
from art_ext.nn import seeded

EPS, STEP = 0.031, 0.003
FALLS = (0.55, 0.75, 0.9)


def network(name: str, args: argparse.Namespace) -> nn.Module:
    kind = WideDRRDN if name in mnist.VARIANTS else WideResNet
    with seeded(args.seed):
        made: nn.Module = kind(3, 10, args.depth, args.widen)
    return made.to(args.device)


def attacks(args: argparse.Namespace) -> dict[str, tuple[list[Attack], int]]:
    """Table 2 with steps of 0.003 (FGSM's ten times that), transfer by PGD-20, and AutoAttack."""

    def iterated(loss: str, steps: int) -> Attack:
        options = {"steps": 2 if args.quick else steps, "step_size": STEP, "best": False, "loss": loss}
        return Attack("native", "PGD", options, label=f"{'CW' if loss == 'margin' else 'PGD'}-{steps}")

    fgsm = Attack("native", "FGSM", {"step_size": 10 * STEP}, label="FGSM, step 0.03")
    white = [fgsm, *(iterated(loss, steps) for loss in ("cross_entropy", "margin") for steps in (40, 100))]
    strong = Attack("native", "APGD", {"steps": 2}) if args.quick else Attack("autoattack", "standard")
    return {
        "white": (white, args.images),
        "transfer": ([iterated("cross_entropy", 20)], args.images),
        "autoattack": ([strong], args.strong_images),
    }


def measure(models: list[Defended], test: Images, args: argparse.Namespace) -> dict[str, Report]:
    return cifar10.measure(attacks(args), models, (Knowledge.UNDEFENDED,), EPS, test, args, crossed=("transfer",))


def run(args: argparse.Namespace) -> dict[str, Any]:
    data, test = cifar10.load(args.data, args.train, args.images)
    attack = {**PAPER["cifar10"], "steps": args.train_steps}
    falls = [max(1, round(share * args.epochs)) for share in FALLS]
    schedule, networks = {}, {}
    for name in args.models:
        networks[name] = network(name, args)
        game = mnist.objective(name, networks[name], attack, args)
        optimizers: dict[str, torch.optim.Optimizer] = mnist.optimizers_of(game, args.rate, args)
        schedule[name] = cifar10.train(name, game, optimizers, args.epochs, falls, data, args)
        if isinstance(game, DRRDNObjective):
            schedule[name] |= {"weights": vars(game.weights)}
        networks[name].eval().requires_grad_(False)
    models = [Defended(name, found, robust=name != "Standard") for name, found in networks.items()]
    return cifar10.about(args, data, schedule, networks, measure(models, test, args))


def main() -> None:
    parser = cifar10.arguments(__doc__, "drrdn_cifar10")
    parser.add_argument("--models", nargs="+", default=list(mnist.COMPARED), choices=mnist.COMPARED)
    parser.add_argument("--epochs", type=int, default=30, help="of each network; the paper's 100")
    parser.add_argument("--train-steps", type=int, default=PAPER["cifar10"]["steps"], help="of the training attack")
    parser.add_argument("--depth", type=int, default=28)
    parser.add_argument("--widen", type=int, default=10)
    mnist.game_arguments(parser)
    parser.set_defaults(rate=0.1)
    cifar10.main(parser, run)


if __name__ == "__main__":
    main()
