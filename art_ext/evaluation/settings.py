"""The keywords of an evaluation, checked before anything is run."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from art_ext.attacks import AVERAGES
from art_ext.evaluation.backends import Attack
from art_ext.evaluation.inspect import identity
from art_ext.evaluation.numerics import check_device
from art_ext.evaluation.targets import Defended
from art_ext.evaluation.threat import Knowledge, Threat
from art_ext.images import check_layout, check_range
from art_ext.nn.precision import FLOAT32, PRECISIONS
from art_ext.plain import number, plain

CHECKED = 256
"""Images whose values are looked at together."""
UNIT_TESTS = 8
"""Images of the attack unit test where a probe does not say."""


@dataclass(frozen=True)
class Probe:
    """How much is spent on the sweeps behind the checks and curves: native PGD, and APGD, on the full pipeline.

    Args:
        images: the first so many; with 128 the paired checks can show a difference of 5 points.
        steps: of PGD; doubled and quartered by the sweep, doubled for APGD.
        seeds: repetitions with other seeds; three give a spread.
        unit_tests: images for the unit test of the attack (`binarisation_test`), 0 for none; unless given, 8 where
            that costs less than a tenth of the evaluation.

    Raises:
        TypeError: what is no whole number.
        ValueError: images, steps or seeds below 1, or a negative number of unit tests.
    """

    images: int = 128
    steps: int = 20
    seeds: int = 1
    unit_tests: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("images", 1), ("steps", 1), ("seeds", 1), ("unit_tests", 0)):
            value = getattr(self, name)
            if value is not None or name != "unit_tests":
                object.__setattr__(self, name, number(value, name, at_least=least, whole=True))


@dataclass(frozen=True)
class Settings:
    """The keywords of `evaluate`, as they are documented there; numbers of numpy and torch become Python's.

    Raises:
        TypeError: a number that is none, or knowledge that is no `Knowledge`.
        ValueError: one that is out of range, or settings that exclude each other.
    """

    knowledge: tuple[Knowledge, ...]
    eot_samples: int
    average: str
    repeats: int
    seed: int
    batch_size: int
    survivors_only: bool
    cross: bool
    probe: Probe | None
    all_steps: bool = False
    crafting: str = FLOAT32
    compile: bool = False

    def __post_init__(self) -> None:
        for name in ("eot_samples", "repeats", "batch_size"):
            object.__setattr__(self, name, number(getattr(self, name), name, at_least=1, whole=True))
        object.__setattr__(self, "seed", number(self.seed, "seed", whole=True))
        if not -(2**63) <= self.seed < 2**63:
            raise ValueError(f"expected seed as a whole number of 64 bits, got {self.seed}")
        if self.average not in AVERAGES:
            raise ValueError(f"expected average to be one of {', '.join(AVERAGES)}; got {self.average!r}")
        if self.crafting not in PRECISIONS:
            raise ValueError(f"expected crafting to be one of {', '.join(PRECISIONS)}; got {self.crafting!r}")
        if not self.knowledge or not all(isinstance(k, Knowledge) for k in self.knowledge):
            names = ", ".join(f"Knowledge.{k.name}" for k in Knowledge)
            raise TypeError(f"expected knowledge as members of Knowledge ({names}), got {list(self.knowledge)}")
        for name in ("survivors_only", "cross", "all_steps", "compile"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"expected {name} as True or False, got {getattr(self, name)!r}")
        if self.probe is not None and not isinstance(self.probe, Probe):
            raise TypeError(f"expected probe as a Probe or None, got {type(self.probe).__name__}")
        if self.survivors_only and self.cross:
            raise ValueError("expected survivors_only or cross, got both: examples of a sequence are not one attack's")

    def plain(self) -> dict[str, Any]:
        """As JSON values, but for `batch_size`, which changes nothing but rounding."""
        probe = None if self.probe is None else dict(vars(self.probe))
        found = {**vars(self), "knowledge": [k.value for k in self.knowledge], "probe": probe}
        return {k: v for k, v in found.items() if k != "batch_size" and (k != "compile" or v)}


def renamed(old: str, given: Any, new: str, value: Any) -> Any:
    """The value of a keyword that was given under its old spelling."""
    if given is None:
        return value
    warnings.warn(f"{old} is called {new} now", DeprecationWarning, stacklevel=3)
    return given


def given_knowledge(knowledge: Any) -> tuple[Any, ...]:
    """What came as `knowledge`, each once, as a tuple; a single member is one. `Settings` checks what it holds.

    A set has no order of its own: its members come in that of `Knowledge`.
    """
    if isinstance(knowledge, (Knowledge, str)) or not isinstance(knowledge, (Sequence, set, frozenset)):
        return (knowledge,)
    if not all(isinstance(k, Knowledge) for k in knowledge):
        return tuple(knowledge)
    ordered = knowledge if isinstance(knowledge, Sequence) else sorted(knowledge, key=[*Knowledge].index)
    return tuple(dict.fromkeys(ordered))


def given_several(things: Any, what: str) -> list[Any]:
    """What came as a sequence, as a list. `check_call` checks what it holds.

    Raises:
        TypeError: it is none.
    """
    if isinstance(things, str) or not isinstance(things, Iterable):
        raise TypeError(f"expected {what} as a list, got {type(things).__name__}")
    return list(things)


def _given_shard(shard: Any) -> tuple[int, int]:
    """What came as `shard`, in Python's numbers.

    Raises:
        TypeError: no pair of whole numbers.
        ValueError: not 0 <= i < n.
    """
    if not isinstance(shard, tuple | list) or len(shard) != 2:
        raise TypeError(f"expected a shard (i, n), got {shard!r}")
    index, shards = (number(v, "i and n of a shard (i, n)", whole=True) for v in shard)
    if not 0 <= index < shards:
        raise ValueError(f"expected a shard (i, n) with 0 <= i < n, got {shard}")
    return index, shards


def check_call(
    models: Sequence[Defended], attacks: Sequence[Attack], x: Tensor, y: Tensor, settings: Settings, threat: Threat,
    shard: Any,
) -> tuple[int, int]:  # fmt: skip
    """Refuses what no evaluation can be made of, before any forward pass; gives the shard in Python's numbers.

    Raises:
        TypeError: images, labels, models, attacks or a threat of another type.
        ValueError: none of them, images out of range, labels that do not fit, names or titles given twice.
    """
    _check_images(x, y)
    if not isinstance(threat, Threat):
        raise TypeError(f"expected threat as a Threat, got {type(threat).__name__}")
    if threat.norm == "Linf" and threat.eps > 1:
        raise ValueError(f"expected eps for images in [0, 1], such as 8 / 255, got {threat.eps:g}")
    for what, things, kind in (("model", models, Defended), ("attack", attacks, Attack)):
        wrong = [type(t).__name__ for t in things if not isinstance(t, kind)]
        if wrong:
            raise TypeError(f"expected every {what} as a {kind.__name__}, got {wrong[0]}")
        if not things:
            raise ValueError(f"expected at least one {what}, got none")
    names, titles = [m.name for m in models], [a.title for a in attacks]
    if len(set(names)) != len(names):
        raise ValueError(f"expected models of different names, got {names}")
    if len(set(titles)) != len(titles):
        raise ValueError(f"expected attacks of different titles, got {titles}: give them a label")
    missing = {k.value for a in attacks for k in a.knowledge or ()} - {k.value for k in settings.knowledge}
    if missing:
        raise ValueError(
            f"expected the knowledge of every attack in that of the evaluation, got attacks under {sorted(missing)}"
        )
    return _given_shard(shard)


def _check_images(x: Tensor, y: Tensor) -> None:
    check_layout(x)
    for part in x.split(CHECKED):  # masks of all images at once would be most of what a driver holds
        check_range(part)
    check_device(x.device)
    if x.dtype != torch.float32:  # ART and the others work in float32
        raise TypeError(f"expected float32 images, got {x.dtype}: convert them with x.float()")
    if not len(x):
        raise ValueError("expected at least one image, got none")
    if not isinstance(y, Tensor) or y.dtype != torch.int64:
        raise TypeError(f"expected labels as an int64 tensor, got {getattr(y, 'dtype', type(y).__name__)}")
    if y.shape != (len(x),) or int(y.min()) < 0:
        raise ValueError(f"expected {len(x)} class indices >= 0, got shape {tuple(y.shape)} and minimum {int(y.min())}")


def stated(attack: Attack) -> dict[str, Any]:
    """An attack as JSON values, for the report and the folder."""
    known = None if attack.knowledge is None else [k.value for k in attack.knowledge]
    names = ("backend", "name", "images", "eot_samples", "on", "targeted", "label", "black_box")
    parameters = {k: _plain_parameter(k, v) for k, v in attack.parameters.items()}
    function = None if attack.function is None else identity(attack.function).sha256
    found = {name: getattr(attack, name) for name in names}
    return {**found, "parameters": parameters, "knowledge": known, "function": function}


def _plain_parameter(name: str, value: Any) -> Any:
    return identity(value).sha256 if isinstance(value, torch.nn.Module) else plain(value, name)


def facts(data: Mapping[str, Any] | None) -> dict[str, Any]:
    """The user's facts about the data set, as JSON values.

    Raises:
        TypeError: no mapping, or a value that JSON does not have.
    """
    if data is not None and not isinstance(data, Mapping):
        raise TypeError(f"expected data as a dict of facts, got {type(data).__name__}")
    return dict(plain(dict(data or {}), "data"))
