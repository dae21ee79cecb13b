"""What is known of one attack of a library, and of a library: everything else is derived from these."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from art_ext.evaluation.threat import Threat

PLAIN = (bool, int, float, str)
Run = Callable[..., Tensor]
"""Name, module, x, y, threat, parameters and goal to x_adv; the module maps images in [0, 1] to logits.

Of an entry that `leaves` it also takes the keyword `leave`."""
PER_GRADIENT = 3.0
"""What a forward and a backward pass cost, in forward passes."""
LOSSES = {"ce": "cross_entropy", "difference_logits_ratio": "dlr"}
"""Names of losses in the words of libraries, and in ours."""


def nothing(_: Any) -> dict[str, Any]:
    """No defaults but the library's own."""
    return {}


def climbing(steps: int, *losses: str) -> Callable[[Mapping[str, Any]], tuple[int, tuple[str, ...]]]:
    """Gradient steps and losses of an attack, these where its parameters name none.

    Args:
        steps: of one start.
        losses: that it climbs, in our words.
    """

    def effort(p: Mapping[str, Any]) -> tuple[int, tuple[str, ...]]:
        loss = p.get("loss", p.get("loss_type"))
        given = p.get("steps", p.get("max_iter", steps))
        return int(given), losses if loss is None else (LOSSES.get(loss, str(loss)),)

    return effort


def without_gradients(_: Mapping[str, Any]) -> tuple[int, tuple[str, ...]]:
    """No gradient step and no loss."""
    return 0, ()


def anything(_: Any) -> None:
    """Parameters need no check but that of each by itself."""


@dataclass(frozen=True)
class Entry:
    """An attack: what runs it, what it costs and what it can do.

    Attributes:
        function: what runs it, by the threat's norm; a library's class by its name, so that nothing is imported.
        cost: its parameters, defaults included, to roughly the forward passes that it takes an image.
        effort: its parameters to its gradient steps and the losses that it climbs, see `climbing`.
        defaults: threat to the parameters that differ from the function's own defaults.
        black_box: it uses no gradient.
        targeted: it has a targeted form.
        non_lp: the parameter that bounds it and its default, for an attack that stays in no ball.
        follows_gradients: it can go along any gradient that it is given.
        leaves: images that are broken can leave its batch, so that `run` takes `leave`.
        only_leaves: they do, whatever is asked for.
        more: parameters that the function does not have, and their defaults; None where there is none.
        objects: parameters that may be modules.
        check: raises a ValueError for parameters that do not go together.
    """

    function: Mapping[str, Any]
    cost: Callable[[Mapping[str, Any]], float]
    effort: Callable[[Mapping[str, Any]], tuple[int, tuple[str, ...]]] = without_gradients
    defaults: Callable[[Threat], dict[str, Any]] = nothing
    black_box: bool = False
    targeted: bool = True
    non_lp: tuple[str, float] | None = None
    follows_gradients: bool = False
    leaves: bool = False
    only_leaves: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)
    objects: frozenset[str] = frozenset()
    check: Callable[[Mapping[str, Any]], None] = anything


@dataclass(frozen=True)
class Backend:
    """A library of attacks.

    Attributes:
        entries: its attacks by name.
        run: runs one. The goal holds the classes that a targeted attack wants, None for an untargeted one.
        stated: name, threat, parameters to every parameter that has a plain value, the library's defaults included.
        versions: of the library, by distribution name; raises ImportError where it is missing.
        load: what an entry names as its function to what is called; raises ImportError where the library is missing.
        given: parameters that the backend sets itself: images, the threat's norm and radius, and the like.
        aliases: our name of a parameter to the library's.
    """

    entries: Mapping[str, Entry]
    run: Run
    stated: Callable[[str, Threat, Mapping[str, Any]], dict[str, Any]]
    versions: Callable[[], dict[str, str]]
    load: Callable[[Any], Callable[..., Any]]
    given: frozenset[str] = frozenset()
    aliases: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Attacks that it gives."""
        return tuple(self.entries)

    @property
    def black_box(self) -> frozenset[str]:
        """Attacks that use no gradient."""
        return frozenset(name for name, entry in self.entries.items() if entry.black_box)

    @property
    def non_lp(self) -> dict[str, tuple[str, float]]:
        """Attacks that do not stay in a ball, with the parameter that bounds them and its default."""
        return {name: entry.non_lp for name, entry in self.entries.items() if entry.non_lp is not None}

    @property
    def own_threat(self) -> dict[str, tuple[str, float]]:
        """The old name of `non_lp`."""
        return self.non_lp

    def parameters(self, name: str) -> dict[str, Any]:
        """Names and defaults of what can be set of an attack, in the library's words; None where there is no default.

        Raises:
            ImportError: the library is missing.
        """
        entry = self.entries[name]
        found: dict[str, Any] = {}
        for function in entry.function.values():
            found |= signature(self.load(function))
        bound = {entry.non_lp[0]} if entry.non_lp else set()
        kept = {k: v for k, v in found.items() if k not in self.given - bound}
        return {**kept, **entry.more}


def signature(function: Callable[..., Any]) -> dict[str, Any]:
    """Names and defaults of a function's parameters; None for those without a default."""
    found = inspect.signature(function).parameters.values()
    return {p.name: None if p.default is p.empty else p.default for p in found}


def defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """Names and defaults of the parameters whose default is a plain value or None."""
    found = {p.name: p.default for p in inspect.signature(function).parameters.values()}
    return {k: v for k, v in found.items() if v is None or isinstance(v, PLAIN)}
