"""The folder of a training, and the training in it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from rich.progress import Progress, TaskID

from art_ext.cli.display import progress
from art_ext.cli.memory import check_memory
from art_ext.cli.options import device_of, logger
from art_ext.cli.preparing import Job
from art_ext.cli.records import RECORD, json_object
from art_ext.cli.terminal import say
from art_ext.cli.trying import check_classifier
from art_ext.data import Images
from art_ext.data.augmentations import augmentation_of, check_augmentation
from art_ext.files import remove_stale, replacing
from art_ext.objectives.robustness import Robustness
from art_ext.plain import differences
from art_ext.training import (
    Batches,
    Callbacks,
    Objective,
    Row,
    Step,
    Validation,
    finalized,
    local_rank,
    made_logger,
    run,
    said,
)

STATE, LOGS = "training.pt", "logs"
VALIDATION_STEPS = 20
"""Of PGD on the images held out, as in `DRRDNTrainer`."""
SAVED_EVERY = 200
"""Most steps that a kill can cost."""


def claim(out: Path, record: dict[str, Any]) -> None:
    """Makes the folder this training's.

    Raises:
        ValueError: it holds something else, or another training.
    """
    known = out / RECORD
    if not known.exists():
        remove_stale(out, RECORD)  # of one that was killed as it began
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ValueError(f"expected --out to be new, empty, or of this training, got {out}")
        with replacing(known) as temporary:
            temporary.write_text(json.dumps(record, indent=1), "utf-8")
        return
    there = json_object(known)
    now = json.loads(json.dumps(record))
    differing = sorted(k for k in {*there, *now} if there.get(k) != now.get(k))
    if differing:
        values = {k: differences(there.get(k), now.get(k)) for k in differing}
        told = ", ".join(f"{k} ({text})" if text else k for k, text in values.items())
        raise ValueError(f"expected a new folder or the same training, got one of other {told} in {out}")


Split = tuple[Images, Validation | None]


def placed(text: str, devices: int) -> torch.device:
    """The device of this process: the one that --device names, or of several this process's own.

    Raises:
        ValueError: there is no such device, or one of several is named.
    """
    if devices > 1 and ":" in text:
        raise ValueError(f"expected --device cpu, cuda or auto with --devices {devices}, got {text!r}")
    device = device_of(text)
    several = devices > 1 or "TORCHELASTIC_RUN_ID" in os.environ
    return device_of(f"cuda:{local_rank()}") if several and text != "cpu" and device.type == "cuda" else device


@dataclass(frozen=True)
class How:
    """How a method is trained.

    Attributes:
        epochs: of each stage.
        batch_size: images a step.
        seed: of everything random.
        augment: of the images, as --augment says it.
        logger: of `art_ext.training.logs.KINDS`, None for none.
        validation_share: of the images that are held out.
        patience: see `art_ext.training.Validation`.

    Raises:
        ImportError: the logger's package is not there.
        ValueError: an unknown augmentation, or patience without a share.
    """

    epochs: int
    batch_size: int
    seed: int
    augment: str | None = None
    logger: str | None = None
    validation_share: float = 0.0
    patience: int | None = None

    def __post_init__(self) -> None:
        augmentation_of(self.augment)
        logger(self.logger)
        if self.patience is not None and not self.validation_share:
            raise ValueError(f"expected --patience only with --validation-share, got {self.patience}")

    def record(self, fabric: Fabric) -> dict[str, Any]:
        """What of it tells a training from another one, where it is not as usual."""
        precision, processes = str(fabric._precision.precision), fabric.world_size
        found: dict[str, Any] = {"batch_size": self.batch_size, "augment": self.augment, "patience": self.patience}
        found |= {"validation_share": self.validation_share or None, "processes": processes if processes > 1 else None}
        found["precision"] = None if precision == "32-true" else precision
        return {k: v for k, v in found.items() if v is not None}


def fit_stages(job: Job, split: Split, out: Path, how: How, fabric: Fabric) -> None:
    """Trains the stages in order, each from its checkpoint if there is one; the first process tells of it."""
    found, validation = split
    augment = augmentation_of(how.augment)
    batches = Batches(found.x, found.labels, batch_size=how.batch_size, seed=how.seed, augment=augment)
    if fabric.is_global_zero:
        check_memory(job.model, found.x[:1], how.batch_size, job.method.name)
    tracker = None if how.logger is None or not fabric.is_global_zero else made_logger(how.logger, out / LOGS)
    with progress("steps") as bar, finalized(tracker):
        run(
            job.stages, batches, epochs=how.epochs, seed=how.seed, checkpoint=out / STATE, validate=validation,
            every=min(SAVED_EVERY, len(batches)), fabric=fabric,
            logger=tracker, callbacks=_told(bar, job, out, how, len(batches)) if fabric.is_global_zero else Callbacks(),
        )  # fmt: skip


def _told(bar: Progress, job: Job, out: Path, how: How, batches: int) -> Callbacks:
    """What moves the bar, and prints a line an epoch."""
    tasks: dict[int, TaskID] = {}

    def begin(number: int, _: Objective) -> None:
        if (state := out / f"{STATE}.{number}").exists():
            say(f"going on from {state}")
        tasks[number] = bar.add_task(f"stage {number}/{len(job.stages)}", total=how.epochs * batches)

    def move(step: Step) -> None:
        bar.update(tasks[len(tasks)], completed=step.number)

    def tell(_: int, row: Row) -> None:
        bar.console.print(said(row, how.epochs), markup=False, soft_wrap=True)

    return Callbacks(begin, move, tell)


def split(job: Job, found: Images, how: How) -> Split:
    """The images to train with, and what is measured on those held out.

    Raises:
        ValueError: a share for a method that is no classifier, or none on one side, or images that the augmentation
            does not take.
    """
    seen = check_augmentation(augmentation_of(how.augment), found.x[:3])
    if how.augment is not None:
        network = job.model if job.network is None else job.network
        check_classifier(network, seen.to(next(job.model.parameters()).device), None, "the classifier of such images")
    if not how.validation_share:
        return found, None
    if job.method.purifies or found.labels is None:
        raise ValueError(
            f"expected --validation-share only for a classifier that is trained, got it for {job.method.name}"
        )
    count = round(how.validation_share * len(found.x))
    if not 0 < count < len(found.x):
        raise ValueError(
            f"expected --validation-share that leaves images on both sides, got {count} of {len(found.x)} held out"
        )
    order = torch.randperm(len(found.x), generator=torch.Generator().manual_seed(how.seed))
    held, rest = order[:count], order[count:]
    x, y = found.x[held], found.labels[held]
    objective: Any = job.stages[0]
    held_out = Robustness(objective, job.model, x, y, VALIDATION_STEPS, how.batch_size, how.seed)
    return replace(found, x=found.x[rest], labels=found.labels[rest]), held_out.kept(how.patience)
