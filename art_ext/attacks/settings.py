"""The settings of a training attack, checked before anything is trained."""

from __future__ import annotations

from typing import Any

from art_ext.attacks.norms import Linf, Norm
from art_ext.plain import number


def training_attack(
    eps: float, steps: int, step_size: float | None, norm: Norm | None = None, *, zero: bool = False
) -> tuple[float, int, float | None, Norm]:
    """The same in Python's numbers, and the norm, Linf unless given.

    Args:
        eps: radius in the units of the images, which lie in [0, 1].
        steps: of the attack.
        step_size: in the same units; None where the attack chooses it.
        norm: of the ball.
        zero: whether an eps or a step size of 0 is one.

    Raises:
        TypeError: what is no number.
        ValueError: an eps outside (0, 1] in Linf or not positive in others, fewer steps than one, or a step size that
            is not finite and positive: such an attack would stand still or descend.
    """
    norm = norm or Linf()
    largest = 1 if norm.name == "Linf" else float("inf")
    radius = eps if eps != eps else number(eps, "eps", finite=False)
    count = number(steps, "steps", whole=True)
    above = radius >= 0 if zero else radius > 0
    if not above or not radius <= largest or radius == float("inf") or count < 1:
        raise ValueError(
            f"expected eps in {'[' if zero else '('}0, {largest}], for images scaled to [0, 1], and steps >= 1, "
            f"got eps={eps}, steps={steps}"
        )
    bounds: dict[str, Any] = {"at_least": 0} if zero else {"above": 0}
    return radius, count, None if step_size is None else number(step_size, "step_size", **bounds), norm
