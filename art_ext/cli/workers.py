"""The workers of art-ext evaluate: they load models from the same words as the command itself."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from art_ext.cli import options
from art_ext.cli.users import Users

if TYPE_CHECKING:
    import torch

    from art_ext.data import Images
    from art_ext.evaluation import Attack, Defended, Threat
    from art_ext.evaluation.executors import Executor


@dataclass(frozen=True)
class Loaded:
    """Models and attacks, made anew from the words of the command.

    Attributes:
        specs: of classifier, surrogate and robust baseline.
        purifiers: as --purifier has them.
        method: of the purifiers' folders.
        images: a few, to try the models on.
        normal: mean and std.
        bare: no undefended classifier.
        suite: name of the suite.
        threat: norm and radius.
        attack: as --attack has them.
    """

    specs: dict[str, str | None]
    purifiers: Sequence[str]
    method: str | None
    images: Images
    normal: dict[str, Any]
    bare: bool
    suite: str
    threat: Threat
    attack: Sequence[str] | None

    def __call__(self, device: torch.device) -> tuple[list[Defended], Sequence[Attack]]:
        from art_ext.cli.evaluate import suite_of
        from art_ext.cli.evaluated import models_of

        normal = {**self.normal, "device": device}
        models, classes = models_of(
            self.specs, self.purifiers, self.method, self.images, normal, self.bare, Users()
        )  # fmt: skip
        return models, suite_of(self.suite, self.threat, classes, self.images.x.shape[1], self.attack).attacks


def executor_of(
    workers: int | None, name: str | None, slurm: Sequence[str] | None, load: Loaded
) -> Executor | None:  # fmt: skip
    """The executor of --workers, --executor and --slurm; None where none was given.

    Raises:
        ValueError: another name, or options that do not go together.
        ImportError: the library of an executor is not installed.
    """
    if slurm and name != "slurm":
        raise ValueError(f"expected --slurm with --executor slurm, got --executor {name or 'left out'}")
    if name is None and workers is None:
        return None
    from art_ext.evaluation.executors import Processes, given_executor

    made: Executor
    if name == "slurm":
        from art_ext.evaluation.executors.slurm import Slurm

        said = options.pairs(slurm or ())
        made = Slurm(workers or 8, said.pop("cluster", None), load, said)
    elif name is not None and name.startswith("ray"):
        from art_ext.evaluation.executors.ray import Ray

        made = Ray(_address(name), workers, load=load)
    elif name is not None:
        if name == "torchrun" and workers is not None:
            raise ValueError("expected --workers without --executor torchrun, which has its own number, got both")
        made = given_executor(name)
    else:
        assert workers is not None
        made = Processes(workers, load)
    return made


def _address(name: str) -> str | None:
    if name != "ray" and not name.startswith("ray://"):
        raise ValueError(f"expected --executor ray, ray://HOST:PORT, slurm or torchrun; got {name!r}")
    return None if name == "ray" else name


def is_follower() -> bool:
    """Whether torchrun started this process as another one than the first, which alone prints and writes."""
    return os.environ.get("RANK", "0") != "0" and "WORLD_SIZE" in os.environ
