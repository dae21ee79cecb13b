"""What an experiment is made of: networks and recipes, models, parts, tables, and a paper's tables and figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from art_ext.evaluation import Attack, Knowledge, Probe, Threat
from art_ext.training import Objective

if TYPE_CHECKING:
    from experiments.lab import Lab

Nets = Callable[[str], Any]
"""Gives a network of the experiment by name, trained, frozen, in eval mode; whoever changes it copies it first."""
SCALES = ("small", "paper")
BLIND, TRANSFER, BPDA = (Knowledge.BLIND,), (Knowledge.TRANSFER,), (Knowledge.BPDA,)
FULL, ADAPTIVE = (Knowledge.FULL,), (Knowledge.ADAPTIVE,)


def adam(rate: float, betas: tuple[float, float] = (0.9, 0.999)) -> Callable[[Objective], dict[str, Any]]:
    """Adam for every player."""
    return lambda o: {k: torch.optim.Adam(p, lr=rate, betas=betas) for k, p in o.players().items()}


def sgd(rate: float, decay: float, momentum: float = 0.9) -> Callable[[Objective], dict[str, Any]]:
    """SGD with momentum for every player."""
    return lambda o: {k: torch.optim.SGD(p, rate, momentum, weight_decay=decay) for k, p in o.players().items()}


def own(objective: Objective) -> dict[str, Any]:
    """The optimisers that the paper gives the players."""
    return {k: objective.optimizer(k, p) for k, p in objective.players().items()}


def cosine(least: float = 0.02) -> Callable[[Any, int], Any]:
    """From the rate to a share of it over the training, epoch by epoch."""
    return lambda o, epochs: torch.optim.lr_scheduler.CosineAnnealingLR(o, epochs, o.param_groups[0]["lr"] * least)


def falling(*shares: float) -> Callable[[Any, int], Any]:
    """A tenth of the rate after each of these shares of the epochs."""
    return lambda o, epochs: torch.optim.lr_scheduler.MultiStepLR(o, [max(1, round(s * epochs)) for s in shares])


FROM_SCRATCH, BY_COSINE = adam(1e-3), cosine()


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        epochs: passes over the images.
        optimizers: of an objective, by player.
        schedule: of an optimiser and the epochs, stepped at the end of each epoch.
        images: the first so many training images, all unless given.
        batch: images a step.
        more: further schedulers of the objective, such as the curriculum of a loss.
        pace: shares of the training in which the rates and the attack's radius rise, see `lab.Paced`.
    """

    epochs: int
    optimizers: Callable[[Objective], Mapping[str, Any]] = FROM_SCRATCH
    schedule: Callable[[Any, int], Any] | None = BY_COSINE
    images: int | None = None
    batch: int = 64
    more: Callable[[Any], Sequence[Any]] = lambda _: ()
    pace: tuple[float, float] | None = None


@dataclass(frozen=True)
class Network:
    """A network: how it is made, and how it is trained unless it comes with its weights.

    Attributes:
        make: the network before its training, from others.
        objective: of that network, what is minimised; None for nothing.
        recipe: how.
        kept: a file of weights, taken where its header says `facts`.
        facts: what those weights were trained by.
    """

    make: Callable[[Nets], nn.Module]
    objective: Callable[[Any, Nets], Objective] | None = None
    recipe: Recipe = Recipe(1)
    kept: Path | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """A row of a table: what is attacked. Each is the name of a network, or made of networks."""

    classifier: str | Callable[[Nets], nn.Module]
    purifier: str | Callable[[Nets], Any] | None = None
    surrogate: str | Callable[[Nets], nn.Module] | None = None
    robust: bool = False


@dataclass(frozen=True)
class Part:
    """Models under attacks: one report.

    Attributes:
        models: names.
        attacks: of all models.
        threat: norm and radius.
        knowledge: of the attackers.
        images: the first so many test images from number `first` on.
        first: see there.
        probe: the sweeps behind the checks.
        about: facts for the report, beside those on the data.
        options: further ones of `evaluate`.
        file: name of the result, unless it is the paper's, the data's and the part's.
    """

    models: tuple[str, ...]
    attacks: tuple[Attack, ...]
    threat: Threat
    knowledge: tuple[Knowledge, ...]
    images: int
    first: int = 0
    probe: Probe | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    file: str = ""


@dataclass(frozen=True)
class Work:
    """What is no report: a function of its own, whose JSON values are the result.

    Attributes:
        make: the function.
        needs: how the names of the networks begin that it asks for, which all processes train before.
        file: as of a `Part`.
    """

    make: Callable[[Lab], dict[str, Any]]
    needs: tuple[str, ...] = ()
    file: str = ""


@dataclass(frozen=True)
class Table:
    """A table over parts: columns by the titles of attacks, a worst case over some parts, pairs of models compared."""

    parts: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]]
    worst: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Item:
    """A table or a figure of a paper, and the parts that are its counterpart here; of a drawing none.

    Attributes:
        data: the data sets that count; any unless given.
    """

    name: str
    shows: str
    parts: tuple[str, ...] = ()
    data: tuple[str, ...] = ()


@dataclass(frozen=True)
class Experiment:
    """A paper's experiment on a data set at a scale."""

    paper: str
    data: str
    scale: str
    networks: Mapping[str, Network]
    models: Mapping[str, Model]
    parts: Mapping[str, Part | Work]
    tables: Mapping[str, Table] = field(default_factory=dict)

    def file(self, part: str, seed: int = 0) -> str:
        """Name of a part's result, without `.json`."""
        name = self.parts[part].file or f"{self.paper}_{self.data}_{part}"
        return name + ("_paper_scale" if self.scale == "paper" else "") + (f"_seed{seed}" if seed else "")
