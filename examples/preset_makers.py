"""How `make_presets.py` trains each preset: networks, objectives and schedules."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import preset_cifar10
import torch
from preset_measures import EPS
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from art_ext import presets
from art_ext.classifiers import VGG, ClassifierObjective, PreActDRRDN, ResNet18, SmallCNN, SmallDRRDN
from art_ext.classifiers.drrdn import DRRDNObjective, Rise, headless
from art_ext.data import fashion_mnist, shift_and_flip
from art_ext.files import replacing
from art_ext.nn import FeatureExtractor, seeded
from art_ext.objectives import (
    AToPFineTuning,
    AToPPretraining,
    CDVAETraining,
    DIRPretraining,
    DIRRestoration,
    RDPObjective,
    Weights,
)
from art_ext.purifiers import CDVAE, DIR, RDP, AToP
from art_ext.training import Batches, Callbacks, Objective, make_fabric, run

CLASSIFIERS: dict[str, Any] = {
    "fashion_mnist_cnn": (SmallCNN, {"channels": 1, "classes": 10, "width": 16}),
    "fashion_mnist_surrogate": (ResNet18, {"channels": 1, "classes": 10, "width": 8}),
    "fashion_mnist_vgg": (VGG, {"channels": 1, "classes": 10, "width": 16}),
    "fashion_mnist_robust": (SmallCNN, {"channels": 1, "classes": 10, "width": 16}),
}
CDVAE_ARGUMENTS: dict[str, dict[str, Any]] = {
    "fashion_mnist_cdvae": {
        "channels": 1, "size": 28, "width": 16, "latent": 128, "classifier_width": 16, "mean": [0.286], "std": [0.353]
    },
    "cifar10_cdvae": {
        "channels": 3, "size": 32, "width": 24, "latent": 128, "classifier_width": 24, **preset_cifar10.STATISTICS
    },
}  # fmt: skip
DIR_ARGUMENTS: dict[str, dict[str, Any]] = {
    "fashion_mnist_dir": {"channels": 1, "patch": 4, "width": 48, "heads": 3, "depth": 3, "decoder_depth": 1},
    "cifar10_dir": {"channels": 3, "patch": 4, "width": 96, "heads": 3, "depth": 4, "decoder_depth": 1},
}
DRRDNS: dict[str, Any] = {
    "fashion_mnist_drrdn": (SmallDRRDN, {"channels": 1, "classes": 10, "width": 16}),
    "cifar10_drrdn": (PreActDRRDN, {**preset_cifar10.RESNET[1], "hidden": 128, "critic_width": 128}),
}
DRRDN_WEIGHTS = {
    "fashion_mnist_drrdn": {"domain": 0.1, "adversarial": 0.05, "entropy": 0.1},
    "cifar10_drrdn": {"domain": 1.0, "adversarial": 1.0, "entropy": 1.0},
}
ATOP_ARGUMENTS: dict[str, dict[str, Any]] = {
    "fashion_mnist": {"channels": 1, "width": 8, "dilations": [1, 2, 1]},
    "cifar10": {"channels": 3, "width": 16, "dilations": [1, 2, 1]},
}
RDP_ARGUMENTS: dict[str, dict[str, Any]] = {
    "fashion_mnist_rdp": {"channels": 1, "width": 24, "blocks": 8, "block": "residual", "fold": 2},
    "cifar10_rdp": {"channels": 3, "width": 48, "blocks": 8, "block": "residual", "fold": 2},
}  # fmt: skip
TRAINED_FOR = {
    "fashion_mnist_rdp": "fashion_mnist_cnn",
    "fashion_mnist_dir": "fashion_mnist_robust",
    "fashion_mnist_atop": "fashion_mnist_cnn",
    "fashion_mnist_cdvae": "fashion_mnist_cdvae_classifier",
    "cifar10_dir": "cifar10_robust",
    "cifar10_atop": "cifar10_resnet",
    "cifar10_cdvae": "cifar10_cdvae_classifier",
}
"""The classifier that a purifier was trained for or with, by presets."""
ROBUST = ("fashion_mnist_robust", "fashion_mnist_drrdn", "cifar10_robust", "cifar10_drrdn")
"""Classifiers that were trained against attacks."""

Plan = Sequence[tuple[Objective, int, float]]
"""Stages, each with its epochs and its highest rate."""


def train(
    objective: Objective, args: argparse.Namespace, peak: float, beta: float = 0.9, optimizers: Any = None,
    schedulers: Sequence[Any] = (),
) -> float:  # fmt: skip
    """Trains the one stage of a method, see `train_stages`."""
    made = None if optimizers is None else [optimizers]
    return train_stages([(objective, args.epochs, peak)], args, beta, made, schedulers)


def train_stages(
    plan: Plan, args: argparse.Namespace, beta: float = 0.9, optimizers: Any = None, schedulers: Sequence[Any] = ()
) -> float:
    """Trains with Adam (its first beta) or what is given, rates falling by a cosine; gives the seconds it took.

    Args:
        plan: the stages.
        args: options of the program.
        beta: Adam's first.
        optimizers: of each stage, by player.
        schedulers: more of them, beside the cosines.
    """
    batches = preset_cifar10.batches(args) if is_cifar10(args) else fashion_batches(args)
    if optimizers is None:
        optimizers = [
            {k: torch.optim.Adam(p, lr=peak, betas=(beta, 0.999)) for k, p in stage.players().items()}
            for stage, _, peak in plan
        ]
    cosines = [
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs, eta_min=peak / 50)
        for (_, epochs, peak), of_stage in zip(plan, optimizers, strict=True)
        for optimizer in of_stage.values()
    ]
    stages, passes = [stage for stage, *_ in plan], [epochs for _, epochs, _ in plan]
    return run_and_time(stages, batches, args, passes, optimizers, [*cosines, *schedulers])


def is_cifar10(args: argparse.Namespace) -> bool:
    """Whether the preset is one for CIFAR-10."""
    return bool(args.name.startswith("cifar10"))


def family(args: argparse.Namespace) -> str:
    """The data set of a preset, with which its name and those of the networks that it needs begin."""
    return "cifar10" if is_cifar10(args) else "fashion_mnist"


def radius(args: argparse.Namespace) -> float:
    """Of the attacks, in Linf."""
    return preset_cifar10.EPS if is_cifar10(args) else EPS


def arranged(args: argparse.Namespace, *modules: nn.Module) -> None:
    """Puts networks for CIFAR-10 channels-last."""
    for module in modules if is_cifar10(args) else ():
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def purified(
    args: argparse.Namespace, module: nn.Module, arguments: dict[str, Any], seconds: float, keys: Sequence[str]
) -> dict[str, Any]:  # fmt: skip
    """A trained purifier as `make_presets.py` saves it, with the options that made it."""
    module.eval().requires_grad_(False)
    made = {"module": module, "arguments": arguments, "paper": type(module).paper, "seconds": seconds}
    made["further"] = {k: getattr(args, k) for k in (*keys, *(("precision",) if is_cifar10(args) else ()))}
    return made | ({"data": preset_cifar10.called(args.test)} if is_cifar10(args) else {})


def fashion_batches(args: argparse.Namespace) -> Batches:
    """The training images that ship, shifted by up to 2 pixels and mirrored."""
    data = fashion_mnist("train", args.images)
    return Batches(data.x, data.y, batch_size=args.batch_size, seed=args.seed, augment=shift_and_flip(2))


def run_and_time(
    stages: Sequence[Objective], batches: Batches, args: argparse.Namespace, epochs: Sequence[int], optimizers: Any,
    schedulers: Sequence[Any],
) -> float:  # fmt: skip
    """Trains, from the checkpoints on if there are some; gives the seconds it took in all.

    Where operations are counted, each stage takes one pass over `args.images` images, and nothing is kept.
    """
    if args.count:
        args.operations[args.name] = [counted(*each, batches) for each in zip(stages, epochs, optimizers, strict=True)]
        return 0.0
    state = Path(args.runs) / args.name
    clock = state.with_name(f"{args.name}.seconds")  # of a killed run too
    resumed = state.with_name(f"{args.name}.1").is_file()
    if resumed and not clock.is_file():
        raise ValueError(f"expected {clock} beside the checkpoint, which says how long it took, got no such file")
    spent = float(clock.read_text("utf-8")) if resumed else 0.0
    start = time.perf_counter()

    def note(*_: Any) -> None:
        with replacing(clock) as temporary:
            temporary.write_text(str(spent + time.perf_counter() - start), "utf-8")

    run(
        stages, batches, epochs=epochs, seed=args.seed, optimizers=optimizers, schedulers=schedulers, checkpoint=state,
        callbacks=Callbacks(on_epoch=note), progress=True,
        fabric=make_fabric(torch.device("cpu"), precision={"32": "32-true", "bf16": "bf16-mixed"}[args.precision]),
    )  # fmt: skip
    return float(clock.read_text("utf-8"))


def counted(stage: Objective, epochs: int, optimizers: Any, batches: Batches) -> float:
    """Multiplications and additions of all epochs of a stage, for each image, counted by torch in one of them."""
    with _Operations() as seen:
        run([stage], batches, epochs=[1], optimizers=[optimizers])
    return epochs * seen.total / len(batches.x)


class _Operations(TorchDispatchMode):
    """Counts as torch's `FlopCounterMode` does, which refuses gradients that are taken within a step."""

    total = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        self.total += float(formula(*args, **(kwargs or {}), out_val=out)) if formula else 0.0
        return out


def make_classifier(args: argparse.Namespace) -> dict[str, Any]:
    kind, arguments = CLASSIFIERS[args.name]
    with seeded(args.seed):
        model = kind(**arguments)
    eps = EPS if args.name == "fashion_mnist_robust" else 0.0
    seconds = train(ClassifierObjective(model, eps=eps, steps=args.steps), args, peak=2e-3)
    return {"module": model.eval(), "arguments": arguments, "paper": "", "seconds": seconds}


def make_cifar10(args: argparse.Namespace) -> dict[str, Any]:
    """A classifier, channels-last, by SGD."""
    kind, arguments = preset_cifar10.CLASSIFIERS[args.name]
    with seeded(args.seed):
        model = kind(**arguments).to(memory_format=torch.channels_last)
    batches = preset_cifar10.batches(args)
    optimizer, triangle = preset_cifar10.sgd(model, args, args.epochs * len(batches))
    options = preset_cifar10.OBJECTIVES[args.name]
    objective = ClassifierObjective(model, **options)
    seconds = run_and_time([objective], batches, args, [args.epochs], [{"classifier": optimizer}], [triangle])
    paper = "arXiv:2202.01181" if "attack" in options else ""
    further = {"precision": args.precision, "sgd_rate": args.sgd_rate, "schedule": preset_cifar10.SCHEDULE, **options}
    made = {"module": model, "arguments": arguments, "paper": paper, "seconds": seconds}
    return made | {"further": further, "data": preset_cifar10.called(args.test)}


def make_rdp(args: argparse.Namespace) -> dict[str, Any]:
    """RDP, from scratch or from an earlier stage of it."""
    arguments = RDP_ARGUMENTS[args.name]
    features = FeatureExtractor(presets.load(args.features, args.folder), args.layer)
    with seeded(args.seed):
        purifier = RDP(**arguments)
        if args.start is not None:
            purifier.load_state_dict(presets.load(args.name, args.start).state_dict())
        objective = RDPObjective(
            purifier, features, weights=Weights(pixel=args.pixel), eps=radius(args), steps=args.steps,
            clean_share=args.clean_share,
        )  # fmt: skip
    arranged(args, objective)
    seconds = train(objective, args, peak=args.learning_rate)
    keys = ("learning_rate", "features", "layer", "pixel", "clean_share", "steps") if is_cifar10(args) else ()
    return purified(args, purifier, arguments, seconds, keys)


def make_dir(args: argparse.Namespace) -> dict[str, Any]:
    """Pre-training, then restoration."""
    target, arguments = presets.load(f"{family(args)}_robust", args.folder), DIR_ARGUMENTS[args.name]
    with seeded(args.seed):
        purifier = DIR(**arguments)
    arranged(args, target, purifier)
    attack = {"eps": radius(args), "steps": args.steps}
    error = {"pixel": args.squared_error, "per_mask": not args.fused_error}
    seconds = train_stages(
        [
            (DIRPretraining(purifier, target, **attack), args.pretraining_epochs, args.learning_rate),
            (DIRRestoration(purifier, target, **attack, alpha=args.alpha, **error), args.epochs, args.restoration_rate),
        ],
        args,
    )
    keys = ("pretraining_epochs", "learning_rate", "restoration_rate", "alpha", "squared_error", "fused_error")
    return purified(args, purifier, arguments, seconds, keys)


def make_atop(args: argparse.Namespace) -> dict[str, Any]:
    """RT2: a generator pre-trained on clean images, then (not "_pretrained") fine-tuned with FGSM examples."""
    classifier = presets.load({"cifar10": "cifar10_resnet"}.get(family(args), "fashion_mnist_cnn"), args.folder)
    arguments = ATOP_ARGUMENTS[family(args)]
    with seeded(args.seed):
        purifier = AToP(**arguments)
        first = AToPPretraining(purifier, adversarial=args.adversarial)
    arranged(args, classifier, first)
    game = {
        "eps": radius(args), "weight": args.weight, "adversarial": args.adversarial,
        "discriminator": first.discriminator,
    }  # fmt: skip
    plan: list[tuple[Objective, int, float]] = [(first, args.pretraining_epochs, args.learning_rate)]
    if not args.name.endswith("_pretrained"):
        rate = args.tuning_share * args.learning_rate
        plan.append((AToPFineTuning(purifier, classifier, **game), args.epochs, rate))
    seconds = train_stages(plan, args, beta=0.5)
    keys = ["pretraining_epochs", "learning_rate", "adversarial"] + ["tuning_share", "weight"] * (len(plan) - 1)
    made = purified(args, purifier, arguments, seconds, keys)
    made["further"] |= {"epochs": args.epochs if len(plan) > 1 else 0}  # the second stage's
    return made


def make_cdvae(args: argparse.Namespace) -> dict[str, Any]:
    """CD-VAE on clean images, then a classifier of its G(x), which becomes a preset of its own."""
    cifar10, arguments = is_cifar10(args), CDVAE_ARGUMENTS[args.name]
    kind, shape = preset_cifar10.RESNET if cifar10 else CLASSIFIERS["fashion_mnist_cnn"]
    with seeded(args.seed):
        purifier = CDVAE(**arguments)
        classifier = kind(**shape)
    arranged(args, purifier, classifier)
    seconds = train(CDVAETraining(purifier, gamma=args.gamma), args, peak=args.learning_rate)
    made = purified(args, purifier, arguments, seconds, ("gamma", "learning_rate"))
    name = f"{args.name}_classifier"
    run = argparse.Namespace(**{**vars(args), "name": name, "epochs": args.classifier_epochs})
    spent = train(ClassifierObjective(classifier, purifier=purifier), run, peak=2e-3)
    beside = {"module": classifier.eval(), "arguments": shape, "paper": "", "seconds": spent, "name": name}
    beside["further"] = {"epochs": args.classifier_epochs}
    return made | {"beside": beside | {k: made[k] for k in ("data",) if k in made}}


def make_drrdn(args: argparse.Namespace) -> dict[str, Any]:
    """DRRDN with the paper's SGD, in eps and size that of the robust classifier of its data.

    For CIFAR-10 the encoder starts from that classifier's, c_i moves by itself, and the paper's weights of Eqs. 6 to 8
    rise over the first third of the epochs; for Fashion-MNIST they are small.
    """
    kind, arguments = DRRDNS[args.name]
    weights, start = DRRDN_WEIGHTS[args.name], f"{family(args)}_robust"
    with seeded(args.seed):
        model = kind(**arguments)
    game = DRRDNObjective(model, eps=radius(args), steps=args.steps, weights=weights)
    game.learning_rate = args.sgd_rate
    further = {"sgd_rate": args.sgd_rate, "steps": args.steps, **weights}
    rise = []
    if is_cifar10(args):
        model.encoder.load_state_dict(headless(presets.load(start, args.folder)).state_dict())
        model.encoder.requires_grad_(True)
        arranged(args, model)
        game.domain_rate, game.weight_decay = 1e-3, 5e-4
        rise = [Rise(game, max(1, args.epochs // 3))]
        further |= {"start": start, "domain_rate": game.domain_rate, "rise_epochs": rise[0].total_steps}
    optimizers = {name: game.optimizer(name, p) for name, p in game.players().items()}
    seconds = train(game, args, peak=args.sgd_rate, optimizers=optimizers, schedulers=rise)
    model.eval().requires_grad_(False)
    made = {"module": model, "arguments": arguments, "seconds": seconds, "paper": "Yang et al., AAAI 2021"}
    if is_cifar10(args):
        made["data"] = preset_cifar10.called(args.test)
        further |= {"precision": args.precision}
    return made | {"further": further}


MAKERS = {
    **dict.fromkeys(CLASSIFIERS, make_classifier),
    "fashion_mnist_rdp": make_rdp,
    "cifar10_rdp": make_rdp,
    "fashion_mnist_dir": make_dir,
    "fashion_mnist_atop_pretrained": make_atop,
    "fashion_mnist_atop": make_atop,
    "fashion_mnist_cdvae": make_cdvae,
    "fashion_mnist_drrdn": make_drrdn,
    "cifar10_dir": make_dir,
    "cifar10_atop_pretrained": make_atop,
    "cifar10_atop": make_atop,
    "cifar10_cdvae": make_cdvae,
    "cifar10_drrdn": make_drrdn,
    **dict.fromkeys(preset_cifar10.CLASSIFIERS, make_cifar10),
}
