"""Facts about a model: measured once, typed, and kept in the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import Enum
from typing import Any

from art_ext.evaluation.inspect.identity import Fingerprint


class Found(str, Enum):
    """Where five passes of a model differed first."""

    NOWHERE = ""
    CLEAN = "clean images"
    BALL = "random points of the ball"
    ATTACKED = "adversarial examples"


class Gradient(str, Enum):
    """What a backward pass through the whole model gives."""

    EXACT = "exact"
    STAND_IN = "stand-in"
    MISSING = "missing"
    FAILED = "failed"


@dataclass(frozen=True)
class BatchCheck:
    """Whether an image's answer depends on what stands beside it in the batch.

    Attributes:
        images: compared.
        changed: of them, those whose class or logits changed.
        how: what was compared.
    """

    images: int
    changed: int
    how: str


@dataclass(frozen=True)
class ArtGradient:
    """ART's `loss_gradient` beside torch's: the largest entry of each, and the largest difference.

    Attributes:
        error: why ART gave none; empty where it did.
    """

    peak: float = 0.0
    gap: float = 0.0
    direct: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class UnitTest:
    """What attacks found of planted examples, see `binarisation_test`.

    Attributes:
        usable: problems that have a solution and no easy one.
        found: of them, those that the probes' PGD or APGD solved.
        by_pgd: of them, those that the probes' PGD solved alone; None in reports from before it was counted.
        random: of them, those that random search solved.
        reason: why it was not run; empty where it was.
    """

    usable: int = 0
    found: int = 0
    random: int = 0
    reason: str = ""
    by_pgd: int | None = None


@dataclass(frozen=True)
class ModelInfo:
    """Facts about one model, from the first images; None for what was not measured.

    Attributes:
        name: in the report.
        classes: logits of an image, K.
        defended: a purifier stands before the classifier.
        robust: an adversarially trained baseline.
        kind: class names of the parts.
        sha256: hash of everything that it is made of, as it was before the first pass.
        opaque: see `Identity`.
        fingerprint: what it answers to the first block.
        dtype: of its weights.
        device: that it runs on.
        images: that were looked at.
        randomised: where five passes differed.
        gradient: through the whole model.
        gradient_error: autograd's own words where there is none.
        zero_gradients: images whose gradient is zero at a random point of the ball.
        bad_gradients: images whose gradient is not finite there.
        bad_rows: images whose logits are not finite.
        probabilities: outputs are in [0, 1] and sum to 1.
        writes_input: it changes the images that it is given.
        batch: whether an answer depends on the rest of the batch.
        art: ART's gradient beside torch's.
        slopes: per image, relative error of the slope along the gradient.
        slope_reason: why no slopes were measured.
        held_pixels: share of the pixels that the purifier's final clamp holds.
        seconds_a_pass: of one image, forward.
        unit_test: of the probes' attack.
        error: what it raises on images other than the clean ones; empty where it answers.
        answers_repeat: images of which the last clean pass gave other classes than the first; None for randomised ones.
        classifier: hash of its classifier alone; empty in reports from before it was kept.
    """

    name: str
    classes: int = 0
    defended: bool = False
    robust: bool = False
    kind: str = ""
    sha256: str = ""
    opaque: bool = False
    fingerprint: Fingerprint | None = None
    dtype: str = ""
    device: str = ""
    images: int = 0
    randomised: Found = Found.NOWHERE
    gradient: Gradient | None = None
    gradient_error: str = ""
    zero_gradients: int = 0
    bad_gradients: int = 0
    bad_rows: int | None = None
    probabilities: bool | None = None
    writes_input: bool | None = None
    batch: BatchCheck | None = None
    art: ArtGradient | None = None
    slopes: tuple[float, ...] | None = None
    slope_reason: str = ""
    held_pixels: float | None = None
    seconds_a_pass: float = 0.0
    unit_test: UnitTest | None = None
    answers_repeat: int | None = None
    error: str = ""
    classifier: str = ""

    @property
    def random(self) -> bool:
        """Whether it is randomised."""
        return self.randomised is not Found.NOWHERE

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> ModelInfo:
        """What `plain` gave, unchanged."""
        known = {f.name for f in fields(cls)}
        found = {k: v for k, v in data.items() if k in known}
        found["randomised"] = Found(found.get("randomised", ""))
        if found.get("gradient") is not None:
            found["gradient"] = Gradient(found["gradient"])
        for name, kind in (("batch", BatchCheck), ("art", ArtGradient), ("unit_test", UnitTest)):
            if found.get(name) is not None:
                found[name] = kind(**found[name])
        if found.get("fingerprint") is not None:
            f = found["fingerprint"]
            found["fingerprint"] = Fingerprint(tuple(f["predicted"]), tuple(map(tuple, f["logits"])))
        if found.get("slopes") is not None:
            found["slopes"] = tuple(found["slopes"])
        return cls(**found)
