"""Which training it is: everything that decides its result, by name, so that a refusal can name what differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import partial
from types import MethodType
from typing import Any
from weakref import WeakKeyDictionary, WeakMethod

from torch import Tensor, nn
from torch.optim import Optimizer

from art_ext.nn.hashing import sha256
from art_ext.nn.identity import BOOKKEEPING, IGNORED, class_identity, identity
from art_ext.plain import plain
from art_ext.training.objective import Objective

DERIVED = frozenset({"optimizer", "_last_lr"})
"""What of a scheduler is its optimizer's, whose settings count by themselves."""
_BEGAN: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()
"""What schedulers were made of when they were first seen: steps change their attributes."""
SHOWN = 60
"""The most characters of a value that a message repeats."""


def identity_of(
    objective: Objective, data: Any, optimizers: Mapping[str, Any], schedulers: Sequence[Any], **more: Any
) -> dict[str, Any]:
    """What a training is made of, by name: plain values as they are, everything else as a hash.

    Args:
        objective: the method; its frozen parts count with their weights, those it trains with their settings alone.
        data: batches; with a method `identity` they say what they are made of.
        optimizers: by player.
        schedulers: in order.
        more: seeds, precision, and the like.
    """
    found: dict[str, Any] = {"method": type(objective).__qualname__, **more}
    found |= {f"data's {k}": v for k, v in getattr(data, "identity", dict)().items()}
    trained = [v for k, v in [*objective.named_parameters(), *objective.named_buffers()] if not _frozen(k, objective)]
    for path, module in _own_modules(objective):
        found[f"class of {path or 'the method'}"] = class_identity(type(module))
        skipped = {*BOOKKEEPING, *IGNORED, *getattr(module, "carried", ())}
        for name, value in vars(module).items():
            if name not in skipped and not isinstance(value, nn.Module):
                found |= _named(f"{path}.{name}" if path else name, value, trained)
    for name in objective.frozen:
        found[f"weights of the frozen {name}"] = identity(objective.get_submodule(name), apart_from=trained).sha256
    for player, optimizer in optimizers.items():
        found[f"{player}'s optimizer"] = type(optimizer).__name__
        for i, group in enumerate(optimizer.param_groups):
            kept = {k: v for k, v in group.items() if k != "params" and not (k == "lr" and "initial_lr" in group)}
            found |= {f"{player}'s group {i}'s {k}": _stated(v, trained) for k, v in kept.items()}
    for i, scheduler in enumerate(schedulers):
        found[f"scheduler {i}"] = class_identity(type(scheduler))
        found |= {f"scheduler {i}'s {k}": v for k, v in _began(scheduler, trained).items()}
    return found


def origin_of(objective: Objective) -> dict[str, str]:
    """Hashes of the weights that parts of the method were loaded with or trained to, by name; none for new ones."""
    known = ((path, getattr(module, "origin", None)) for path, module in _own_modules(objective))
    return {path: origin for path, origin in known if isinstance(origin, str) and origin}


def note_origin(objective: Objective) -> None:
    """Says of the parts of a method that ask for it which weights they have now."""
    for _, module in _own_modules(objective):
        if isinstance(getattr(module, "origin", None), str):
            module.origin = weights_of(module)  # type: ignore[assignment]


@contextmanager
def origins_kept(objective: Objective) -> Iterator[None]:
    """The weights of a checkpoint may be loaded inside: they are no others to begin a training with."""
    known = [(m, m.origin) for _, m in _own_modules(objective) if isinstance(getattr(m, "origin", None), str)]
    try:
        yield
    finally:
        for module, origin in known:
            module.origin = origin


def weights_of(module: nn.Module) -> str:
    """A hash of all weights and buffers."""
    return sha256(module.state_dict().values())


def differing(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What two trainings do not have in common, short, of the one and of the other."""
    missing = object()
    names = [k for k in {**mine, **theirs} if mine.get(k, missing) != theirs.get(k, missing)]
    return tuple({k: _short(side.get(k)) for k in names} for side in (mine, theirs))  # type: ignore[return-value]


def _own_modules(objective: Objective) -> Iterator[tuple[str, nn.Module]]:
    """The method and what it trains, by path."""
    return ((path, m) for path, m in objective.named_modules() if not _frozen(path, objective))


def _frozen(path: str, objective: Objective) -> bool:
    return path.split(".")[0] in objective.frozen


def _named(name: str, value: Any, trained: Sequence[Tensor]) -> dict[str, Any]:
    """An attribute by its name; a dataclass and what it holds each by their own, with a norm's or a class's name."""
    if not is_dataclass(value) or isinstance(value, type):
        known = getattr(value, "name", None)
        return {name: known if isinstance(known, str) else _stated(value, trained)}
    found: dict[str, Any] = {name: getattr(value, "name", type(value).__name__)}
    inside = vars(value) if hasattr(value, "__dict__") else {f.name: getattr(value, f.name) for f in fields(value)}
    for field, held in inside.items():
        found |= _named(f"{name}.{field}", held, trained)
    return found


def _began(scheduler: Any, trained: Sequence[Tensor]) -> dict[str, Any]:
    """What a scheduler was made of before its first step: plain values, hashes of functions and objects."""
    try:
        if scheduler not in _BEGAN:
            _BEGAN[scheduler] = dict(_attributes(scheduler, trained))
        return _BEGAN[scheduler]
    except TypeError:  # of slots, or not hashable
        return dict(_attributes(scheduler, trained))


def _attributes(scheduler: Any, trained: Sequence[Tensor], before: str = "") -> Iterator[tuple[str, Any]]:
    """A scheduler's attributes by name, those of schedulers inside it too."""
    if hasattr(scheduler, "identity"):
        yield from ((before + k, plain(v)) for k, v in scheduler.identity().items())
        return
    for name, value in getattr(scheduler, "__dict__", {}).items():
        inside = value if isinstance(value, list | tuple) else [value]
        if name in DERIVED or any(isinstance(v, Optimizer | nn.Module) for v in inside):
            continue
        if inside and all(hasattr(v, "step") and hasattr(v, "__dict__") for v in inside):
            for i, one in enumerate(inside):
                yield f"{before}{name} {i}", type(one).__name__
                yield from _attributes(one, trained, f"{before}{name} {i}'s ")
        else:
            yield before + name, _stated(_unbound(value, scheduler), trained)


def _unbound(value: Any, owner: Any) -> Any:
    """A method of a scheduler's own, and a partial of it, without the scheduler, which holds its optimizer."""
    if isinstance(value, partial):
        return [_unbound(value.func, owner), value.args, value.keywords]
    if isinstance(value, WeakMethod):
        value = value()
    if isinstance(value, MethodType) and value.__self__ is owner:
        return value.__func__
    return [_unbound(v, owner) for v in value] if isinstance(value, list) else value


def _stated(value: Any, trained: Sequence[Tensor]) -> Any:
    """A plain value as it is, in Python's numbers; a hash of anything else."""
    try:
        return plain(value)
    except TypeError:
        return identity(value, apart_from=trained).sha256


def _short(value: Any) -> Any:
    text = repr(value)
    if isinstance(value, str) and len(value) == 64:
        return value[:12]  # a hash
    return value if len(text) <= SHOWN else f"{text[:SHOWN]}..."
