"""Attack libraries behind one contract: (module, x, y) to x_adv inside a threat, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.evaluation.backends import art, autoattack, native, torchattacks
from art_ext.evaluation.threat import Knowledge, Threat

Run = Callable[[str, nn.Module, Tensor, Tensor, Threat, Mapping[str, Any], Tensor | None], Tensor]
Function = Callable[[nn.Module, Tensor, Tensor, Threat], Tensor]
TARGETS = ("", "random", "least likely")


@dataclass(frozen=True)
class Backend:
    """A library of attacks.

    Attributes:
        names: attacks that it gives.
        run: name, module, x, y, threat, parameters, goal to x_adv. The module maps images in [0, 1] to logits; the goal
            holds the classes that a targeted attack wants, None for an untargeted one.
        stated: name, threat, parameters to every parameter that has a plain value, the library's defaults included.
        versions: of the library, by distribution name; raises ImportError where it is missing.
        black_box: attacks that use no gradient.
        own_threat: attacks that do not stay in a ball, with the parameter that bounds them and its default.
    """

    names: tuple[str, ...]
    run: Run
    stated: Callable[[str, Threat, Mapping[str, Any]], dict[str, Any]]
    versions: Callable[[], dict[str, str]]
    black_box: frozenset[str] = frozenset()
    own_threat: Mapping[str, tuple[str, float]] = field(default_factory=dict)


BACKENDS = {
    "native": Backend(native.NAMES, native.run, native.stated, native.versions, own_threat=native.OWN_THREAT),
    "art": Backend(art.NAMES, art.run, art.stated, art.versions, art.BLACK_BOX),
    "torchattacks": Backend(
        torchattacks.NAMES, torchattacks.run, torchattacks.stated, torchattacks.versions, torchattacks.BLACK_BOX
    ),
    "autoattack": Backend(autoattack.NAMES, autoattack.run, autoattack.stated, autoattack.versions),
}
YOURS = "yours"


@dataclass(frozen=True)
class Attack:
    """An attack by library and name, with its parameters in that library's own words.

    Args:
        backend: a key of `BACKENDS`; "yours" with a function of your own.
        name: one of the backend's names.
        parameters: handed to the library; every one stands in the report.
        images: attack only the first so many images; all of them unless given.
        draws: average over so many draws of a randomised defence (EOT); the evaluation's number unless given.
        on: "all" models, or only the "deterministic" or the "randomised" ones.
        knowledge: on a defended model, run it under these alone; under all that the evaluation asks for unless given.
        targeted: "random" wants a random other class, "least likely" the one of the smallest logit, "" any other class.
        label: replaces the title, to tell apart two attacks that differ in what a title does not show.
        function: (module, x, y, threat) to x_adv, for the backend "yours".
        black_box: whether that function uses no gradient.

    Raises:
        ValueError: unknown backend, name, `on`, `knowledge` or `targeted`; images or draws below 1; a function without
            "yours" or the other way round.
    """

    backend: str
    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    images: int | None = None
    draws: int | None = None
    on: str = "all"
    knowledge: tuple[Knowledge, ...] | None = None
    targeted: str = ""
    label: str = ""
    function: Function | None = None
    black_box: bool = False

    def __post_init__(self) -> None:
        if (self.backend == YOURS) != (self.function is not None):
            raise ValueError(f"expected a function exactly for the backend {YOURS!r}, got backend {self.backend!r}")
        if self.function is None:
            self._check_name()
        if min(self.draws or 1, self.images or 1, 1) < 1 or 0 in (self.draws, self.images):
            raise ValueError(f"expected draws >= 1 and images >= 1, got draws={self.draws} and images={self.images}")
        known = self.knowledge
        if known is not None and not (
            isinstance(known, tuple) and known and all(isinstance(k, Knowledge) for k in known)
        ):
            raise ValueError(f"expected knowledge to hold members of Knowledge, got {self.knowledge!r}")
        if self.on not in ("all", "deterministic", "randomised") or self.targeted not in TARGETS:
            raise ValueError(
                "expected on='all', 'deterministic' or 'randomised' and targeted='', 'random' or 'least likely', "
                f"got on={self.on!r} and targeted={self.targeted!r}"
            )

    def _check_name(self) -> None:
        if self.backend not in BACKENDS:
            raise ValueError(f"expected backend to be one of {', '.join(BACKENDS)}; got {self.backend!r}")
        backend = BACKENDS[self.backend]
        if self.name not in backend.names:
            names = ", ".join(backend.names)
            raise ValueError(f"expected an attack of {self.backend} out of {names}; got {self.name!r}")
        object.__setattr__(self, "black_box", self.name in backend.black_box)

    @property
    def title(self) -> str:
        """For people, and what tells the attacks of one evaluation apart."""
        return self.titled(self.draws or 1)

    def titled(self, draws: int) -> str:
        """The title where the attack averages over so many draws."""
        if self.label:
            return self.label
        loss = f" {self.parameters['loss']}" if "loss" in self.parameters else ""
        aim = f" targeted ({self.targeted})" if self.targeted else ""
        bound = f" {self.bound[1]:g}" if self.bound else ""
        steps = f"-{self.parameters['steps']}" if "steps" in self.parameters else ""
        eot = f" + EOT-{draws}" if draws > 1 else ""
        return f"{self.backend} {self.name}{steps}{bound}{loss}{aim}{eot}"

    @property
    def bound(self) -> tuple[str, float] | None:
        """Name and value of its own bound, for an attack that does not stay in a ball."""
        own = BACKENDS[self.backend].own_threat.get(self.name) if self.function is None else None
        return None if own is None else (own[0], float(self.parameters.get(*own)))

    def stated(self, threat: Threat) -> dict[str, Any]:
        """Every parameter of the attack, the library's defaults included."""
        if self.function is not None:
            return dict(self.parameters)
        return BACKENDS[self.backend].stated(self.name, threat, self.parameters)

    def versions(self) -> dict[str, str]:
        """Of the library; raises ImportError where it is missing."""
        return {} if self.function is not None else BACKENDS[self.backend].versions()

    def __call__(self, module: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        """Adversarial examples (N, C, H, W), checked against the threat.

        Raises:
            ImportError: the library is not installed.
            ValueError: the library cannot do it, or the attack left the ball or the box, or returned NaN (`Cheated`).
        """
        if self.function is not None:
            x_adv = self.function(module, x, y, threat)
        else:
            goal = self.goal(module, x, y)
            x_adv = BACKENDS[self.backend].run(self.name, module, x, y, threat, self.parameters, goal)
        threat.refuse_cheats(x, x_adv.detach(), self.title, ball=self.bound is None)
        return x_adv.detach()

    def goal(self, module: nn.Module, x: Tensor, y: Tensor) -> Tensor | None:
        """The classes that the attack wants, (N,); None when it is untargeted. Random ones are the ambient draw's."""
        if not self.targeted:
            return None
        with torch.no_grad():
            logits = module(x)
        if self.targeted == "random":
            shift = torch.randint(1, logits.shape[1], y.shape, device=y.device)
            return (y + shift) % logits.shape[1]
        own = nn.functional.one_hot(y, logits.shape[1]).bool()
        return logits.masked_fill(own, torch.inf).argmin(1)
