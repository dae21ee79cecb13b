"""The values that a function takes where it is told none."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

PLAIN = (bool, int, float, str)


def defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """Names and defaults of the parameters whose default is a plain value or None."""
    found = {p.name: p.default for p in inspect.signature(function).parameters.values()}
    return {k: v for k, v in found.items() if v is None or isinstance(v, PLAIN)}
