"""An attack as a text, for --attack."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from art_ext.cli import options
from art_ext.cli.errors import suggestion
from art_ext.cli.terminal import warn

if TYPE_CHECKING:
    from art_ext.evaluation import Attack

FIELDS = ("images", "eot_samples", "draws", "on", "targeted", "label")
"""Keys of --attack that are the evaluation's, not the library's."""


def attack_of(text: str) -> Attack:
    """The attack named by library:name[:key=value,...], with known parameters, or by file.py:function, a user's own.

    The function takes (module, x, y, threat) and gives x_adv; of the keys, those in `FIELDS` go with it.

    Raises:
        TypeError, ValueError: another form, library, name or parameter, or a value that it cannot have.
        ImportError: the library is not installed.
    """
    from art_ext.evaluation import BACKENDS, Attack

    if own := re.match(r"(.+\.py:\w+)(?::|$)", text):
        return _own(own[1], text[own.end() :])
    backend, _, rest = text.partition(":")
    name, _, said = rest.partition(":")
    if backend not in BACKENDS or name not in BACKENDS[backend].names:
        every = [f"{b}:{n}" for b, known in BACKENDS.items() for n in known.names]
        same = [full for full in every if full.split(":")[1].lower() == (name or backend).lower()]
        close = f"; did you mean {' or '.join(map(repr, same))}?" if same else suggestion(f"{backend}:{name}", every)
        raise ValueError(f"expected --attack out of {', '.join(every)}; got {backend}:{name}{close}")
    values = _values(said)
    fields = {k: values.pop(k) for k in FIELDS if k in values}
    if "draws" in fields:
        if "eot_samples" in fields:
            raise ValueError("expected eot_samples once, got draws, its old name, too")
        warn("draws of an attack are called eot_samples now")
        fields["eot_samples"] = fields.pop("draws")
    library = BACKENDS[backend]
    known = {*library.parameters(name)}
    known |= {ours for ours, theirs in library.aliases.items() if theirs in known}
    for key in values:
        if key not in known | library.given:  # what is given by the evaluation is refused by the attack
            names = ", ".join(sorted({*known, *FIELDS}))
            raise ValueError(f"expected a parameter of {backend}:{name} out of {names}; got {key!r}"
                             f"{suggestion(key, known)}")  # fmt: skip
    return Attack(backend, name, values, **fields)


def _own(spec: str, said: str) -> Attack:
    """An attack that a user's function makes, under the function's name unless a label is said.

    Raises:
        ValueError: no such file or function, or a key that is the library's.
        TypeError: something that cannot be called.
    """
    from art_ext.cli.code import code
    from art_ext.evaluation import Attack

    values, function = _values(said), code(spec)
    if unknown := [key for key in values if key not in FIELDS]:
        raise ValueError(f"expected keys out of {', '.join(FIELDS)} for an attack of your own, got {unknown[0]!r}")
    if not callable(function):
        raise TypeError(f"expected a function (module, x, y, threat) to x_adv, got {type(function).__name__}: {spec}")
    return Attack("yours", spec.rpartition(":")[2], function=function, **values)


def _values(said: str) -> dict[str, Any]:
    """What key=value,key=value says; a value may be a list with commas: only one before another key ends it."""
    return options.pairs(re.split(r",(?=\s*[A-Za-z_]\w*\s*=)", said) if said else [])
