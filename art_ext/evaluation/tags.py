"""What the probes of an evaluation are for."""

from __future__ import annotations

from enum import Enum


class Tag(str, Enum):
    """What a probe is for.

    Attributes:
        BASE: the attack that the others differ from in one thing.
        EPS, STEPS, EOT_SAMPLES, SEED: a point of that sweep.
        MORE: spends more than the base.
        START: from another random start.
        CHANCE: at the radius where every image can become the same grey one.
        FGSM: one step.
        APGD: another attack with another loss, which may be stronger than PGD.
        FROZEN: attacker and defence share one draw.
        CLAMP: the gradient passes the purifier's final clamp.
    """

    BASE = "base"
    EPS = "eps"
    STEPS = "steps"
    EOT_SAMPLES = "eot_samples"
    SEED = "seed"
    MORE = "more"
    START = "start"
    CHANCE = "chance"
    FGSM = "fgsm"
    APGD = "apgd"
    FROZEN = "frozen"
    CLAMP = "clamp"


OLD = {"draws": Tag.EOT_SAMPLES.value}
"""Spellings of reports before schema 3."""


def tags_of(text: str) -> frozenset[Tag]:
    """The tags of a probe as reports before schema 3 wrote them: words between commas."""
    words = [word for word in text.split(", ") if word]
    return frozenset(Tag(OLD.get(word, word)) for word in words)


def old_spelling(tags: frozenset[Tag]) -> str:
    """The text that `tags_of` reads."""
    new = {value: key for key, value in OLD.items()}
    return ", ".join(new.get(tag.value, tag.value) for tag in Tag if tag in tags)
