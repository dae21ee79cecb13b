"""The objectives that train a method: a function a method, whose keyword-only arguments are the list of its options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import singledispatch, wraps
from typing import Any

import numpy as np
from torch import nn

from art_ext.attacks import NORMS, Norm
from art_ext.plain import number
from art_ext.purifiers.base import Purifier
from art_ext.training import Objective

NUMBERS: Mapping[Any, type] = {int: int, int | None: int, float: float, float | None: float}
"""What options are annotated with that are numbers."""
OPTIONAL = (int | None, float | None)
RANGED = ("eps", "steps")
"""Those of a training attack, which `art_ext.attacks.settings` checks with their ranges."""
Stages = Callable[..., list[Objective]]
TAKEN = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@singledispatch
def stages(model: nn.Module, classifier: nn.Module | None = None, **options: Any) -> list[Objective]:
    """The objectives that train a method, in order; none where there is nothing to train.

    Each method registers its function, and `Purifier.stages` calls it. A class of purifiers that writes a `stages` of
    its own is asked for that, so trainers and command line call `purifier.stages(...)`.

    Args:
        model: the purifier, or the DRRDN.
        classifier: images in [0, 1] to logits, for methods that are trained against one.
        options: of the method, see `options_of`.

    Raises:
        TypeError: an option that the method does not have, or no purifier.
        ValueError: an option out of its range, or of a stage that is not asked for.
    """
    if not isinstance(model, Purifier):
        raise TypeError(f"expected a purifier or a DRRDN to train, got {type(model).__name__}")
    if type(model).stages is not Purifier.stages:
        return type(model).stages(model, classifier, **options)
    return registered(model, classifier, **options)


def registered(purifier: Purifier, classifier: nn.Module | None = None, **options: Any) -> list[Objective]:
    """What the function that is registered for its class gives; nothing, and no options, where there is none."""
    function = stages.dispatch(type(purifier))
    if function is not stages.dispatch(object):
        return function(purifier, classifier, **options)
    check_options(Purifier, options)
    return []


def options_of(kind: type[nn.Module]) -> Mapping[str, inspect.Parameter]:
    """The options of a method's training, by name, as its `stages` has them.

    Args:
        kind: a class of purifiers, or DRRDN. Its own `stages` counts, or else the function that it has registered; one
            that takes `**options` passes them on to the class above.
    """
    owner = next((c for c in kind.__mro__ if issubclass(c, Purifier) and "stages" in vars(c)), Purifier)
    function = stages.dispatch(kind) if owner is Purifier else vars(owner)["stages"]
    parameters = signature_of(function).parameters.values()
    passes_on = owner is not Purifier and any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    found = {k: p for k, p in arguments_of(function).items() if k != "classifier"}
    return {**(options_of(owner.__mro__[1]) if passes_on else {}), **found}


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """The signature of a function, with types for annotations where they can be read."""
    try:
        return inspect.signature(function, eval_str=True)
    except NameError:  # of what a user imports for type checkers alone
        return inspect.signature(function)


def arguments_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """What a function takes by name after its first argument."""
    _, *parameters = signature_of(function).parameters.values()
    return {p.name: p for p in parameters if p.kind in TAKEN}


def check_options(kind: type[nn.Module], options: Mapping[str, Any]) -> None:
    """Refuses what is no option of a method.

    Raises:
        TypeError: with the names.
    """
    known = options_of(kind)
    unknown = sorted(options.keys() - known.keys())
    if unknown:
        raise TypeError(
            f"expected no further arguments than the options of {kind.__name__} ({', '.join(known) or 'none'}), "
            f"got {unknown}"
        )


def numbers(function: Stages) -> Stages:
    """The same function of a method, which refuses options that are to be numbers, switches or modules and are none.

    Of a whole number no fraction is taken, of a rate nothing that is negative or infinite; a switch is True or False.
    What else an option has to be is the objective's to say. The function raises TypeError and ValueError for it, before
    it is called.
    """
    known = arguments_of(function)

    @wraps(function)
    def checked(model: nn.Module, classifier: nn.Module | None = None, **options: Any) -> list[Objective]:
        for name in options.keys() & known.keys():
            wanted, value = known[name].annotation, options[name]
            kind, rate = NUMBERS.get(wanted), name.endswith("rate")
            left_out = value is None and wanted in OPTIONAL
            if kind is not None and not left_out and name not in RANGED:
                number(value, name, whole=kind is int, finite=rate, at_least=0 if rate else None)
            if wanted is bool and not isinstance(value, bool | np.bool_):
                raise TypeError(f"expected {name} as True or False, got {value!r}")
            if wanted == nn.Module | None and not isinstance(value, nn.Module | None):
                raise TypeError(f"expected {name} as a module, got {type(value).__name__}")
        return function(model, classifier, **options)

    return checked


def check_unused(kind: type[nn.Module], switch: str, options: Mapping[str, Any]) -> None:
    """Refuses options of a stage that is switched off: they would be of no effect.

    Args:
        kind: the method.
        switch: what would ask for the stage.
        options: of that stage alone, as given.

    Raises:
        ValueError: one of them is not what it is by default.
    """
    known = options_of(kind)
    set_ = {k: v for k, v in options.items() if v is not known[k].default and v != known[k].default}
    if set_:
        got = ", ".join(f"{k}={v!r}" for k, v in set_.items())
        raise ValueError(f"expected {', '.join(set_)} only with {switch}, got {got}")


def named_norm(norm: Norm | str | None) -> Norm | None:
    """The norm that a name means; a norm or None as it is.

    Raises:
        ValueError: no norm of that name.
    """
    if not isinstance(norm, str):
        return norm
    if norm not in NORMS:
        raise ValueError(f"expected norm out of {', '.join(NORMS)}, got {norm!r}")
    return NORMS[norm]
