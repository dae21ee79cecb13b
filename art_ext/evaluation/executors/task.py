"""What a worker is given, and how it travels: models by pickle from the driver to its own workers, images as a file."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any
from uuid import uuid4

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from art_ext.evaluation.backends import Attack
from art_ext.evaluation.blocks import BLOCK
from art_ext.evaluation.executors.unit import Load
from art_ext.evaluation.inspect import ModelInfo
from art_ext.evaluation.run.blockwise import Blocks, save_blocks
from art_ext.evaluation.settings import Settings
from art_ext.evaluation.targets import Defended
from art_ext.evaluation.threat import Threat

SENDABLE = "define it at the top level of an importable module, or give the executor a function that makes it (load=)"


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


def read_images(place: Path) -> tuple[Tensor, Tensor]:
    """The images and labels of `images_file`, on the CPU."""
    return load_file(place / "x")["x"], load_file(place / "y")["y"]
