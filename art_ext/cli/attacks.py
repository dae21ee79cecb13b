"""An attack as a text, for --attack."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from art_ext.cli import options
from art_ext.cli.errors import suggestion
from art_ext.cli.terminal import warn

if TYPE_CHECKING:
    from art_ext.evaluation import Attack

FIELDS = ("images", "eot_samples", "draws", "on", "targeted", "label")
"""Keys of --attack that are the evaluation's, not the library's."""


def attack_of(text: str) -> Attack:
    """The attack that library:name[:key=value,...] says; its parameters are known ones.

    Raises:
        TypeError, ValueError: another form, library, name or parameter, or a value that it cannot have.
        ImportError: the library is not installed.
    """
    from art_ext.evaluation import BACKENDS, Attack

    backend, _, rest = text.partition(":")
    name, _, said = rest.partition(":")
    if backend not in BACKENDS or name not in BACKENDS[backend].names:
        every = [f"{b}:{n}" for b, known in BACKENDS.items() for n in known.names]
        close = suggestion(f"{backend}:{name}", every)
        raise ValueError(f"expected --attack out of {', '.join(every)}; got {backend}:{name}{close}")
    # A value may be a list with commas of its own: only a comma before another key ends it.
    values = options.pairs(re.split(r",(?=\s*[A-Za-z_]\w*\s*=)", said) if said else [])
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
