"""How `make_presets.py` trains each preset: networks, objectives and schedules."""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any

import preset_cifar10
import torch
from lightning_fabric import Fabric
from preset_measures import EPS
from tqdm import tqdm

from art_ext import presets
from art_ext.classifiers import VGG, ClassifierObjective, ResNet18, SmallCNN, SmallDRRDN
from art_ext.classifiers.drrdn import DRRDNObjective
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
from art_ext.training import Batches, Checkpoint, Objective, fit

CLASSIFIERS: dict[str, Any] = {
    "fashion_mnist_cnn": (SmallCNN, {"channels": 1, "classes": 10, "width": 16}),
    "fashion_mnist_surrogate": (ResNet18, {"channels": 1, "classes": 10, "width": 8}),
    "fashion_mnist_vgg": (VGG, {"channels": 1, "classes": 10, "width": 16}),
    "fashion_mnist_robust": (SmallCNN, {"channels": 1, "classes": 10, "width": 16}),
}
CDVAE_ARGUMENTS = {
    "channels": 1, "size": 28, "width": 16, "latent": 128, "classifier_width": 16, "mean": [0.286], "std": [0.353]
}  # fmt: skip
DIR_ARGUMENTS = {"channels": 1, "patch": 4, "width": 48, "heads": 3, "depth": 3, "decoder_depth": 1}
DRRDN_ARGUMENTS = {"channels": 1, "classes": 10, "width": 16}
DRRDN_WEIGHTS = {"domain": 0.1, "adversarial": 0.05, "entropy": 0.1}
ATOP_ARGUMENTS = {"channels": 1, "width": 8, "dilations": [1, 2, 1]}
RDP_ARGUMENTS = {
    "fashion_mnist_rdp": {"channels": 1, "width": 24, "blocks": 8, "block": "residual", "fold": 2},
    "cifar10_rdp": {"channels": 3, "width": 48, "blocks": 8, "block": "residual", "fold": 2},
}  # fmt: skip


def train(
    objective: Objective, args: argparse.Namespace, peak: float, beta: float = 0.9, optimizers: Any = None
) -> float:
    """Trains with Adam (its first beta) or what is given, rates falling by a cosine; gives the seconds it took."""
    batches = preset_cifar10.batches(args) if is_cifar10(args) else fashion_batches(args)
    if optimizers is None:
        optimizers = {k: torch.optim.Adam(p, lr=peak, betas=(beta, 0.999)) for k, p in objective.players().items()}
    cosine = partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=args.epochs, eta_min=peak / 50)
    return fit_and_time(objective, batches, args, optimizers, [cosine(o) for o in optimizers.values()])


def is_cifar10(args: argparse.Namespace) -> bool:
    """Whether the preset is one for CIFAR-10."""
    return bool(args.name.startswith("cifar10"))


def fashion_batches(args: argparse.Namespace) -> Batches:
    """The training images that ship, shifted by up to 2 pixels and mirrored."""
    data = fashion_mnist("train", args.images)
    return Batches(data.x, data.y, batch_size=args.batch_size, seed=args.seed, augment=shift_and_flip(2))


def fit_and_time(
    objective: Objective, batches: Batches, args: argparse.Namespace, optimizers: Any, schedulers: Any
) -> float:
    """Trains, from the checkpoint on if there is one; gives the seconds it took in all."""
    checkpoint = Checkpoint(Path(args.runs) / f"{args.name}.pt", every=len(batches))
    precision: Any = {"32": "32-true", "bf16": "bf16-mixed"}[args.precision]
    steps = fit(
        objective, batches, epochs=args.epochs, seed=args.seed, optimizers=optimizers, schedulers=schedulers,
        checkpoint=checkpoint, fabric=Fabric(accelerator="cpu", devices=1, precision=precision),
    )  # fmt: skip
    clock = Path(args.runs) / f"{args.name}.seconds"  # of a killed run too
    resumed = Path(checkpoint.path).is_file()
    if resumed and not clock.is_file():
        raise ValueError(f"expected {clock} beside the checkpoint, which says how long it took, got no such file")
    spent = float(clock.read_text("utf-8")) if resumed else 0.0
    start = time.perf_counter()
    bar = tqdm(total=args.epochs * len(batches), desc=args.name, mininterval=5)
    for step in steps:
        bar.n = step.number
        bar.set_postfix({k.split("/")[1][:12]: f"{v:.4f}" for k, v in step.terms.items()}, refresh=False)
        bar.update(0)
        if step.number % len(batches) == 0:
            with replacing(clock) as temporary:
                temporary.write_text(str(spent + time.perf_counter() - start), "utf-8")
    bar.close()
    return float(clock.read_text("utf-8"))


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
    seconds = fit_and_time(objective, batches, args, {"classifier": optimizer}, [triangle])
    half = preset_cifar10.halved(model.eval(), preset_cifar10.test_images(args.data, args.test).x)
    paper = "arXiv:2202.01181" if "attack" in options else ""
    further = {"precision": args.precision, "sgd_rate": args.sgd_rate, "schedule": preset_cifar10.SCHEDULE, **options}
    made = {"module": model, "arguments": arguments, "paper": paper, "seconds": seconds, "half": half}
    return made | {"further": further, "data": preset_cifar10.called(args.test)}


def make_rdp(args: argparse.Namespace) -> dict[str, Any]:
    """RDP, from scratch or from an earlier stage of it; channels-last for CIFAR-10."""
    cifar10, arguments = is_cifar10(args), RDP_ARGUMENTS[args.name]
    features = FeatureExtractor(presets.load(args.features, args.folder), args.layer)
    with seeded(args.seed):
        purifier = RDP(**arguments)  # type: ignore[arg-type]
        if args.start is not None:
            purifier.load_state_dict(presets.load(args.name, args.start).state_dict())
        objective = RDPObjective(
            purifier, features, weights=Weights(pixel=args.pixel), eps=preset_cifar10.EPS if cifar10 else EPS,
            steps=args.steps, clean_share=args.clean_share,
        )  # fmt: skip
    if cifar10:
        objective.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    seconds = train(objective, args, peak=args.learning_rate)
    purifier.eval().requires_grad_(False)
    made: dict[str, Any] = {"module": purifier, "arguments": arguments, "paper": RDP.paper, "seconds": seconds}
    if not cifar10:
        return made
    keys = ("precision", "learning_rate", "features", "layer", "pixel", "clean_share", "steps")
    return made | {"further": {k: getattr(args, k) for k in keys}, "data": preset_cifar10.called(args.test)}


def make_dir(args: argparse.Namespace) -> dict[str, Any]:
    """Pre-training, then restoration."""
    target = presets.load("fashion_mnist_robust")
    with seeded(args.seed):
        purifier = DIR(**DIR_ARGUMENTS)  # type: ignore[arg-type]
    plan = (
        (DIRPretraining, args.pretraining_epochs, args.learning_rate),
        (DIRRestoration, args.epochs, args.restoration_rate),
    )
    seconds = 0.0
    for stage, epochs, peak in plan:
        run = argparse.Namespace(**{**vars(args), "name": f"{args.name}.{stage.__name__}", "epochs": epochs})
        extra = {"pixel": args.squared_error} if stage is DIRRestoration else {}
        seconds += train(stage(purifier, target, eps=EPS, steps=args.steps, **extra), run, peak=peak)
    purifier.eval().requires_grad_(False)
    further = {
        k: getattr(args, k) for k in ("pretraining_epochs", "learning_rate", "restoration_rate", "squared_error")
    }
    made = {"module": purifier, "arguments": DIR_ARGUMENTS, "paper": DIR.paper, "seconds": seconds}
    return made | {"further": further}


def make_atop(args: argparse.Namespace) -> dict[str, Any]:
    """RT2: a generator pre-trained on clean images, then (not "_pretrained") fine-tuned with FGSM examples."""
    classifier = presets.load("fashion_mnist_cnn")
    with seeded(args.seed):
        purifier = AToP(**ATOP_ARGUMENTS)  # type: ignore[arg-type]
        first = AToPPretraining(purifier, adversarial=args.adversarial)
    game = {"eps": EPS, "weight": args.weight, "adversarial": args.adversarial, "discriminator": first.discriminator}
    plan = [(first, args.pretraining_epochs, args.learning_rate)]
    if not args.name.endswith("_pretrained"):
        rate = args.tuning_share * args.learning_rate
        plan.append((AToPFineTuning(purifier, classifier, **game), args.epochs, rate))
    seconds = 0.0
    for stage, epochs, peak in plan:
        run = argparse.Namespace(**{**vars(args), "name": f"{args.name}.{type(stage).__name__}", "epochs": epochs})
        seconds += train(stage, run, peak=peak, beta=0.5)
    purifier.eval().requires_grad_(False)
    keys = ["pretraining_epochs", "learning_rate", "adversarial"] + ["tuning_share", "weight"] * (len(plan) - 1)
    further = {k: getattr(args, k) for k in keys} | {
        "epochs": args.epochs if len(plan) > 1 else 0
    }  # the second stage's
    made = {"module": purifier, "arguments": ATOP_ARGUMENTS, "paper": AToP.paper, "seconds": seconds}
    return made | {"further": further}


def make_cdvae(args: argparse.Namespace) -> dict[str, Any]:
    """CD-VAE on clean images, then a classifier of its G(x), which becomes a preset of its own."""
    with seeded(args.seed):
        purifier = CDVAE(**CDVAE_ARGUMENTS)  # type: ignore[arg-type]
        kind, arguments = CLASSIFIERS["fashion_mnist_cnn"]
        classifier = kind(**arguments)
    seconds = train(CDVAETraining(purifier, gamma=args.gamma), args, peak=args.learning_rate)
    purifier.eval().requires_grad_(False)
    name = f"{args.name}_classifier"
    run = argparse.Namespace(**{**vars(args), "name": name, "epochs": args.classifier_epochs})
    spent = train(ClassifierObjective(classifier, purifier=purifier), run, peak=2e-3)
    beside = {"module": classifier.eval(), "arguments": arguments, "paper": "", "seconds": spent}
    beside |= {"name": name, "further": {"epochs": args.classifier_epochs}}
    further = {k: getattr(args, k) for k in ("gamma", "learning_rate")}
    made = {"module": purifier, "arguments": CDVAE_ARGUMENTS, "paper": CDVAE.paper, "seconds": seconds}
    return made | {"further": further, "beside": beside}


def make_drrdn(args: argparse.Namespace) -> dict[str, Any]:
    """DRRDN with the paper's SGD, in eps and size that of fashion_mnist_robust, and small weights of Eqs. 6 to 8."""
    with seeded(args.seed):
        model = SmallDRRDN(**DRRDN_ARGUMENTS)
    game = DRRDNObjective(model, eps=EPS, steps=args.steps, weights=DRRDN_WEIGHTS)
    game.learning_rate = args.sgd_rate
    optimizers = {name: game.optimizer(name, p) for name, p in game.players().items()}
    seconds = train(game, args, peak=args.sgd_rate, optimizers=optimizers)
    made = {"module": model.eval().requires_grad_(False), "arguments": DRRDN_ARGUMENTS, "seconds": seconds}
    return made | {
        "paper": "Yang et al., AAAI 2021",
        "further": {"sgd_rate": args.sgd_rate, "steps": args.steps, **DRRDN_WEIGHTS},
    }


MAKERS = {
    **dict.fromkeys(CLASSIFIERS, make_classifier),
    "fashion_mnist_rdp": make_rdp,
    "cifar10_rdp": make_rdp,
    "fashion_mnist_dir": make_dir,
    "fashion_mnist_atop_pretrained": make_atop,
    "fashion_mnist_atop": make_atop,
    "fashion_mnist_cdvae": make_cdvae,
    "fashion_mnist_drrdn": make_drrdn,
    **dict.fromkeys(preset_cifar10.CLASSIFIERS, make_cifar10),
}
