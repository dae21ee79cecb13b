"""Attack libraries behind one contract: (module, x, y) to x_adv inside a threat, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from art_ext.evaluation.backends import art, autoattack, native, torchattacks
from art_ext.evaluation.threat import Threat

Run = Callable[[str, nn.Module, Tensor, Tensor, Threat, Mapping[str, Any]], Tensor]


@dataclass(frozen=True)
class Backend:
    """A library of attacks.

    Attributes:
        names: attacks that it gives.
        run: name, module, x, y, threat, parameters to x_adv. The module maps images in [0, 1] to logits.
        versions: of the library, by distribution name; raises ImportError where it is missing.
    """

    names: tuple[str, ...]
    run: Run
    versions: Callable[[], dict[str, str]]


BACKENDS = {
    "native": Backend(native.NAMES, native.run, native.versions),
    "art": Backend(art.NAMES, art.run, art.versions),
    "torchattacks": Backend(torchattacks.NAMES, torchattacks.run, torchattacks.versions),
    "autoattack": Backend(autoattack.NAMES, autoattack.run, autoattack.versions),
}


@dataclass(frozen=True)
class Attack:
    """An attack by library and name, with its parameters in that library's own words.

    Args:
        backend: a key of `BACKENDS`.
        name: one of the backend's names.
        parameters: handed to the library; every one stands in the report.
        images: attack only the first so many images; all of them unless given.
        draws: average over so many draws of the defence's randomness (EOT).

    Raises:
        ValueError: unknown backend or name, images or draws below 1.
    """

    backend: str
    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    images: int | None = None
    draws: int = 1

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise ValueError(f"expected backend to be one of {', '.join(BACKENDS)}; got {self.backend!r}")
        if self.name not in BACKENDS[self.backend].names:
            names = ", ".join(BACKENDS[self.backend].names)
            raise ValueError(f"expected an attack of {self.backend} out of {names}; got {self.name!r}")
        if self.draws < 1 or (self.images is not None and self.images < 1):
            raise ValueError(f"expected draws >= 1 and images >= 1, got draws={self.draws} and images={self.images}")

    @property
    def title(self) -> str:
        """For people, and what tells the attacks of one evaluation apart."""
        loss = f" {self.parameters['loss']}" if "loss" in self.parameters else ""
        eot = f" + EOT-{self.draws}" if self.draws > 1 else ""
        steps = f"-{self.parameters['steps']}" if "steps" in self.parameters else ""
        return f"{self.backend} {self.name}{steps}{loss}{eot}"

    def __call__(self, module: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        """Adversarial examples (N, C, H, W), checked against the threat.

        Raises:
            ImportError: the library is not installed.
            ValueError: the attack left the ball or the box, or returned NaN.
        """
        x_adv = BACKENDS[self.backend].run(self.name, module, x, y, threat, self.parameters).detach()
        threat.refuse_cheats(x, x_adv, self.title)
        return x_adv
