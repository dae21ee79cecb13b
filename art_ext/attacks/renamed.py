"""Old names of keywords, which work for one more version."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def renamed(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator for functions some of whose keywords have new names: `@renamed(draws="eot_samples")`.

    The old keyword is taken for the new one, with a DeprecationWarning. Given both, the call is a TypeError.

    Args:
        names: old name to new one.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        order = list(inspect.signature(function).parameters)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            for old, new in names.items():
                if old not in kwargs:
                    continue
                if new in kwargs or new in order[: len(args)]:
                    raise TypeError(f"expected {new} once in {function.__qualname__}(), got its old name {old} too")
                text = f"{old} of {function.__qualname__}() is called {new} now"
                warnings.warn(text, DeprecationWarning, stacklevel=2)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call

    return decorate
