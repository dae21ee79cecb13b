"""ART's `set_params`, but all or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def set_checked(holder: Any, names: Sequence[str], values: Mapping[str, Any]) -> None:
    """Sets attributes and has `holder._check_params()` look at them; nothing is changed if one of them is refused.

    Raises:
        ValueError: a name that is not among `names`, or what `_check_params` raises (a TypeError, maybe).
    """
    unknown = sorted(set(values) - set(names))
    if unknown:
        raise ValueError(f"expected parameters out of {[*names]}, got {unknown}")
    before = {key: getattr(holder, key) for key in values}
    try:
        for key, value in values.items():
            setattr(holder, key, value)
        holder._check_params()
    except (TypeError, ValueError):
        for key, value in before.items():
            setattr(holder, key, value)
        raise
