"""CIFAR-10, plain or as two files hold it: all of it as JPEG of quality 75 to train on, a part of it exact.

Numbers got with the two files are not called plain CIFAR-10, see `called`. Besides, what the runs at the papers' size
share: stages that are resumed and end in time, and one JSON of all that they did.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import resource
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import ablations
import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from art_ext.data import Images, from_arrays, shift_and_flip
from art_ext.evaluation import Attack, Defended, Knowledge, Probe, Report, Threat, evaluate
from art_ext.files import replacing
from art_ext.training import Batches, Checkpoint, Objective, fit

BEGUN = time.perf_counter()

PLAIN = "cifar10.npz"


def called(folder: Path, n: int) -> str:
    """What numbers on the first n test images are numbers on."""
    if (folder / PLAIN).is_file():
        return f"CIFAR-10, first {n} test images"
    return f"CIFAR-10 (JPEG-75 training images, first {n} exact test images)"


def load(folder: Path, train: int | None = None, test: int | None = None) -> tuple[Images, Images]:
    """Training and test images, the first so many of each.

    Args:
        folder: holds the data set as `cifar10.npz` (`x_train`, `x_test`, uint8 (N, 32, 32, 3) or (N, 3, 32, 32),
            `y_train`, `y_test`); or `cifar10_jpeg75.npz` (`train_jpeg`, one blob, `train_offsets`, `y_train`) and
            `cifar10_exact.npz` (the arrays of the former, channels first).
        train: so many; of the two files JPEG images first, then exact ones. All unless given.
        test: so many; all unless given.

    Raises:
        ValueError: the folder has neither, or the arrays have another shape.
    """
    if (folder / PLAIN).is_file():
        with np.load(folder / PLAIN) as held:
            return _plain(held, "train", train), _plain(held, "test", test)
    missing = [f for f in ("cifar10_jpeg75.npz", "cifar10_exact.npz") if not (folder / f).is_file()]
    if missing:
        both = "cifar10_jpeg75.npz and cifar10_exact.npz"
        raise ValueError(f"expected {PLAIN}, or {both}, in {folder}, got no {', '.join(missing)}")
    with np.load(folder / "cifar10_jpeg75.npz") as packed:
        ends = packed["train_offsets"][: None if train is None else train + 1]
        y = packed["y_train"][: len(ends) - 1]
        x = _decoded(packed["train_jpeg"].tobytes(), ends)
    with np.load(folder / "cifar10_exact.npz") as exact:
        x, y = np.concatenate([x, exact["x_train"]]), np.concatenate([y, exact["y_train"]])
        x_test, y_test = exact["x_test"][:test], exact["y_test"][:test]
    labels = [a.astype(np.int64) for a in (y[:train], y_test)]
    return from_arrays(x[:train], labels[0], channels_first=True), from_arrays(x_test, labels[1], channels_first=True)


def _plain(held: Mapping[str, NDArray[np.uint8]], split: str, count: int | None) -> Images:
    x, y = held[f"x_{split}"][:count], held[f"y_{split}"][:count]
    if x.shape[1:] not in ((32, 32, 3), (3, 32, 32)):
        raise ValueError(f"expected x_{split} of shape (N, 32, 32, 3) or (N, 3, 32, 32), got {x.shape}")
    return from_arrays(x, y.reshape(-1).astype(np.int64), channels_first=x.shape[1] == 3)


def _decoded(blob: bytes, offsets: NDArray[np.integer]) -> NDArray[np.uint8]:
    """uint8 (N, 3, 32, 32) of JPEG files that lie one after the other."""
    pixels = [np.asarray(Image.open(io.BytesIO(blob[a:b])).convert("RGB")) for a, b in pairwise(offsets)]
    return np.stack(pixels).transpose(0, 3, 1, 2)


class OutOfTime(Exception):
    """A run that has to go on another time."""


def arguments(about_it: str | None, name: str) -> argparse.ArgumentParser:
    """The options that every run has."""
    parser = argparse.ArgumentParser(description=about_it, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of cifar10.npz, or of the two files")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="32-true", help="Fabric's: bf16-mixed, 32-true, ...")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--evaluation-batch", type=int, default=256)
    parser.add_argument("--train", type=int, help="training images, all unless given")
    parser.add_argument("--images", type=int, default=1000, help="test images")
    parser.add_argument("--strong-images", type=int, default=512, help="for attacks that average over draws")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, help="stop in time, to go on another day")
    parser.add_argument("--quick", action="store_true", help="few attack steps, no AutoAttack")
    parser.add_argument("--runs", type=Path, default=Path(f"runs/{name}"), help="checkpoints and examples")
    parser.add_argument("--out", type=Path, default=Path(f"results/{name}.json"))
    return parser


def main(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], dict[str, Any]]) -> None:
    """Runs, and saves and prints what came out unless time did."""
    args = parser.parse_args()
    args.runs.mkdir(parents=True, exist_ok=True)
    try:
        found = run(args)
    except OutOfTime as late:
        print(late)
        return
    ablations.save(found, args.out)
    for name, report in found["reports"].items():
        print(f"{name}, {found['data']}\n\n{Report.from_json(json.dumps(report)).markdown()}")


def train(
    name: str, objective: Objective, optimizers: Mapping[str, torch.optim.Optimizer], epochs: int,
    falls: Sequence[int], data: Images, args: argparse.Namespace,
) -> dict[str, Any]:  # fmt: skip
    """A stage from its checkpoint on, the rate a tenth after each of `falls` epochs; gives what the schedule was.

    Raises:
        OutOfTime: `--minutes` have gone since the process began; at most a quarter of an epoch is to be done again.
    """
    batches = Batches(data.x, data.y, batch_size=args.batch_size, seed=args.seed, augment=shift_and_flip(4))
    steps_in_all = epochs * len(batches)
    schedulers = [torch.optim.lr_scheduler.MultiStepLR(o, falls) for o in optimizers.values()]
    steps = fit(
        objective, batches, epochs=epochs, seed=args.seed, optimizers=optimizers, schedulers=schedulers,
        checkpoint=Checkpoint(args.runs / f"{name}.pt", every=max(1, len(batches) // 4)),
        fabric=Fabric(accelerator=args.device, devices=1, precision=args.precision),
    )  # fmt: skip
    log = args.runs / f"{name}.json"
    seconds: dict[str, float] = json.loads(log.read_text("utf-8")) if log.is_file() else {}
    start = shown = time.perf_counter()
    for step in steps:
        if time.perf_counter() - shown > 20 or step.number % len(batches) == 0:
            shown = time.perf_counter()
            terms = ", ".join(f"{k} {v:.3f}" for k, v in step.terms.items())
            print(f"{name}: step {step.number} of {steps_in_all}, {terms}, {memory()}", flush=True)
        if step.number % len(batches) == 0:
            seconds[str(step.epoch)] = round(time.perf_counter() - start, 1)  # of a resumed epoch, what was left
            start = time.perf_counter()
            with replacing(log) as temporary:
                temporary.write_text(json.dumps(seconds), "utf-8")
        late = args.minutes is not None and time.perf_counter() - BEGUN > 60 * args.minutes
        if late and step.number < steps_in_all:
            raise OutOfTime(f"{name}: {step.number} of {steps_in_all} steps; run again to go on")
    objective.eval()
    return {"epochs": epochs, "steps": steps_in_all, "falls": list(falls), "seconds_by_epoch": seconds}


def measure(
    parts: Mapping[str, tuple[Sequence[Attack], int]], models: Sequence[Defended], knowledge: Sequence[Knowledge],
    eps: float, test: Images, args: argparse.Namespace, *, norm: str = "Linf", crossed: Collection[str] = (),
) -> dict[str, Report]:  # fmt: skip
    """A report a part: its attacks on the first so many test images, EOT over 20 draws; sweeps for the last alone.

    Examples of the parts in `crossed` are tried on every other model too.
    """
    reports = {}
    for part, (attacks, images) in parts.items():
        x, y = test.x[:images].to(args.device), _labels(test)[:images].to(args.device)
        probe = (Probe(4, 2) if args.quick else Probe()) if part == [*parts][-1] else None
        reports[part] = evaluate(
            models, attacks, x, y, threat=Threat(norm, eps), knowledge=knowledge, eot_samples=2 if args.quick else 20,
            average="gradients", repeats=10, batch_size=args.evaluation_batch, probe=probe, folder=args.runs / part,
            data={"name": called(args.data, images)}, cross=part in crossed,
        )  # fmt: skip
    return reports


def _labels(test: Images) -> torch.Tensor:
    assert test.y is not None
    return test.y


def memory() -> str:
    """The most that the device, or without one the process, has held."""
    if torch.cuda.is_available():
        return f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB on the device"
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB in the process"


def about(
    args: argparse.Namespace, data: Images, schedule: Mapping[str, Any], networks: Mapping[str, nn.Module],
    reports: Mapping[str, Report],
) -> dict[str, Any]:  # fmt: skip
    """Everything about a run, for its JSON."""
    return {
        "data": called(args.data, args.images),
        "training_images": len(data.x),
        "parameters": {k: sum(p.numel() for p in network.parameters()) for k, network in networks.items()},
        "schedule": dict(schedule),
        "memory": memory(),
        "hardware": torch.cuda.get_device_name() if args.device == "cuda" else platform.processor() or "cpu",
        **ablations.stated(vars(args)),
        "reports": {k: json.loads(r.to_json()) for k, r in reports.items()},
    }
