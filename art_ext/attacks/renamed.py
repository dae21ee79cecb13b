"""Old names of keywords, which work for one more version."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def renamed(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator for functions some of whose keywords have new names: `@renamed(draws="eot_samples")`.

    The old keyword is taken for the new one, with a DeprecationWarning. Given both, the call is a TypeError.

    Args:
        names: old name to new one.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        order = list(inspect.signature(function).parameters)
        name = function.__qualname__.removesuffix(".__init__")

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            for old, new in names.items():
                if old not in kwargs:
                    continue
                if new in kwargs or new in order[: len(args)]:
                    raise TypeError(f"expected {new} once in {name}(), got its old name {old} too")
                text = f"{old} of {name}() is called {new} now"
                warnings.warn(text, DeprecationWarning, stacklevel=2)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call

    return decorate


def renamed_fields(**names: str) -> Callable[[type[T]], type[T]]:
    """As `renamed`, for the fields of a dataclass: its constructor takes the old names too.

    Args:
        names: old name to new one.
    """

    def decorate(cls: type[T]) -> type[T]:
        type.__setattr__(cls, "__init__", renamed(**names)(cls.__init__))
        return cls

    return decorate
