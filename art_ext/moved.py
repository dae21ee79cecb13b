"""Old places of names, which work for one more version."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any


def moved(package: str, to: str, *names: str) -> Callable[[str], Any]:
    """A package's `__getattr__` that looks some names up where they stand now, with a DeprecationWarning.

    The other package is imported when a name is asked for.

    Args:
        package: full name of the old place.
        to: full name of the new one.
        names: that moved.
    """

    def get(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        warnings.warn(f"{package}.{name} is {to}.{name} now", DeprecationWarning, stacklevel=2)
        return getattr(importlib.import_module(to), name)

    return get
