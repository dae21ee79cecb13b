"""What other installed packages offer through entry points; nothing of theirs is imported before it is used."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from importlib import metadata
from typing import Any


@dataclass(frozen=True)
class Offer:
    """An entry point.

    Attributes:
        name: under which it is offered.
        value: where it is, as `package.module:name`.
        source: name and version of the distribution.
        fault: why it cannot be had; empty where it can be asked for.
    """

    name: str
    value: str
    source: str
    fault: str = ""


def offers(group: str, taken: Collection[str] = ()) -> list[Offer]:
    """The entry points of a group in all installed distributions, sorted by name.

    Args:
        group: such as "art_ext.purifiers".
        taken: names that this package has itself: an offer under one of them cannot be had.
    """
    points = metadata.entry_points(group=group)
    sources: dict[str, set[str]] = {}
    for point in points:
        sources.setdefault(point.name, set()).add(_source(point))
    found = [Offer(p.name, p.value, _source(p), _fault(p.name, sources[p.name], taken)) for p in points]
    return sorted(found, key=lambda offer: (offer.name, offer.source))


def _source(point: metadata.EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "an unnamed distribution"


def _fault(name: str, sources: Collection[str], taken: Collection[str]) -> str:
    if name in taken:
        return "the name is taken by art_ext"
    return f"the name is offered by {' and '.join(sorted(sources))}" if len(sources) > 1 else ""


def load(group: str, name: str, what: str, taken: Collection[str] = ()) -> tuple[Any, Offer]:
    """What an entry point names, imported now, and its offer.

    Args:
        group: see `offers`.
        name: of the entry point.
        what: what it should be, for the errors.
        taken: see `offers`.

    Raises:
        KeyError: no distribution offers the name.
        ValueError: it cannot be had or imported; names the distribution.
    """
    found = [offer for offer in offers(group, taken) if offer.name == name]
    if not found:
        raise KeyError(name)
    offer = found[0]
    if offer.fault:
        raise ValueError(f"expected one {what} {name!r} out of {offer.source}, got none: {offer.fault}")
    try:
        return metadata.EntryPoint(name, offer.value, group).load(), offer
    except (Exception, SystemExit) as error:  # whatever the import of somebody's package raises
        raise ValueError(
            f"expected {what} {name!r} of {offer.source} ({offer.value}) to be importable, got "
            f"{type(error).__name__}: {error}"
        ) from error
