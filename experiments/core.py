"""What an experiment is made of: networks and recipes, models, parts, tables, and a paper's tables and figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import nn

from art_ext.evaluation import Attack, Knowledge, Probe, Threat
from experiments.networks import Nets, Network

if TYPE_CHECKING:
    from experiments.lab import Lab

SCALES = ("small", "paper")


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
    """A table over parts, a row a model.

    Attributes:
        parts: that have the models.
        columns: titles of attacks, by what stands above them.
        worst: groups of parts; a model's worst case is over the first group that is there and whose first part has it.
        pairs: of models whose differences stand below.
        compared: columns of the differences; all unless given.
        models: rows; all unless given.
    """

    parts: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]]
    worst: tuple[tuple[str, ...], ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    compared: tuple[str, ...] = ()
    models: tuple[str, ...] = ()


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
        """Name of the result of a part, or of a picture beside the results, without its ending."""
        name = (part in self.parts and self.parts[part].file) or f"{self.paper}_{self.data}_{part}"
        return name + ("_paper_scale" if self.scale == "paper" else "") + (f"_seed{seed}" if seed else "")
