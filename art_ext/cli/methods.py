"""What `art-ext train` can train: methods by name, their settings, and how texts become settings."""

from __future__ import annotations

import collections.abc
import inspect
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any

from art_ext.cli.command import Command
from art_ext.cli.errors import suggestion

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from art_ext.training import Objective

Settings = dict[str, Any]
NAMES = {NoneType: "null", dict: "a JSON object", list: "a JSON list", bool: "true or false", str: "a text"}
"""What a value of a type is called; a number is one of `int` and `float`."""


@dataclass(frozen=True)
class Method:
    """A method that the command line trains.

    Attributes:
        name: on the command line.
        kind: the class of what is trained, a purifier or a classifier.
        constructor: arguments of the class, by name.
        training: options of its training, by name; see `art_ext.objectives.options_of`.
        purifies: whether it is a purifier, which is trained for a classifier.
    """

    name: str
    kind: Any
    constructor: Mapping[str, inspect.Parameter]
    training: Mapping[str, inspect.Parameter]
    purifies: bool

    def sorted(self, options: Settings, settings: Settings) -> tuple[Settings, Settings]:
        """Arguments of the constructor and options of the training, out of what was given in either way.

        Args:
            options: what has an option of its own, None where it was not given.
            settings: of --set.

        Raises:
            ValueError: something that the method does not have, of another type, or given in both ways.
        """
        given = {k: v for k, v in options.items() if v is not None}
        for key in given.keys() & settings.keys():
            raise ValueError(f"expected {key} once, got --{key.replace('_', '-')} and --set {key}=")
        known = {**self.constructor, **self.training}
        for key, value in (given | settings).items():
            if key not in known:
                raise ValueError(
                    f"expected a setting of {self.name} out of {', '.join(self.constructor)}, or of its training out "
                    f"of {', '.join(self.training) or 'none'}; got {key!r}{suggestion(key, known)}"
                )
            _check(known[key], value)
        said = given | settings
        arguments = {k: v for k, v in said.items() if k in self.constructor}
        return arguments, {k: v for k, v in said.items() if k in self.training}

    def arguments_for(self, x: Tensor, classes: int) -> Settings:
        """Arguments of the constructor that follow from the images (N, C, H, W) and the number of classes."""
        if self.purifies:
            found: Settings = self.kind.arguments_for(x, classes)
            return found
        return {"channels": x.shape[1], "classes": classes}

    def made(self, arguments: Settings, seed: int) -> nn.Module:
        """A new, untrained one."""
        from art_ext.nn import seeded

        with seeded(seed):
            model: nn.Module = self.kind(**arguments)
        return model

    def stages(
        self, model: nn.Module, classifier: nn.Module | None, tuning: Settings, seed: int, device: torch.device
    ) -> list[Objective]:
        """The objectives that train it.

        Args:
            model: what `made` gave.
            classifier: that a purifier is trained for.
            tuning: options of the training; networks and functions as module:name or file.py:name.
            seed: of helper networks.
            device: of networks that are loaded.

        Raises:
            ValueError: it cannot be trained, or refuses an option.
        """
        from art_ext import objectives
        from art_ext.nn import seeded

        with seeded(seed):
            options = {k: _loaded(self.training[k], v, device) for k, v in tuning.items()}
            purifier: Any = model
            make = purifier.stages if self.purifies else lambda *a, **o: objectives.stages(model, *a, **o)
            stages: list[Objective] = make(classifier, **options)
        if not stages:
            raise ValueError(f"expected a method that can be trained, got {self.name!r}, which needs none")
        return stages


def methods() -> dict[str, Any]:
    """The classes of this package that can be trained, by name."""
    from art_ext.classifiers import PreActDRRDN, SmallDRRDN, WideDRRDN
    from art_ext.purifiers import PURIFIERS

    return {**PURIFIERS, "drrdn": SmallDRRDN, "drrdn_wide": WideDRRDN, "drrdn_preact": PreActDRRDN}


def method_of(name: str) -> Method:
    """The method of a name, of this package or of another one, see `art_ext.purifiers.purifier_class`.

    Raises:
        ValueError: there is none, or another package's cannot be had.
    """
    from art_ext.objectives.stages import arguments_of, options_of
    from art_ext.purifiers import Purifier, purifier_class, purifier_names

    known = methods()
    if name not in known and name not in (offered := [*dict.fromkeys([*known, *purifier_names()])]):
        raise ValueError(f"expected a method out of {', '.join(offered)}; got {name!r}{suggestion(name, offered)}")
    kind = known[name] if name in known else purifier_class(name)
    return Method(name, kind, arguments_of(kind.__init__), options_of(kind), issubclass(kind, Purifier))


class TrainCommand(Command):
    """`train`, whose help ends with the settings of each method."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        example, self.epilog = self.epilog, "\n\n".join([self.epilog or "", *_listing()])
        super().format_help(ctx, formatter)
        self.epilog = example


def _listing() -> list[str]:
    """A line a method: its settings; and the names of methods of other packages, which are not imported for it."""
    from art_ext.purifiers import purifier_names

    found = [method_of(name) for name in methods()]
    others = [name for name in purifier_names() if name not in methods()]
    more = [f"Of other packages: {', '.join(others)}"] if others else []
    return more + [
        f"--set of {m.name}: {', '.join(m.constructor)}; of its training: {', '.join(m.training)}" for m in found
    ]


def _members(annotation: Any) -> tuple[Any, ...]:
    """The types of a union, or the type alone."""
    union = typing.get_origin(annotation) in (typing.Union, UnionType)
    return typing.get_args(annotation) if union else (annotation,)


def _is_code(member: Any) -> bool:
    """Whether a type is a network or a function, which a text can only name."""
    from torch import nn

    return (isinstance(member, type) and issubclass(member, nn.Module)) or (
        typing.get_origin(member) is collections.abc.Callable
    )


def _plain_types(member: Any) -> tuple[type, ...]:
    """The Python types of the JSON values that fit a type; none for what no JSON value is."""
    origin = typing.get_origin(member) or member
    if _is_code(member):
        return (str,)
    if origin in (bool, int, str, NoneType):
        return (origin,)
    if origin is float:
        return (float, int)
    if isinstance(origin, type) and issubclass(origin, collections.abc.Mapping):
        return (dict,)
    if isinstance(origin, type) and issubclass(origin, collections.abc.Collection):
        return (list,)
    return ()


def _check(parameter: inspect.Parameter, value: Any) -> None:
    """Refuses a value of another type than the parameter's.

    Raises:
        ValueError: what was expected.
    """
    members = _members(parameter.annotation)
    if parameter.annotation is inspect.Parameter.empty or any(isinstance(m, str) or m is Any for m in members):
        return
    fitting = [t for m in members for t in _plain_types(m)]
    if type(value) not in fitting:
        names = dict.fromkeys(NAMES.get(t, "a number" if float in fitting else "a whole number") for t in fitting)
        code = " that names code (file.py:name)" if any(_is_code(m) for m in members) else ""
        raise ValueError(f"expected {parameter.name} as {' or '.join(names)}{code}, got {value!r}")


def _loaded(parameter: inspect.Parameter, value: Any, device: torch.device) -> Any:
    """The network or the function that a text names; any other value as it is."""
    from torch import nn

    from art_ext.cli.classifiers import load_classifier
    from art_ext.cli.code import code

    wanted = [m for m in _members(parameter.annotation) if _is_code(m)]
    if not wanted or not isinstance(value, str):
        return value
    network = any(isinstance(m, type) and issubclass(m, nn.Module) for m in wanted)
    return load_classifier(value, device=device) if network else code(value)
