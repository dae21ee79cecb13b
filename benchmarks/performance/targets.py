"""What the rows are held against."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.performance.attacks import ACTIVE, BOTH, COMPILED, HALF, OURS
from benchmarks.performance.harness import ALONE, INSPECTION, REST
from benchmarks.performance.problems import RESNET, ROBUST, WEAK
from benchmarks.performance.rim import BARE
from benchmarks.performance.rim import OURS as RIM
from benchmarks.performance.training import HALF as HALF_STEP
from benchmarks.performance.training import OBJECTIVES, PASSES
from benchmarks.performance.training import OURS as STEP


@dataclass(frozen=True)
class Target:
    """A bound on a ratio of two contenders of a row, or on one of them.

    Attributes:
        ours: the contender that it is about.
        against: the other one; "" where the bound is on the value of `ours` itself.
        bound: of `ratio`.
        most: whether the ratio is ours / theirs, and at most the bound; otherwise it is theirs / ours, at least that.
    """

    ours: str
    against: str
    bound: float
    most: bool = False

    def ratio(self, ours: float, theirs: float) -> float:
        """What is held against the bound; `theirs` is not looked at without `against`."""
        if not self.against:
            return ours
        over, under = (ours, theirs) if self.most else (theirs, ours)
        return over / max(under, 1e-9)

    def met(self, ratio: float) -> bool:
        """Whether a ratio is within the bound."""
        return ratio <= self.bound if self.most else ratio >= self.bound


def _pgd(*more: Target) -> tuple[Target, ...]:
    return (Target(OURS, "ART", 1.4), Target(OURS, "torchattacks", 1.15), *more)


TARGETS: dict[str, tuple[Target, ...]] = {
    f"PGD-10, {WEAK}": _pgd(),
    f"PGD-10, {ROBUST}": _pgd(),
    f"PGD-10, {RESNET}": _pgd(
        Target(HALF, "ART", 3.0), Target(HALF, "torchattacks", 2.3), Target(BOTH, "ART", 6.0)
    ),
    f"APGD-50, {WEAK}": (Target(OURS, "pyautoattack", 1.2), Target(ACTIVE, "pyautoattack", 3.0)),
    f"APGD-50, {ROBUST}": (Target(OURS, "pyautoattack", 1.2),),
    f"AutoAttack, {WEAK}": (Target(OURS, "pyautoattack", 3.0), Target(HALF, "pyautoattack", 5.0)),
    f"AutoAttack, {ROBUST}": (Target(OURS, "pyautoattack", 1.3), Target(HALF, "pyautoattack", 2.5)),
    "EOT-20 PGD-20, dynamic RDP": tuple(
        Target(ours, theirs, 1.5) for ours in (OURS, COMPILED) for theirs in ("ART", "torchattacks")
    ),
    "rim, loss_gradient": (Target(RIM, BARE, 1.05, most=True),),
    "rim, predict": (Target(RIM, BARE, 1.05, most=True),),
    f"harness, PGD-40 and APGD-100, {WEAK}": (
        Target(REST, ALONE, 1.10, most=True), Target(INSPECTION, "", 2.0, most=True)
    ),
    **{
        f"training step, {name}": (Target(STEP, PASSES, 1.15, most=True), Target(HALF_STEP, STEP, 1.8))
        for name in OBJECTIVES
    },
    "peak memory, EOT samples": (Target("64", "1", 1.2, most=True),),
    "peak memory, purifier steps": (Target("1,000", "10", 1.2, most=True),),
    **{
        f"peak memory, {case}": (Target("20,000", "the images", 2.0, most=True),)
        for case in ("purify", "predict", "predict through ART", "evaluate")
    },
}  # fmt: skip
"""By the name of the row."""
