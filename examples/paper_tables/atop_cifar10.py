r"""AToP at the paper's size on CIFAR-10: classifier, pre-training, fine-tuning, and the table.

    python examples/paper_tables/atop_cifar10.py --data FOLDER --device cuda --precision bf16-mixed
    python examples/paper_tables/atop_cifar10.py --data FOLDER --classifier-epochs 1 --pretraining-epochs 1 --epochs 1 \
        --train 64 --images 8 --strong-images 4 --width 4 --dilations 1 --classifier-width 4 --quick

FOLDER holds what `cifar10.load` reads. The released generator starts from weights trained on Places2 and works at 256
pixels; here it is trained from scratch, on the images' own pixels unless `--size` is given, which wants small batches.
Each stage is resumed from its checkpoint, and `--minutes` ends the training before its time is up. The JSON holds the
schedule, its seconds, and memory.
"""

from __future__ import annotations

import argparse
from typing import Any

import cifar10
import torch
from torch import nn

from art_ext.classifiers import ClassifierObjective, ResNet18
from art_ext.data import Images
from art_ext.evaluation import Attack, Defended, Knowledge, Report
from art_ext.nn import seeded
from art_ext.objectives import AToPFineTuning, AToPPretraining
from art_ext.purifiers import AToP

EPS, STEP = 8 / 255, 2 / 255
BLIND, FULL = (Knowledge.BLIND,), (Knowledge.FULL,)


def measure(
    classifier: nn.Module, purifiers: dict[str, AToP], test: Images, args: argparse.Namespace
) -> dict[str, Report]:
    """The poster's attacks on the classifier alone, and exact gradients averaged over draws on fewer images."""
    models = [Defended("undefended", classifier)]
    models += [Defended(name, classifier, purifier) for name, purifier in purifiers.items()]
    lengths = (2, 3) if args.quick else (10, 20, 1000)
    blind = [Attack("native", "FGSM", knowledge=BLIND)]
    blind += [Attack("native", "PGD", {"steps": k, "step_size": STEP, "best": False}, knowledge=BLIND) for k in lengths]
    strong = [Attack("native", "PGD", {"steps": 3 if args.quick else 200, "best": False}, knowledge=FULL)]
    if not args.quick:
        strong += [
            Attack("autoattack", "standard", on="deterministic", knowledge=FULL),
            Attack("autoattack", "rand", on="randomised", knowledge=FULL),
            Attack("native", "StAdv", {"steps": 100}, knowledge=FULL),
        ]
    parts = {"blind": (blind, args.images), "strong": (strong, args.strong_images)}
    return cifar10.measure(parts, models, BLIND + FULL, EPS, test, args)


def run(args: argparse.Namespace) -> dict[str, Any]:
    data, test = cifar10.load(args.data, args.train, args.images)
    with seeded(args.seed):
        classifier = ResNet18(3, 10, args.classifier_width).to(args.device)
        shape: dict[str, Any] = {"dilations": args.dilations, "size": args.size}
        plain, tuned = (AToP(3, args.transform, args.width, **shape).to(args.device) for _ in range(2))
        pretraining = AToPPretraining(plain)
    schedule = {}
    objective = ClassifierObjective(classifier)
    sgd = {k: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=5e-4) for k, p in objective.players().items()}
    falls = [max(1, args.classifier_epochs * k // 4) for k in (2, 3)]
    schedule["classifier"] = cifar10.train("classifier", objective, sgd, args.classifier_epochs, falls, data, args)
    pretraining.learning_rate = args.rate
    adam = {k: pretraining.optimizer(k, p) for k, p in pretraining.players().items()}
    schedule["pretraining"] = cifar10.train("pretraining", pretraining, adam, args.pretraining_epochs, [], data, args)
    tuned.load_state_dict(plain.state_dict())
    fine = AToPFineTuning(
        tuned, classifier, discriminator=pretraining.discriminator, data=args.examples, attack=args.attack, eps=EPS,
        step_size=STEP, weight=args.weight,
    )  # fmt: skip
    adam = {k: fine.optimizer(k, p) for k, p in fine.players().items()}
    schedule["fine-tuning"] = cifar10.train("fine-tuning", fine, adam, args.epochs, [], data, args)
    purifiers = {args.transform: plain.eval().requires_grad_(False), f"{args.transform} + AToP": tuned.eval()}
    tuned.requires_grad_(False)
    reports = measure(classifier.eval(), purifiers, test, args)
    return cifar10.about(args, data, schedule, {"classifier": classifier, "purifier": tuned}, reports)


def main() -> None:
    parser = cifar10.arguments(__doc__, "atop_cifar10")
    parser.add_argument("--classifier-epochs", type=int, default=60)
    parser.add_argument("--pretraining-epochs", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=30, help="of the fine-tuning")
    parser.add_argument("--transform", default="RT2", choices=["RT1", "RT2", "RT3"])
    parser.add_argument("--examples", default="adversarial", choices=["adversarial", "clean"], help="poster's b or a")
    parser.add_argument("--attack", default="fgsm", choices=["fgsm", "pgd", "purifier"], help="of the fine-tuning")
    parser.add_argument("--weight", type=float, default=0.025, help="lambda; 0.05 in the units of the released code")
    parser.add_argument("--rate", type=float, default=1e-3, help="Adam's from scratch; then the released 1e-4")
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--dilations", type=int, nargs="+", default=[1, 1, 2, 4, 8, 16, 1, 1])
    parser.add_argument("--size", type=int, help="side to which images are resized inside")
    parser.add_argument("--classifier-width", type=int, default=64)
    cifar10.main(parser, run)


if __name__ == "__main__":
    main()
