"""Trains the presets that ship with the package, from the data that ships with it.

    python examples/make_presets.py fashion_mnist_cnn        # the classifier that is defended
    python examples/make_presets.py fashion_mnist_surrogate  # another network, for transfer attacks
    python examples/make_presets.py fashion_mnist_vgg        # whose inner layer is RDP's F
    python examples/make_presets.py fashion_mnist_robust     # the classifier's network, adversarially trained
    python examples/make_presets.py fashion_mnist_rdp        # needs fashion_mnist_vgg
    python examples/make_presets.py fashion_mnist_dir --epochs 14 --fused-error  # needs fashion_mnist_robust
    python examples/make_presets.py fashion_mnist_atop_pretrained --seed 0 --pretraining-epochs 10
    python examples/make_presets.py fashion_mnist_atop --seed 0 --pretraining-epochs 10 --epochs 8  # needs the first
    python examples/make_presets.py fashion_mnist_drrdn      # a classifier, the encoder that of fashion_mnist_robust
    python examples/make_presets.py fashion_mnist_cdvae --epochs 60  # needs fashion_mnist_cnn to measure

The last makes two: `fashion_mnist_cdvae_classifier` is D_G, which was trained on what the purifier gives.

Those for CIFAR-10 need its images, which do not ship: `--data FOLDER` says where they are, see `preset_cifar10.py`.

    python examples/make_presets.py cifar10_resnet --epochs 11 --sgd-rate 0.2     # the classifier that is defended
    python examples/make_presets.py cifar10_robust --epochs 15 --sgd-rate 0.2     # its network, trained with N-FGSM
    python examples/make_presets.py cifar10_features --epochs 4 --sgd-rate 0.1    # whose inner layer is RDP's F
    python examples/make_presets.py cifar10_surrogate --epochs 4 --sgd-rate 0.2   # another network, for transfers
    python examples/make_presets.py cifar10_rdp --features cifar10_features --epochs 8 --steps 3 --pixel 1.0 \
        --clean-share 0.3
    python examples/make_presets.py cifar10_dir --epochs 2 --pretraining-epochs 4 --batch-size 64 --images 20000 \
        --test 256 --steps 2 --alpha 1.0  # before cifar10_robust
    python examples/make_presets.py cifar10_atop --epochs 3 --pretraining-epochs 5 --images 20000 --test 512
    python examples/make_presets.py cifar10_cdvae --epochs 8 --classifier-epochs 4  # and cifar10_cdvae_classifier
    python examples/make_presets.py cifar10_drrdn --epochs 5 --images 8000 --steps 2 --sgd-rate 0.02

A killed run goes on from its checkpoint in `runs/`.
"""

from __future__ import annotations

import argparse
import shlex
from typing import Any

import preset_cifar10
import torch
from preset_makers import MAKERS, ROBUST, TRAINED_FOR
from preset_measures import answers, measure

from art_ext import presets
from art_ext.objectives import Weights

DATA = "the 8,000 Fashion-MNIST training images that ship with the package"
COUNTED = 16
"""Images of the batch on which operations are counted."""
SEEDS = (
    "fashion_mnist_cnn",
    "fashion_mnist_surrogate",
    "fashion_mnist_vgg",
    "fashion_mnist_rdp",
    "fashion_mnist_robust",
    "fashion_mnist_dir",
    "fashion_mnist_atop_pretrained",
    "fashion_mnist_atop",
    "fashion_mnist_cdvae",
    "fashion_mnist_drrdn",
    *preset_cifar10.CLASSIFIERS,
    "cifar10_rdp",
    "cifar10_dir",
    "cifar10_atop_pretrained",
    "cifar10_atop",
    "cifar10_cdvae",
    "cifar10_drrdn",
)


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=SEEDS)
    parser.add_argument("--folder", default=str(presets.FOLDER), help="where presets are read and written")
    parser.add_argument("--runs", default="runs", help="where checkpoints are kept")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--pretraining-epochs", type=int, default=40, help="of DIR's and AToP's first stage")
    parser.add_argument("--batch-size", type=int, help="64, for CIFAR-10 128")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--images", type=int, help="to train on; all unless given")
    parser.add_argument("--data", default="data", help="folder of CIFAR-10")
    parser.add_argument(
        "--precision",
        choices=["auto", "bf16", "32"],
        default="auto",
        help="auto: bf16 for CIFAR-10 where the processor has it",
    )
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=5, help="of the training attack")
    parser.add_argument("--features", default="fashion_mnist_vgg", help="preset whose layer is F")
    parser.add_argument("--start", help="folder of an earlier fashion_mnist_rdp to go on from")
    parser.add_argument("--layer", default="features.relu3_3", help="of F")
    parser.add_argument(
        "--learning-rate", type=float, default=1e-3, help="of the purifiers, at the start of the cosine"
    )
    parser.add_argument("--restoration-rate", type=float, default=3e-4, help="of DIR's second stage, likewise")
    parser.add_argument("--squared-error", type=float, default=10.0, help="weight of DIR's pixel term there")
    parser.add_argument("--fused-error", action="store_true", help="take it for the mean of the masks' restorations")
    parser.add_argument("--alpha", type=float, default=2.0, help="of DIR's representation loss")
    parser.add_argument("--sgd-rate", type=float, default=0.05, help="of DRRDN and CIFAR-10, the highest")
    parser.add_argument("--tuning-share", type=float, default=0.3, help="of that rate in AToP's second stage")
    parser.add_argument("--weight", type=float, default=0.05, help="of the classifier's loss there")
    parser.add_argument("--adversarial", type=float, default=0.1, help="of AToP's GAN term")
    parser.add_argument("--pixel", type=float, default=Weights().pixel, help="weight of RDP's pixel term")
    parser.add_argument("--gamma", type=float, default=2e-3, help="of CD-VAE")
    parser.add_argument("--classifier-epochs", type=int, default=15, help="of the classifier behind CD-VAE")
    parser.add_argument("--clean-share", type=float, default=0.0, help="of RDP's training images")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--again", action="store_true", help="round and measure the preset that is there, no training")
    instead.add_argument("--count", action="store_true", help="count the operations of its training, and note them")
    return parser


def main() -> None:
    parser = options()
    args = parser.parse_args()
    changed = [f"--{k.replace('_', '-')}" + ("" if v is True else f" {v}") for k, v in vars(args).items()
               if _set(parser, k, v)]  # fmt: skip
    command = " ".join(["python examples/make_presets.py", args.name, *changed])
    if args.again or args.count:
        print(*([again(args)] if args.again else count(args)), sep="\n")
        return
    settle(args)
    made = MAKERS[args.name](args)
    beside = made.pop("beside", None)
    for each in (beside, made):  # what is measured may need what is beside it
        if each is not None:
            print(save(each, command, args))


def settle(args: argparse.Namespace) -> None:
    """Fills in what depends on the preset and on the processor."""
    small = not args.name.startswith("cifar10")
    args.seed = SEEDS.index(args.name) if args.seed is None else args.seed  # each network its own
    args.batch_size = args.batch_size or (64 if small else 128)
    args.images = args.images or (8000 if small else preset_cifar10.IMAGES)
    if args.precision == "auto":
        args.precision = "32" if small or not preset_cifar10.has_bf16() else "bf16"


def save(made: dict[str, Any], command: str, args: argparse.Namespace) -> presets.Preset:
    """Measures and writes what a maker gave."""
    training = {k: getattr(args, k) for k in ("epochs", "batch_size", "seed", "images")}
    training |= made.pop("further", {})
    training |= {"seconds": round(made.pop("seconds")), "torch": torch.__version__, "threads": torch.get_num_threads()}
    module, name = made.pop("module"), made.pop("name", args.name)
    module = module.to(memory_format=torch.contiguous_format)  # as it will be loaded
    made = {"data": DATA, "classifier": TRAINED_FOR.get(name, ""), "robust": name in ROBUST} | made
    made["measured"] = rounded_and_measured(module, name, args.test, args)
    return presets.save(module, name, folder=args.folder, command=command, training=training, **made)


def again(args: argparse.Namespace) -> presets.Preset:
    """Rounds, measures and writes a preset that is there, on as many images as before."""
    module, facts = there(args.name, args)
    facts["measured"] = rounded_and_measured(module, args.name, int(facts["measured"]["n"]), args)
    return presets.save(module, args.name, folder=args.folder, **facts)


def count(args: argparse.Namespace) -> list[presets.Preset]:
    """Notes the operations of the training that the command of a preset names, counted on one batch of each stage."""
    told = options().parse_args(shlex.split(presets.describe(args.name, args.folder).command)[2:])
    told.folder, told.data, told.count, told.operations = args.folder, args.data, True, {}
    settle(told)
    images, told.precision = told.images, "32"
    told.images = told.batch_size = COUNTED
    MAKERS[told.name](told)
    made = []
    for name, stages in told.operations.items():
        module, facts = there(name, args)
        facts["training"] = {**facts["training"], "operations": images * sum(stages)}
        made.append(presets.save(module, name, folder=args.folder, **facts))
    return made


def there(name: str, args: argparse.Namespace) -> tuple[torch.nn.Module, dict[str, Any]]:
    """A preset's network, and what `presets.save` is told of it."""
    facts = vars(presets.describe(name, args.folder))
    return presets.load(name, args.folder), {k: facts[k] for k in facts if k not in ("name", "class_name", "sha256")}


def rounded_and_measured(module: torch.nn.Module, name: str, n: int, args: argparse.Namespace) -> dict[str, Any]:
    """Rounds weights where that changes none of n answers, and measures on the same images what is left."""
    on = (n, args.folder, args.data if "cifar10" in name else None)
    share = presets.round_weights(module, answers(*on))
    print(f"{name}: {100 * share:.1f} % of the weights rounded to half precision")
    return measure(module, *on)


def _set(parser: argparse.ArgumentParser, key: str, value: Any) -> bool:
    """Whether an option that changes the result was given."""
    return key not in ("name", "folder", "runs", "data") and value != parser.get_default(key)


if __name__ == "__main__":
    main()
