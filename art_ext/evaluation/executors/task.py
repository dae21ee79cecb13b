"""What a worker is given, and how it travels: models by pickle from the driver to its own workers, images as a file."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import rmtree
from typing import Any, Protocol
from uuid import uuid4

import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from art_ext.evaluation.backends import Attack
from art_ext.evaluation.blocks import BLOCK
from art_ext.evaluation.executors.unit import Done, Load, Unit
from art_ext.evaluation.inspect import ModelInfo
from art_ext.evaluation.run import Runner
from art_ext.evaluation.run.blockwise import Blocks, save_blocks
from art_ext.evaluation.run.manifest import PLAN
from art_ext.evaluation.settings import Settings
from art_ext.evaluation.targets import Defended
from art_ext.evaluation.threat import Threat

SENDABLE = "define it at the top level of an importable module, or give the executor a function that makes it (load=)"


Images = tuple[NDArray[Any], NDArray[Any]]
"""x (N, C, H, W) and y (N,)."""


class Makes(Protocol):
    """What has become of a task in a worker."""

    def do(self, unit: Unit) -> Done:
        """Makes a unit."""
        ...


class Sent(Protocol):
    """What an executor takes to its workers by pickle: an evaluation, or anything else that is made of units."""

    @property
    def folder(self) -> Path:
        """Where results go, on a disk that the driver sees."""
        ...

    @property
    def device(self) -> str:
        """Type of the device that workers need."""
        ...

    def on_disk(self, runner: Any) -> AbstractContextManager[Sent]:
        """The task for workers that see the folder, for the time of the work."""
        ...

    def in_memory(self, runner: Any) -> Images | None:
        """What workers that may not see the folder are sent once, beside the task."""
        ...

    def seen(self) -> bool:
        """Whether this process sees the driver's folder."""
        ...

    def worker(self, threads: int, images: Images | None = None) -> Makes:
        """What makes units in this process.

        Raises:
            ValueError: this process is no fit worker, and why.
        """
        ...


@dataclass(frozen=True)
class Task:
    """An evaluation as a worker needs it.

    Attributes:
        sent: models and attacks, see `packed`.
        threat: norm and radius.
        settings: as they were asked for.
        made: as they are run on this kind of device.
        shard: which blocks are made at all.
        found: what the driver found of each model.
        call: manifest of the driver: what a worker's own must be equal to.
        folder: that pieces go to.
        images: folder of x and y; empty where this process has them.
        load: makes models and attacks in the worker, where they were not sent.
    """

    sent: bytes
    threat: Threat
    settings: Settings
    made: Settings
    shard: tuple[int, int]
    found: Mapping[str, ModelInfo]
    call: Mapping[str, Any]
    folder: Path
    images: Path = Path()
    load: Load | None = None

    @property
    def device(self) -> str:
        """Type of the device that workers need."""
        return str(self.call["device"])

    @contextmanager
    def on_disk(self, runner: Runner) -> Iterator[Task]:
        """The task with the driver's images in its folder, for workers that see it."""
        with images_file(self.folder, runner.x, runner.y) as file:
            yield replace(self, images=file)

    def in_memory(self, runner: Runner) -> Images:
        """The driver's images as arrays, for workers that are sent them."""
        return runner.x.cpu().numpy(), runner.y.cpu().numpy()

    def seen(self) -> bool:
        """Whether this process sees the driver's folder."""
        plan = self.folder / PLAN
        return plan.is_file() and json.loads(plan.read_text("utf-8")) == self.call

    def worker(self, threads: int, images: Images | None = None) -> Makes:
        """What makes units in this process, see `Worker`."""
        from art_ext.evaluation.executors.worker import Worker

        return Worker(self, threads, images=None if images is None else arrays(images))

    def things(self, device: torch.device) -> tuple[Sequence[Defended], Sequence[Attack]]:
        """Models and attacks of a worker."""
        if self.load is not None:
            return self.load(device)
        models, attacks = torch.load(io.BytesIO(self.sent), map_location=_first_device, weights_only=False)
        return models, attacks


def _first_device(storage: Any, location: str) -> Any:
    """Of the driver's kind, the first one that this process sees."""
    return storage.cuda(0) if location.startswith("cuda") else storage


def packed(models: Sequence[Defended], attacks: Sequence[Attack], load: Load | None, pickler: Any = pickle) -> bytes:
    """Models and attacks as they are now, for workers of this driver alone; nothing where `load` makes them there.

    Args:
        models: to send.
        attacks: to send.
        load: makes them in the worker.
        pickler: the module `pickle`, or `cloudpickle`, which takes classes of a script and lambdas, too.

    Raises:
        TypeError: a model, an attack or `load` that cannot be pickled, by name.
    """
    if load is not None:
        _saved("load", load, pickler)
        return b""
    for name, thing in [*((f"model {m.name!r}", m) for m in models), *((f"attack {a.title!r}", a) for a in attacks)]:
        _saved(name, thing, pickler)
    return _saved("models and attacks", (list(models), list(attacks)), pickler)


def _saved(name: str, thing: Any, pickler: Any) -> bytes:
    stream = io.BytesIO()
    try:
        torch.save(thing, stream, pickle_module=pickler)
    except Exception as error:  # whatever somebody's class raises
        said = f"{type(error).__name__}: {error}"
        raise TypeError(f"expected {name} as something that workers can be sent, got {said}: {SENDABLE}") from error
    return stream.getvalue()


@contextmanager
def images_file(folder: Path, x: Tensor, y: Tensor) -> Iterator[Path]:
    """A folder of x and y for the time of the work; workers read it without holding it in memory."""
    place = folder / f"images-{uuid4().hex}"
    place.mkdir()
    try:
        save_blocks({"x": Blocks(tuple(x.shape), iter(x.split(BLOCK)))}, place / "x")
        save_file({"y": y.cpu().contiguous()}, place / "y")
        yield place
    finally:
        rmtree(place, ignore_errors=True)


def arrays(images: Images) -> tuple[Tensor, Tensor]:
    """Images and labels as tensors of their own."""
    return torch.from_numpy(images[0].copy()), torch.from_numpy(images[1].copy())


def read_images(place: Path) -> tuple[Tensor, Tensor]:
    """The images and labels of `images_file`, on the CPU."""
    return load_file(place / "x")["x"], load_file(place / "y")["y"]
