"""The threat model: norm, radius and knowledge of the attacker."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import prod
from typing import Any

from torch import Tensor

from art_ext.attacks import NORMS, Norm
from art_ext.plain import number

SLACK = 1e-5
"""How far a returned example may exceed the ball or the box: float32 error."""


class Cheated(ValueError):
    """An attack returned examples outside the threat, outside [0, 1], of another shape, or not finite."""


@dataclass(frozen=True)
class Threat:
    """A ball around each image, in the units of the image, intersected with [0, 1].

    Args:
        norm: "Linf", "L2" or "L1".
        eps: radius; numbers of numpy and torch are taken.
        given: the radius as its user wrote it, such as "8/255", for the report; the decimal number unless given.

    Raises:
        TypeError: a radius that is no number.
        ValueError: unknown norm, or a radius that is negative or not finite.
    """

    norm: str = "Linf"
    eps: float = 8 / 255
    given: str = ""

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise ValueError(f"expected norm to be one of {', '.join(NORMS)}; got {self.norm!r}")
        object.__setattr__(self, "eps", float(number(self.eps, "eps", at_least=0)))

    def plain(self) -> dict[str, Any]:
        """As JSON values: norm, eps, and eps as it was written."""
        return {"norm": self.norm, "eps": self.eps, "given": self.given or f"{self.eps:g}"}

    @property
    def ball(self) -> Norm:
        """The norm as an object."""
        return NORMS[self.norm]

    def to_grey(self, shape: tuple[int, ...]) -> float:
        """The radius at which every image of the shape (C, H, W) can be turned into the same grey one."""
        pixels = prod(shape)
        return 0.5 * {"Linf": 1.0, "L2": pixels**0.5, "L1": pixels}[self.norm]

    def holds(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """Which x_adv (N, C, H, W) lie in the ball around their x (N, C, H, W) or (1, C, H, W): (N,), boolean."""
        return self.ball.size(x_adv - x) <= self.eps * (1 + 1e-4) + SLACK

    def refuse_cheats(self, x: Tensor, x_adv: Tensor, who: str, *, ball: bool = True) -> None:
        """Checks what an attack returned.

        Args:
            x: clean images.
            x_adv: what came back.
            who: for the message.
            ball: whether the examples must lie in the ball; not for attacks that have a threat of their own.

        Raises:
            Cheated: shape differs, values are NaN, outside [0, 1] or outside the ball; names the attack and the
                number of images.
        """
        if x_adv.shape != x.shape:
            raise Cheated(f"expected {who} to return shape {tuple(x.shape)}, got {tuple(x_adv.shape)}")
        bad = {
            "NaN or Inf": ~x_adv.isfinite().flatten(1).all(1),
            "values outside [0, 1]": ((x_adv < -SLACK) | (x_adv > 1 + SLACK)).flatten(1).any(1),
        }
        if ball:
            bad[f"{self.norm} distance above {self.eps:g}"] = ~self.holds(x, x_adv)
        for what, flags in bad.items():
            if bool(flags.any()):
                raise Cheated(f"expected {who} to stay inside the threat, got {what} on {int(flags.sum())} images")


class Knowledge(str, Enum):
    """What the attacker differentiates through; a field of every row of a report.

    `Knowledge("own")` and `Knowledge.OWN` are the old spelling of ADAPTIVE.

    Attributes:
        UNDEFENDED: the classifier, where there is no purifier to know about.
        TRANSFER: a separately trained surrogate.
        BLIND: the classifier alone, as if there were no purifier.
        BPDA: the purifier forward, its stand-in (identity) backward, then the classifier.
        FULL: purifier and classifier, exactly.
        ADAPTIVE: whatever the method makes possible: its `adaptive_attacks`, and everything that FULL has.
    """

    UNDEFENDED = "undefended"
    TRANSFER = "transfer"
    BLIND = "blind"
    BPDA = "bpda"
    FULL = "full"
    ADAPTIVE = "adaptive"
    OWN = "adaptive"  # noqa: PIE796  the old name of the same member

    @classmethod
    def _missing_(cls, value: object) -> Knowledge | None:
        return cls.ADAPTIVE if value == "own" else None

    @property
    def sees_defence(self) -> bool:
        """Whether the attacker differentiates the defence, and so meets its randomness."""
        return self not in (Knowledge.TRANSFER, Knowledge.BLIND)
