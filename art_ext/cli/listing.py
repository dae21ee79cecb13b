"""art-ext list: what there is."""

from __future__ import annotations

import json
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from art_ext.cli.errors import Debug, explained
from art_ext.cli.terminal import warn

if TYPE_CHECKING:
    from art_ext.plugins import Offer

OWN = "art_ext"
"""What is not another package's."""


class What(str, Enum):
    """What can be listed."""

    PRESETS = "presets"
    PURIFIERS = "purifiers"
    ATTACKS = "attacks"
    SUITES = "suites"
    PLANS = "plans"  # the old name of suites


def listing(
    what: Annotated[What | None, typer.Argument(help="Only these. Default: everything.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    debug: Debug = False,
) -> None:
    """List presets, purifiers, attacks by library, and suites, which are ready-made evaluations.

    Purifiers and suites of other packages are listed by name.
    """
    with explained(debug):
        if what is What.PLANS:
            warn("plans are called suites now: art-ext list suites")
        makers = {What.PRESETS: _presets, What.PURIFIERS: _purifiers, What.ATTACKS: _attacks, What.SUITES: _suites}
        if what is What.PLANS or (what is None and as_json):
            makers[What.PLANS] = _plans
        found = {w.value: make() for w, make in makers.items() if what in (None, w)}
        if as_json:
            typer.echo(json.dumps(found, indent=1))
            return
        from art_ext.cli.display import console, table

        out = console()
        for title, rows in found.items():
            header = list(rows[0])
            out.print(table(title, header, [[_text(row[h]) for h in header] for row in rows]))


def _presets() -> list[dict[str, Any]]:
    from art_ext import presets

    described = [presets.describe(name) for name in presets.names()]
    return [
        {
            "name": p.name,
            "class": p.class_name,
            "data": p.data,
            "measured": dict(p.measured),
            "paper": p.paper,
            "classifier": p.classifier,
        }
        for p in described
    ]


def _purifiers() -> list[dict[str, Any]]:
    from art_ext import plugins
    from art_ext.cli.methods import methods
    from art_ext.purifiers import GROUP, PURIFIERS

    found = [{"name": n, "class": p.__name__, "paper": p.paper, "from": OWN} for n, p in PURIFIERS.items()]
    offered = plugins.offers(GROUP, methods())
    return found + [{"name": o.name, "class": o.value, "paper": "", "from": _source(o)} for o in offered]


def _source(offer: Offer) -> str:
    """Where another package's purifier or suite is from, and why it cannot be had; nothing is imported to know more."""
    return f"{offer.source} (not to be had: {offer.fault})" if offer.fault else offer.source


def _attacks() -> list[dict[str, Any]]:
    from art_ext.evaluation import BACKENDS

    found = []
    for name, backend in BACKENDS.items():
        try:
            state = ", ".join(f"{library} {version}" for library, version in backend.versions().items())
        except ImportError as error:
            state = str(error)
        found.append({"library": name, "attacks": list(backend.names), "state": state})
    return found


def _suites() -> list[dict[str, Any]]:
    from art_ext import plugins
    from art_ext.evaluation import SUITES, Threat, suite
    from art_ext.evaluation.suites import GROUP

    found = []
    for name in SUITES:
        made = suite(name, Threat(), classes=10)
        options = made.options
        known = {"knowledge": [k.value for k in options["knowledge"]]}
        numbers = {key: options[key] for key in ("eot_samples", "repeats")}
        found.append({"name": name, "attacks": [a.title for a in made.attacks], **known, **numbers, "from": OWN})
    unknown: dict[str, Any] = {"attacks": [], "knowledge": [], "eot_samples": None, "repeats": None}
    return found + [{"name": o.name, **unknown, "from": _source(o)} for o in plugins.offers(GROUP, SUITES)]


def _plans() -> list[dict[str, Any]]:
    """The suites under the old names of their numbers."""
    old = {"eot_samples": "draws", "repeats": "redraws"}
    return [{old.get(k, k): v for k, v in row.items()} for row in _suites()]


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in value.items())
    if value is None:
        return ""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
