"""Plain values: what JSON can hold, made from the numbers of numpy and torch; and numbers that are checked."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

SHORT = 80
"""Characters of a difference that is still shown."""
MOST_ENTRIES = 10_000
"""Entries of the largest array that a configuration may hold; more belongs among the weights."""


def plain(value: Any, what: str = "value") -> Any:
    """The same value as None, bool, int, float, str, list or dict, which JSON holds without loss.

    Numbers of numpy and torch become Python's, arrays and tensors nested lists, tuples and sets lists (sets sorted),
    enum members their values and paths strings. NaN and infinity stay floats.

    Args:
        value: anything.
        what: its name in the error.

    Raises:
        TypeError: it has no plain form (arrays of more than `MOST_ENTRIES` entries have none), or a key of a mapping is
            no string or whole number.
        ValueError: two keys that are written alike.
    """
    if isinstance(value, Enum):
        return plain(value.value, what)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float | str):
        kind = next(kind for kind in (int, float, str) if isinstance(value, kind))
        return kind(value)  # of subclasses too: np.float64 is a float
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.generic | np.ndarray | Tensor):
        return _plain_array(value, what)
    return _plain_collection(value, what)


def differences(there: Any, now: Any) -> str:
    """What differs of two settings, each in a few words with both values; empty where a value is long.

    Args:
        there: plain, as it was kept; of mappings the keys are named.
        now: plain, as it is given.
    """
    if isinstance(there, Mapping) and isinstance(now, Mapping):
        pairs = [(f"{k} ", there.get(k), now.get(k)) for k in sorted({*there, *now}) if there.get(k) != now.get(k)]
    else:
        pairs = [("", there, now)]
    told = [f"{k}{json.dumps(a)} there, {json.dumps(b)} now" for k, a, b in pairs]
    return "; ".join(told) if all(len(text) <= SHORT for text in told) else ""


def _plain_collection(value: Any, what: str) -> Any:
    if isinstance(value, Mapping):
        return _plain_mapping(value, what)
    if isinstance(value, list | tuple):
        return [plain(v, f"{what}[{i}]") for i, v in enumerate(value)]
    if isinstance(value, set | frozenset):
        return sorted((plain(v, what) for v in value), key=lambda v: (type(v).__name__, v if v is not None else 0))
    raise TypeError(_refusal(what, value))


def _refusal(what: str, value: object) -> str:
    return f"expected {what} as a plain value (number, string, list, dict), got {type(value).__name__}"


def _plain_mapping(value: Mapping[Any, Any], what: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, entry in value.items():
        name = plain(key, f"a key of {what}") if isinstance(key, str | int | np.integer | Enum) else None
        if isinstance(name, bool) or not isinstance(name, str | int):
            raise TypeError(f"expected keys of {what} as strings or whole numbers, got {key!r}")
        if str(name) in result:
            raise ValueError(f"expected keys of {what} that stay different as strings, got {str(name)!r} twice")
        result[str(name)] = plain(entry, f"{what}[{str(name)!r}]")
    return result


def _plain_array(value: np.generic | np.ndarray[Any, Any] | Tensor, what: str) -> Any:
    entries = value.numel() if isinstance(value, Tensor) else value.size
    if entries > MOST_ENTRIES:
        raise TypeError(f"{_refusal(what, value)} of {entries} entries (at most {MOST_ENTRIES}): keep it as a weight")
    if isinstance(value, Tensor):
        found: Any = value.item() if entries == 1 else value.detach().cpu().tolist()
    else:
        found = value.tolist()
    if isinstance(found, np.generic):  # longdouble and void have no form in Python
        raise TypeError(_refusal(what, value))
    return plain(found, what)


def number(
    value: Any,
    what: str,
    *,
    at_least: float | None = None,
    above: float | None = None,
    finite: bool = True,
    whole: bool = False,
) -> Any:
    """The value as Python's int or float, checked: an int where an integer came in or `whole` is true.

    Args:
        value: a number of Python, numpy (0-d arrays too) or torch (tensors of one element too).
        what: its name in the errors.
        at_least: the smallest value allowed.
        above: the value that it must exceed.
        finite: infinity is refused; NaN always is.
        whole: only whole numbers; 3.0 becomes 3.

    Raises:
        TypeError: a bool, a string or anything else that is no real number.
        ValueError: NaN, infinite, not whole, or outside the bounds.
    """
    wanted = _wanted(at_least=at_least, above=above, finite=finite, whole=whole)
    found = value
    if (isinstance(value, np.generic | np.ndarray) and value.ndim == 0) or (
        isinstance(value, Tensor) and value.numel() == 1
    ):
        found = value.item()
    if isinstance(found, bool) or not isinstance(found, int | float):
        shown = repr(value) if isinstance(value, bool | str | np.bool_) else type(value).__name__
        raise TypeError(f"expected {what} as {wanted}, got {shown}")
    found = int(found) if isinstance(found, int) else float(found)
    tests: list[Callable[[], bool]] = [
        lambda: not math.isnan(found),
        lambda: not finite or math.isfinite(found),
        lambda: not whole or (math.isfinite(found) and found == int(found)),
        lambda: at_least is None or found >= at_least,
        lambda: above is None or found > above,
    ]
    if not all(test() for test in tests):
        raise ValueError(f"expected {what} as {wanted}, got {found!r}")
    return int(found) if whole else found


def seed_of(value: Any) -> int:
    """A seed as Python's int.

    Raises:
        TypeError: no whole number.
        ValueError: negative, or not below 2**63.
    """
    found: int = number(value, "seed", whole=True, at_least=0)
    if found >= 2**63:
        raise ValueError(f"expected seed below 2**63, got {found}")
    return found


def _wanted(*, at_least: float | None, above: float | None, finite: bool, whole: bool) -> str:
    words = "a whole number" if whole else "a finite number" if finite else "a number"
    bounds = [f"of at least {at_least}"] if at_least is not None else []
    bounds += [f"above {above}"] if above is not None else []
    return " ".join([words, " and ".join(bounds)]).strip()


def check_device_type(device_type: Any) -> None:
    """Refuses what ART would take for the CPU or the GPU without a word.

    Raises:
        ValueError: neither "cpu" nor "gpu".
    """
    if device_type not in ("cpu", "gpu"):
        raise ValueError(f"expected device_type as 'cpu' or 'gpu', got {device_type!r}")
