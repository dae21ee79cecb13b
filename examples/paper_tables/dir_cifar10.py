r"""DIR at the paper's size on CIFAR-10: target, pre-training, restoration, and the paper's table.

    python examples/paper_tables/dir_cifar10.py --data FOLDER --device cuda --precision bf16-mixed
    python examples/paper_tables/dir_cifar10.py --data FOLDER --target-epochs 1 --pretraining-epochs 1 --epochs 1 \
        --train 256 --images 16 --width 24 --depth 1 --decoder-depth 1 --target-width 8 --quick

FOLDER holds what `cifar10.load` reads. Each stage is resumed from its checkpoint, so a run may be killed at any time,
and `--minutes` ends one before its time is up. The JSON holds the schedule that really ran, its seconds, and memory.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import time
from pathlib import Path
from typing import Any

import ablations
import cifar10
import dir_fashion_mnist as table
import torch
from lightning_fabric import Fabric
from torch import nn

from art_ext.attacks import Linf
from art_ext.classifiers import ClassifierObjective, ResNet18
from art_ext.data import Images, shift_and_flip
from art_ext.evaluation import Defended, Probe, Report, Threat, evaluate
from art_ext.nn import seeded
from art_ext.purifiers import DIR
from art_ext.purifiers.dir import DIRPretraining, DIRRestoration
from art_ext.training import Batches, Checkpoint, Objective, fit, replacing

EPS, STEP = 8 / 255, 2 / 255


class OutOfTime(Exception):
    """A run that has to go on another time."""


def stages(purifier: DIR, target: nn.Module, args: argparse.Namespace) -> dict[str, tuple[Objective, int]]:
    """Objective and epochs of each stage, with the paper's attack: PGD-5 at 8/255 in steps of 2/255."""
    attack: dict[str, Any] = {"eps": EPS, "steps": 5, "step_size": STEP, "norm": Linf()}
    restoration = DIRRestoration(purifier, target, **attack, joint=args.joint)
    return {
        "target": (ClassifierObjective(target, **attack), args.target_epochs),
        "pretraining": (DIRPretraining(purifier, target, **attack), args.pretraining_epochs),
        "restoration": (restoration, args.epochs),
    }


def train(name: str, objective: Objective, epochs: int, data: Images, args: argparse.Namespace) -> dict[str, Any]:
    """A stage with the paper's optimiser; the rate falls to a tenth after 5/6 of the epochs (the paper: 75 of 90)."""
    batches = Batches(data.x, data.y, batch_size=args.batch_size, seed=args.seed, augment=shift_and_flip(4))
    players = objective.players()
    optimizers = {player: objective.optimizer(player, parameters) for player, parameters in players.items()}
    if name == "target":
        optimizers = {k: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=2e-4) for k, p in players.items()}
    falls = max(1, 5 * epochs // 6)
    schedulers = [torch.optim.lr_scheduler.StepLR(o, falls) for o in optimizers.values() if name != "pretraining"]
    fabric = Fabric(accelerator=args.device, devices=1, precision=args.precision)
    checkpoint = Checkpoint(args.runs / f"{name}.pt", every=max(1, len(batches) // 4))
    steps = fit(
        objective, batches, epochs=epochs, seed=args.seed, optimizers=optimizers, schedulers=schedulers,
        checkpoint=checkpoint, fabric=fabric,
    )  # fmt: skip
    log = args.runs / f"{name}.json"
    seconds: dict[str, float] = json.loads(log.read_text("utf-8")) if log.is_file() else {}
    start, shown = time.perf_counter(), 0.0
    for step in steps:
        if time.perf_counter() - shown > 20 or step.number % len(batches) == 0:
            shown = time.perf_counter()
            terms = ", ".join(f"{k} {v:.3f}" for k, v in step.terms.items())
            print(f"{name}: step {step.number} of {epochs * len(batches)}, {terms}, {memory()}", flush=True)
        if step.number % len(batches) == 0:
            seconds[str(step.epoch)] = round(time.perf_counter() - start, 1)  # of a resumed epoch, what was left
            start = time.perf_counter()
            with replacing(log) as temporary:
                temporary.write_text(json.dumps(seconds), "utf-8")
        # A step that ends the minutes is lost with the steps since the last checkpoint, which is a quarter of an epoch.
        late = args.minutes is not None and time.perf_counter() - args.begun > 60 * args.minutes
        if late and step.number < epochs * len(batches):
            raise OutOfTime(f"{name}: {step.number} of {epochs * len(batches)} steps; run again to go on")
    objective.eval()
    return {"epochs": epochs, "steps": epochs * len(batches), "seconds_by_epoch": seconds}


def memory() -> str:
    """The most that the device, or without one the process, has held."""
    if torch.cuda.is_available():
        return f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB on the device"
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB in the process"


def measure(target: nn.Module, purifier: DIR, test: Images, args: argparse.Namespace) -> dict[str, Report]:
    """The parts of the Fashion-MNIST table for these models, the strong one on fewer images."""
    alone, defended = Defended(table.TARGET, target, robust=True), Defended(table.DEFENDED, target, purifier)
    parts = {
        "paper": (table.paper_attacks(EPS, args.quick), args.images, None),
        "strong": (table.strong_attacks(EPS, args.quick), args.strong_images, Probe(4, 2) if args.quick else Probe()),
    }
    reports = {}
    for part, (attacks, images, probe) in parts.items():
        x, y = test.x[:images].to(args.device), test.y[:images].to(args.device)  # type: ignore[index]
        reports[part] = evaluate(
            [alone, defended], attacks, x, y, threat=Threat("Linf", EPS), knowledge=table.BPDA + table.FULL + table.OWN,
            draws=2 if args.quick else 20, average="gradients", redraws=10, batch_size=args.evaluation_batch,
            probe=probe, folder=args.runs / part, data={"name": cifar10.NAME.format(n=images)},
        )  # fmt: skip
    return reports


def run(args: argparse.Namespace) -> dict[str, Any]:
    data, test = cifar10.load(args.data, args.train, args.images)
    with seeded(args.seed):
        target = ResNet18(3, 10, args.target_width).to(args.device)
        purifier = DIR(3, args.patch, args.width, args.heads, args.depth, args.decoder_depth).to(args.device)
    schedule = {}
    for name, (objective, epochs) in stages(purifier, target, args).items():
        schedule[name] = train(name, objective, epochs, data, args)
    reports = measure(target.eval(), purifier.eval().requires_grad_(False), test, args)
    about = {
        "data": cifar10.NAME.format(n=args.images),
        "training_images": len(data.x),
        "parameters": {"target": _size(target), "purifier": _size(purifier)},
        "schedule": schedule,
        "memory": memory(),
        "hardware": torch.cuda.get_device_name() if args.device == "cuda" else platform.processor() or "cpu",
    }
    return {
        **about,
        **ablations.stated(vars(args)),
        "reports": {k: json.loads(r.to_json()) for k, r in reports.items()},
    }


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data, see cifar10.py")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="32-true", help="Fabric's: bf16-mixed, 32-true, ...")
    parser.add_argument("--target-epochs", type=int, default=90)
    parser.add_argument("--pretraining-epochs", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=90, help="of the restoration")
    parser.add_argument("--joint", action="store_true", help="train the target with the purifier, as the code does")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--evaluation-batch", type=int, default=256)
    parser.add_argument("--train", type=int, help="training images, all 58,068 unless given")
    parser.add_argument("--images", type=int, default=1000, help="test images")
    parser.add_argument("--strong-images", type=int, default=512, help="for attacks that average over masks")
    parser.add_argument("--target-width", type=int, default=64)
    parser.add_argument("--patch", type=int, default=2)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--heads", type=int, default=3)
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--decoder-depth", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, help="stop in time, to go on another day")
    parser.add_argument("--quick", action="store_true", help="few attack steps, no AutoAttack")
    parser.add_argument("--runs", type=Path, default=Path("runs/dir_cifar10"), help="checkpoints and examples")
    parser.add_argument("--out", type=Path, default=Path("results/dir_cifar10.json"))
    args = parser.parse_args()
    args.begun = time.perf_counter()
    args.runs.mkdir(parents=True, exist_ok=True)
    try:
        found = run(args)
    except OutOfTime as late:
        print(late)
        return
    del found["options"]["begun"]
    ablations.save(found, args.out)
    for name, report in found["reports"].items():
        print(f"{name}, {found['data']}\n\n{Report.from_json(json.dumps(report)).markdown()}")


if __name__ == "__main__":
    main()
