"""What an object is made of, as a hash: of a model, an attack, or a training."""

from __future__ import annotations

import hashlib
import logging
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

IGNORED = frozenset({"training", "batch_size", "origin", "_broadcastable_mean", "_broadcastable_std"})
"""Attributes that change no answer: a mode that callers set, how many images pass at once, where weights come from,
and what ART's standardisation works out of its mean and std at its first image."""
BOOKKEEPING = frozenset(vars(nn.Module())) | {"_hub_mixin_config", "_is_hf_initialized"}
"""What torch keeps about a module; its parameters, buffers and submodules are read by themselves."""


@dataclass(frozen=True)
class Identity:
    """What a model is made of.

    Attributes:
        sha256: of class, configuration, plain attributes, code of functions, and every tensor, saved or not.
        opaque: something inside has no readable state (a session of another runtime, say), so that two different
            models may have one hash; work is then kept apart by the model's name.
    """

    sha256: str
    opaque: bool


def identity(*parts: Any, apart_from: Iterable[Tensor] = ()) -> Identity:
    """The identity of objects, as they are now: take it before a first pass may have changed a counter inside.

    Args:
        parts: modules, and whatever else decides the answers.
        apart_from: tensors whose values do not count, as those that are being trained.
    """
    reader = _Reader()
    for tensor in apart_from:
        reader.meet(tensor)
    for part in parts:
        reader.read(part)
    return Identity(reader.digest.hexdigest(), reader.opaque)


def class_identity(kind: type) -> str:
    """The name of a class, with a hash of its code where it is neither torch's nor this package's."""
    reader = _Reader()
    empty = reader.digest.hexdigest()
    reader.class_code(kind)
    found = reader.digest.hexdigest()
    return kind.__qualname__ if found == empty else f"{kind.__qualname__} {found[:12]}"


class _Reader:
    """Feeds a digest with everything below an object; each object once, later meetings as its number."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.opaque = False
        self.met: dict[int, int] = {}
        self.kept: list[Any] = []  # so that no id is used again

    def say(self, *words: Any) -> None:
        for word in words:
            self.digest.update(repr(word).encode() + b"\0")

    def read(self, value: Any) -> None:
        if value is None or value is ... or isinstance(value, (bool, int, float, complex, str, bytes)):
            self.say(type(value).__name__, value)
            return
        if isinstance(value, (torch.device, torch.Generator)):  # where it runs is no part of what it is
            return
        if isinstance(value, (torch.dtype, torch.Size, torch.layout, torch.memory_format, np.dtype, type, range)):
            self.say(str(value))
            return
        if id(value) in self.met:
            self.say("met", self.met[id(value)])
            return
        self.meet(value)
        self._read_new(value)

    def meet(self, value: Any) -> None:
        """Takes an object for known: only that it is met again counts."""
        self.met[id(value)] = len(self.met)
        self.kept.append(value)

    def _read_new(self, value: Any) -> None:
        if isinstance(value, Tensor):
            self._tensor(value)
        elif isinstance(value, (np.ndarray, np.generic)):
            self.say(str(value.dtype), value.shape)
            self._several([value.tolist()] if value.dtype.hasobject else [value.tobytes()])
        elif isinstance(value, Enum):
            self.say(type(value).__qualname__, value.name)
        elif isinstance(value, Mapping):
            self.say("mapping", len(value))
            self._several(part for k in sorted(value, key=repr) for part in (k, value[k]))
        elif isinstance(value, (set, frozenset)):
            self.say("set", sorted(map(repr, value)))
        elif isinstance(value, (list, tuple)):
            self.say(type(value).__name__, len(value))
            self._several(value)
        elif isinstance(value, nn.Module):
            self._module(value)
        elif isinstance(value, types.CodeType):
            self.say(value.co_code, value.co_names)
            self._several(value.co_consts)
        elif isinstance(value, (types.FunctionType, types.MethodType)):
            self._function(value)
        else:
            self._object(value)

    def _several(self, values: Iterable[Any]) -> None:
        for value in values:
            self.read(value)

    def _tensor(self, value: Tensor) -> None:
        self.say("tensor", str(value.dtype), tuple(value.shape))
        held = value.detach().cpu().reshape(-1).clone(memory_format=torch.contiguous_format)
        self.digest.update(held.view(torch.uint8).numpy().tobytes())

    def _module(self, module: nn.Module) -> None:
        self.say("module", _home(type(module)), type(module).__qualname__)
        code = getattr(module, "code", None)
        if isinstance(code, str):  # TorchScript and torch.export say what they compute
            self.say(code)
        for group in (dict(module.named_parameters(recurse=False)), dict(module.named_buffers(recurse=False))):
            self.read(group)
        if not isinstance(module, torch.jit.ScriptModule):
            self._attributes({k: v for k, v in vars(module).items() if k not in BOOKKEEPING})
            hooks = (
                module._forward_pre_hooks,
                module._forward_hooks,
                module._backward_pre_hooks,
                module._backward_hooks,
            )
            self._several(hook for group in hooks for hook in group.values())
        self.class_code(type(module))
        for name, child in module.named_children():
            self.say(name)
            self.read(child)

    def class_code(self, kind: type) -> None:
        """What a user's class computes; torch's and this package's are told by their versions."""
        for c in kind.__mro__:
            if c.__module__.split(".")[0] not in ("torch", "builtins", "art_ext"):
                for name, held in sorted(vars(c).items()):
                    if isinstance(held, types.FunctionType):
                        self.say(name)
                        self.read(held.__code__)

    def _function(self, function: types.FunctionType | types.MethodType) -> None:
        """What it computes and what it holds, with the plain values of the globals that it names."""
        bound = getattr(function, "__self__", None)
        plain: Any = getattr(function, "__func__", function)
        self.say("function", function.__qualname__)  # of a script that is run or imported, alike
        self._several([bound, plain.__code__, plain.__defaults__, plain.__kwdefaults__])
        self._globals(plain.__code__, plain.__globals__)
        for cell in plain.__closure__ or ():
            try:
                self.read(cell.cell_contents)
            except ValueError:  # not filled yet
                self.say("empty")

    def _globals(self, code: types.CodeType, known: Mapping[str, Any]) -> None:
        for name in sorted({*code.co_names} & known.keys()):
            if isinstance(known[name], bool | int | float | complex | str | bytes | None):
                self.say(name, known[name])
        for inside in code.co_consts:
            if isinstance(inside, types.CodeType):
                self._globals(inside, known)

    def _object(self, value: Any) -> None:
        self.say("object", _home(type(value)), type(value).__qualname__)
        if callable(value):
            self.class_code(type(value))
        if isinstance(value, logging.Logger):  # it leads to every other logger of the process
            self.say(value.name)
            return
        wrapped = getattr(value, "func", None)  # functools.partial
        if wrapped is not None and hasattr(value, "keywords"):
            self._several([wrapped, value.args, value.keywords])
        elif hasattr(value, "__dict__") or _slots(value):
            self._attributes({**_slots(value), **getattr(value, "__dict__", {})})
        elif not isinstance(value, types.BuiltinFunctionType):
            self.opaque = True

    def _attributes(self, values: Mapping[str, Any]) -> None:
        self.read({k: v for k, v in values.items() if k not in IGNORED and not isinstance(v, types.ModuleType)})


def _home(kind: type) -> str:
    """The module of a class; a script that is run is called otherwise in the processes that it spawns."""
    return "__main__" if kind.__module__ == "__mp_main__" else kind.__module__


def _slots(value: Any) -> dict[str, Any]:
    """Attributes that a class of slots keeps; those of classes that are not Python's are not to be seen."""
    names = [n for c in type(value).__mro__ for n in _several_or_one(vars(c).get("__slots__", ()))]
    return {n: getattr(value, n) for n in names if n not in ("__dict__", "__weakref__") and hasattr(value, n)}


def _several_or_one(names: Any) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)
