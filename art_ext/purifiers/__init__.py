"""Purifiers: one folder a paper, one contract for all; those of other packages by name."""

from art_ext import plugins
from art_ext.purifiers.atop import AToP
from art_ext.purifiers.base import Purifier
from art_ext.purifiers.cdvae import CDVAE
from art_ext.purifiers.dir import DIR
from art_ext.purifiers.foreign import Chain, Foreign
from art_ext.purifiers.rdp import RDP

PURIFIERS: dict[str, type[Purifier]] = {p.name: p for p in (RDP, CDVAE, DIR, AToP)}
"""Every registered method by name; the contract tests and presets read this."""
GROUP = "art_ext.purifiers"
"""The entry points through which other packages offer purifiers: a name, and the class."""


def purifier_names() -> list[str]:
    """This package's names, then those that other packages offer, which are not imported."""
    return [*dict.fromkeys([*PURIFIERS, *(offer.name for offer in plugins.offers(GROUP))])]


def purifier_class(name: str) -> type[Purifier]:
    """The class of purifiers of a name, out of this package or imported from another one.

    Raises:
        ValueError: no such name; or a class of another package that cannot be imported or is no purifier, with the
            name of the distribution.
    """
    if name in PURIFIERS:
        return PURIFIERS[name]
    try:
        found, offer = plugins.load(GROUP, name, "purifier", PURIFIERS)
    except KeyError:
        raise ValueError(f"expected a purifier out of {', '.join(purifier_names())}; got {name!r}") from None
    where = f"{offer.value} of {offer.source}"
    if not isinstance(found, type) or not issubclass(found, Purifier):
        got = found.__name__ if isinstance(found, type) else type(found).__name__
        raise ValueError(f"expected {where} as a class of purifiers (art_ext.purifiers.Purifier), got {got}")
    missing = [key for key in ("name", "paper") if not isinstance(getattr(found, key, None), str)]
    if missing:
        raise ValueError(f"expected {where} to set {' and '.join(missing)} as texts, got none")
    return found


__all__ = [
    "CDVAE",
    "DIR",
    "PURIFIERS",
    "RDP",
    "AToP",
    "Chain",
    "Foreign",
    "Purifier",
    "purifier_class",
    "purifier_names",
]
