"""An attack by library and name, as a user writes it down and as an evaluation runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.attacks import Leave
from art_ext.attacks.renamed import renamed_fields
from art_ext.evaluation.backends.entry import PER_GRADIENT, Backend, Entry
from art_ext.evaluation.backends.parameters import checked
from art_ext.evaluation.backends.registry import BACKENDS
from art_ext.evaluation.threat import Knowledge, Threat
from art_ext.plain import number, plain

Function = Callable[[nn.Module, Tensor, Tensor, Threat], Tensor]
YOURS = "yours"
TARGETS = ("", "random", "least likely")
ON = ("all", "deterministic", "randomised")
UNKNOWN_STEPS = 40
"""Steps that an attack of the user's is thought to take."""


@renamed_fields(draws="eot_samples")
@dataclass(frozen=True)
class Attack:
    """An attack by library and name, with its parameters in that library's own words.

    Args:
        backend: a key of `BACKENDS`; "yours" with a function of your own.
        name: one of the backend's names.
        parameters: handed to the library; every one stands in the report. Numbers of numpy and torch become Python's.
        images: attack only the first so many images; all of them unless given.
        eot_samples: average over so many samples of a randomised defence (EOT); the evaluation's number unless given.
        on: "all" models, or only the "deterministic" or the "randomised" ones.
        knowledge: on a defended model, run it under these alone; under all that the evaluation asks for unless given.
        targeted: "random" wants a random other class, "least likely" the one of the smallest logit, "" any other class.
        label: replaces the title, to tell apart two attacks that differ in what a title does not show.
        function: (module, x, y, threat) to x_adv, for the backend "yours".
        black_box: whether that function uses no gradient; of a library's attack the library's entry says it.

    Raises:
        TypeError: a value of another type than is expected.
        ValueError: unknown backend, name, parameter, `on`, `knowledge` or `targeted`; a number that is out of range; a
            function without "yours" or the other way round.
    """

    backend: str
    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    images: int | None = None
    eot_samples: int | None = None
    on: str = "all"
    knowledge: tuple[Knowledge, ...] | None = None
    targeted: str = ""
    label: str = ""
    function: Function | None = None
    black_box: bool = False

    def __post_init__(self) -> None:
        self._check_backend()
        self._check_choices()
        for what in ("images", "eot_samples"):
            if getattr(self, what) is not None:
                self._set(what, _count(getattr(self, what), what))
        entry = self._entry
        if entry is not None:
            self._set("black_box", entry.black_box)
            self._set("parameters", checked(BACKENDS[self.backend], self.name, self.parameters, self._who))
        else:
            self._set("parameters", plain(self.parameters, f"the parameters of {self._who}"))

    def _set(self, what: str, value: Any) -> None:
        object.__setattr__(self, what, value)

    @property
    def _who(self) -> str:
        return f"{self.backend} {self.name}"

    @property
    def _library(self) -> Backend | None:
        return None if self.function is not None else BACKENDS[self.backend]

    @property
    def _entry(self) -> Entry | None:
        return None if self._library is None else self._library.entries[self.name]

    def _check_backend(self) -> None:
        if (self.backend == YOURS) != (self.function is not None):
            raise ValueError(f"expected a function exactly for the backend {YOURS!r}, got backend {self.backend!r}")
        if self.function is not None:
            if not callable(self.function):
                raise TypeError(f"expected function to be callable, got {type(self.function).__name__}")
            return
        if self.backend not in BACKENDS:
            raise ValueError(f"expected backend to be one of {', '.join(BACKENDS)}; got {self.backend!r}")
        if self.name not in BACKENDS[self.backend].names:
            names = ", ".join(BACKENDS[self.backend].names)
            raise ValueError(f"expected an attack of {self.backend} out of {names}; got {self.name!r}")

    def _check_choices(self) -> None:
        for what in ("name", "label"):
            if not isinstance(getattr(self, what), str):
                raise TypeError(f"expected {what} as a string, got {getattr(self, what)!r}")
        if not isinstance(self.black_box, bool):
            raise TypeError(f"expected black_box as True or False, got {self.black_box!r}")
        if self.on not in ON or self.targeted not in TARGETS:
            raise ValueError(
                "expected on='all', 'deterministic' or 'randomised' and targeted='', 'random' or 'least likely', "
                f"got on={self.on!r} and targeted={self.targeted!r}"
            )
        if self.targeted and self.function is None and not self._targetable:
            raise ValueError(f"expected an untargeted attack, got {self._who} with targeted={self.targeted!r}")
        known = self.knowledge
        if known is None:
            return
        held = isinstance(known, tuple | list) and known and all(isinstance(k, Knowledge) for k in known)
        if not held:
            raise ValueError(f"expected knowledge to hold members of Knowledge, got {known!r}")
        self._set("knowledge", tuple(known))

    @property
    def _targetable(self) -> bool:
        return BACKENDS[self.backend].entries[self.name].targeted

    @property
    def draws(self) -> int | None:
        """The old name of `eot_samples`."""
        return self.eot_samples

    @property
    def gradient_free(self) -> bool:
        """Whether it uses no gradient: `black_box`."""
        return self.black_box

    @property
    def follows_gradients(self) -> bool:
        """Whether it can follow any gradient, such as that of a method's adaptive attack."""
        return self._entry is not None and self._entry.follows_gradients and not self.targeted

    @property
    def leaves(self) -> bool:
        """Whether images that are broken can leave its batch."""
        return self._entry is not None and self._entry.leaves and self.parameters.get("check_every") is None

    @property
    def only_leaves(self) -> bool:
        """Whether broken images are always taken out of its batch, as AutoAttack does."""
        return self._entry is not None and self._entry.only_leaves

    @property
    def title(self) -> str:
        """For people, and what tells the attacks of one evaluation apart."""
        return self.titled(self.eot_samples or 1)

    def titled(self, eot_samples: int) -> str:
        """The title where the attack averages over so many samples."""
        if self.label:
            return self.label
        loss = f" {self.parameters['loss']}" if "loss" in self.parameters else ""
        aim = f" targeted ({self.targeted})" if self.targeted else ""
        bound = f" {self.bound[1]:g}" if self.bound else ""
        steps = f"-{self.parameters['steps']}" if "steps" in self.parameters else ""
        eot = f" + EOT-{eot_samples}" if eot_samples > 1 else ""
        return f"{self.backend} {self.name}{steps}{bound}{loss}{aim}{eot}"

    @property
    def bound(self) -> tuple[str, float] | None:
        """Name and value of its own bound, for an attack that does not stay in a ball."""
        own = None if self._entry is None else self._entry.non_lp
        return None if own is None else (own[0], float(self.parameters.get(*own)))

    def cost(self, eot_samples: int = 1) -> float:
        """Roughly the forward passes that it takes an image; a backward pass counts as two."""
        if self._entry is None:
            steps = self.parameters.get("steps", UNKNOWN_STEPS)
            return PER_GRADIENT * eot_samples * (steps if isinstance(steps, int) else UNKNOWN_STEPS)
        return eot_samples * max(1.0, float(self._entry.cost(self.parameters)))

    @property
    def effort(self) -> tuple[int | None, tuple[str, ...]]:
        """Gradient steps of a start, and the losses that it climbs; None and none for a function of one's own."""
        return (None, ()) if self._entry is None else self._entry.effort(self.parameters)

    def stated(self, threat: Threat) -> dict[str, Any]:
        """Every parameter of the attack as JSON values, the library's defaults included; a module by its class."""
        found = dict(self.parameters)
        if self._library is not None:
            found = self._library.stated(self.name, threat, self.parameters)
        return {k: type(v).__name__ if isinstance(v, nn.Module) else plain(v, k) for k, v in found.items()}

    def versions(self) -> dict[str, str]:
        """Of the library; raises ImportError where it is missing."""
        return {} if self._library is None else self._library.versions()

    def __call__(
        self, module: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, leave: Leave | None = None
    ) -> Tensor:
        """Adversarial examples (N, C, H, W), checked against the threat; x and y are left as they are.

        Gradients are on inside, whatever the caller's mode is, and the attack gets images that require none.

        Args:
            module: images (N, C, H, W) to logits (N, K).
            x: clean images in [0, 1].
            y: labels (N,).
            threat: ball that the examples must lie in.
            leave: images that are broken leave the batch of an attack that can do that (most native ones); what it
                returns for them is what broke them, not the worst that it would have found.

        Raises:
            ImportError: the library is not installed.
            ValueError: the library cannot do it, or the attack left the ball or the box, or returned NaN (`Cheated`).
        """
        with torch.inference_mode(False), torch.enable_grad():
            x, y = x.detach().clone(), y.detach().clone()
            if self._library is None:
                assert self.function is not None
                x_adv = self.function(module, x.clone(), y.clone(), threat)
            else:
                goal = self.goal(module, x, y)
                assert self._entry is not None
                more = {"leave": leave} if self.leaves and leave is not None else {}
                x_adv = self._library.run(
                    self.name, module, x.clone(), y.clone(), threat, self.parameters, goal, **more
                )  # fmt: skip
            if not isinstance(x_adv, Tensor):
                raise TypeError(f"expected {self.title} to return a tensor, got {type(x_adv).__name__}")
            x_adv = x_adv.detach().to(x)
            threat.refuse_cheats(x, x_adv, self.title, ball=self.bound is None)
        return x_adv

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
        return logits.nan_to_num(torch.inf).masked_fill(own, torch.inf).argmin(1)


def _count(value: Any, what: str) -> int:
    try:
        return int(number(value, what, at_least=1, whole=True))
    except ValueError:
        raise ValueError(f"expected {what} >= 1 as a whole number, got {what}={value}") from None
