"""The parameters of an attack, checked when it is written down: plain values, of the kind that the library wants."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from art_ext.evaluation.backends.entry import Backend
from art_ext.plain import number, plain

COUNTS = {
    "N": 1, "batch_size": 1, "binary_search_steps": 1, "check_every": 1, "copies": 1, "eot_iter": 1, "init_eval": 1,
    "init_size": 1, "kernel": 1, "len_kernel": 1, "m": 1, "max_eval": 1, "max_iter": 1, "n_iter": 1, "n_queries": 1,
    "n_restarts": 1, "n_target_classes": 1, "nb_grads": 1, "nb_parallel": 1, "nb_random_init": 1, "nb_restarts": 1,
    "num_random_init": 0, "restarts": 1, "steps": 1,
}  # fmt: skip
"""Whole numbers and the least of each; ART's PGD begins at the image itself with `num_random_init` 0."""
POSITIVE = frozenset(
    {"alpha", "bound", "const_factor", "decrease_factor", "eps", "eps_for_division", "eps_step", "epsilon",
     "initial_const", "largest_const", "learning_rate", "nsig", "p_init", "resize_rate", "sigma", "step_size"}
)  # fmt: skip
"""Lengths, radii and factors: finite and above 0."""
FACTORS = frozenset({"decay"})
"""Numbers also where the library's default is None, which does not say so."""


def checked(backend: Backend, name: str, parameters: Mapping[str, Any], who: str) -> dict[str, Any]:
    """The parameters as plain values, modules where the attack takes them.

    Args:
        backend: the library.
        name: of the attack.
        parameters: as they were given.
        who: the attack, for messages.

    Raises:
        TypeError: a value without a plain form, or of another type than the library's default.
        ValueError: a parameter that the attack does not have or that is set elsewhere, a number out of range, two names
            of one parameter, or parameters that do not go together.
    """
    if not isinstance(parameters, Mapping):
        raise TypeError(f"expected the parameters of {who} as a dict, got {type(parameters).__name__}")
    entry = backend.entries[name]
    try:
        known: dict[str, Any] | None = backend.parameters(name)
    except ImportError:  # said when the attack is run; a report of it can still be read
        known = None
    found: dict[str, Any] = {}
    for key, value in parameters.items():
        if not isinstance(key, str):
            raise TypeError(f"expected the parameters of {who} by name, got {key!r}")
        own = backend.aliases.get(key, key)
        _check_known(own, key, known, backend, who)
        if own != key and own in parameters:
            raise ValueError(f"expected {key} or {own} of {who}, which are one parameter, got both")
        default = None if known is None else known.get(own)
        what = f"{key} of {who}"
        object_ = key in entry.objects and isinstance(value, nn.Module)
        found[key] = value if object_ else _checked(key, plain(value, what), default, what, known is not None)
    entry.check(found)
    return found


def _check_known(own: str, key: str, known: Mapping[str, Any] | None, backend: Backend, who: str) -> None:
    if known is None or own in known:
        return
    if own in backend.given:
        raise ValueError(f"expected no {key} among the parameters of {who}: the evaluation sets it")
    names = {k for k, v in backend.aliases.items() if v in known} | {*known}
    raise ValueError(f"expected a parameter of {who} out of {', '.join(sorted(names))}; got {key!r}")


def _checked(key: str, value: Any, default: Any, what: str, is_known: bool) -> Any:
    """One plain value; `default` is the library's, whose type it must have."""
    if value is None and default is None:
        return value
    if key in COUNTS:
        return number(value, what, at_least=COUNTS[key], whole=True)
    if key in POSITIVE:
        return number(value, what, above=0)
    if key in FACTORS:
        return number(value, what)
    if isinstance(default, int | float) and not isinstance(default, bool):
        return number(value, what)
    wanted, words = _type_of(default)
    if wanted is not None and not isinstance(value, wanted):
        raise TypeError(f"expected {what} as {words}, got {value!r}")
    if wanted is None and is_known and isinstance(value, bool):
        raise TypeError(f"expected {what} as a number, string or list, got {value!r}")
    _refuse_nan(value, what)
    return value


def _type_of(default: Any) -> tuple[type | None, str]:
    """The type of what may stand in place of a default, and its name; None where the default says nothing."""
    for kind, wanted, words in ((bool, bool, "True or False"), (str, str, "a string"), (tuple, list, "a list")):
        if isinstance(default, kind):
            return wanted, words
    return None, ""


def _refuse_nan(value: Any, what: str) -> None:
    for part in value if isinstance(value, list) else [value]:
        if isinstance(part, float) and not math.isfinite(part):
            raise ValueError(f"expected {what} without NaN and infinity, got {value!r}")
