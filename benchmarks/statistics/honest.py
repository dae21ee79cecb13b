"""Reports of models without a fault, made from numbers alone, and the same reports with one fault planted.

An image of a model is broken by an attack whose radius, the model's own times that of the attack times its luck, lies
within the budget. Nothing here runs a network: what is measured is how often the checks are wrong, and what they see.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from art_ext.evaluation import Cell, Knowledge, ModelInfo, Report, Tag
from art_ext.evaluation.inspect.identity import Fingerprint
from art_ext.evaluation.inspect.info import BatchCheck, Found, Gradient, UnitTest

EPS, CLASSES, LOOKED_AT, PROBED = 0.1, 10, 64, 128
LUCK = 0.03
"""Share of the images on which two runs of the same strength differ."""
ATTACKS = {
    "native PGD-40": (1.05, ("cross_entropy",)), "art PGD-40": (1.05, ("cross_entropy",)),
    "native APGD-100 cross_entropy": (1.02, ("cross_entropy",)), "native APGD-100 margin": (1.0, ("margin",)),
    "native AutoAttack": (1.0, ("cross_entropy", "dlr")), "torchattacks Square": (1.3, ()),
}  # fmt: skip
"""Radius that each attack needs, in units of the model's, and its losses."""
FULL, BLIND, TRANSFER, UNDEFENDED = (
    k.value for k in (Knowledge.FULL, Knowledge.BLIND, Knowledge.TRANSFER, Knowledge.UNDEFENDED)
)


@dataclass(frozen=True)
class Kind:
    """A kind of honest report.

    Attributes:
        noise: relative luck of an attack on an image.
        knowing: factor by which an attacker who does not see the defence needs a larger radius; 1 for a defence that
            does nothing.
        alike: whether all attacks are equally strong.
        random: whether the defence is randomised.
    """

    noise: float
    knowing: float = 1.5
    alike: bool = False
    random: bool = False


KINDS = {
    "usual": Kind(0.1), "usual, lucky attacks": Kind(0.3), "randomised": Kind(0.1, random=True),
    "purifier that does nothing, equal attacks": Kind(0.1, 1.0, alike=True),
    "the same, lucky attacks": Kind(0.3, 1.0, alike=True),
}  # fmt: skip


class Maker:
    """Makes the cells and probes of one model.

    Args:
        name: of the model.
        kind: of report.
        radii: per image, the radius that breaks it (N,).
        clean: per image, whether it is right without an attack (N,).
        random: draws everything else.
        defended: whether a purifier stands before the classifier.
    """

    def __init__(
        self, name: str, kind: Kind, radii: np.ndarray, clean: np.ndarray, random: np.random.Generator, defended: bool
    ) -> None:
        self.name, self.kind, self.radii, self.clean, self.random = name, kind, radii, clean, random
        self.defended, self.repeats = defended, 5 if kind.random and defended else 1

    def right(self, factor: float, eps: float = EPS, n: int | None = None) -> tuple[tuple[bool, ...], ...]:
        """Answers to the examples of an attack that needs so many times the radius."""
        radii, clean = self.radii[:n], self.clean[:n]
        luck = np.exp(self.kind.noise * self.random.standard_normal(len(radii)))
        left = clean & (radii * factor * luck > eps)
        if self.repeats == 1:
            return (tuple(left.tolist()),)
        chance = np.where(left, 0.95, np.where(clean, 0.05, 0.02))
        return tuple(tuple((self.random.random(len(radii)) < chance).tolist()) for _ in range(self.repeats))

    def cells(self) -> list[Cell]:
        """The clean answers, and those to the attacks that were asked for."""
        rows = [Cell(self.name, "clean", "none", self.right(1.0, 0.0), predicted=())]
        known = ((FULL, 1.0), (BLIND, self.kind.knowing), (TRANSFER, 1.2 * self.kind.knowing))
        for attack, (strength, losses) in ATTACKS.items():
            for knowledge, more in known if self.defended else ((UNDEFENDED, 1.0),):
                factor = more * (1.0 if self.kind.alike else strength)
                rows.append(self.cell(attack, knowledge, self.right(factor), losses=losses))
        return rows

    def cell(self, attack: str, knowledge: str, right: tuple[tuple[bool, ...], ...], **more: object) -> Cell:
        """A cell with all that the checks read."""
        samples = 20 if self.repeats > 1 and knowledge == FULL else 1
        still, seen = sum(right[0]), self.defended and knowledge == FULL
        watched = 0 if self.repeats > 1 else min(LOOKED_AT, len(right[0]))
        observed = {"forward": 1000, "still": still, "unmoved": 0, "watched": watched}
        observed |= {"silent": int(self.random.binomial(watched, 0.002))}
        observed |= {"purifier_forward": 1000, "purifier_backward": 1000} if seen else {}
        free = "Square" in attack
        given: dict[str, object] = {
            "parameters": {"eps": EPS, "eot_samples": samples}, "observed": observed, "black_box": free,
            "backend": "native", "steps": 0 if free else 100,
        }  # fmt: skip
        return Cell(self.name, attack, knowledge, right, **(given | more))  # type: ignore[arg-type]

    def probes(self) -> list[Cell]:
        """The probes behind the checks."""
        n = min(PROBED, len(self.radii))
        base = self.right(1.1, n=n)

        def made(right: tuple[tuple[bool, ...], ...], *tags: Tag, eps: float = EPS, attack: str = "PGD-20") -> Cell:
            cell = self.cell(attack, FULL if self.defended else UNDEFENDED, right, tags=frozenset(tags))
            return replace(cell, parameters={**cell.parameters, "eps": eps})

        kept = np.array(base[0]) & (self.random.random(n) > 0.01)  # twice the steps go on from where the first end
        longer = (tuple(kept.tolist()), *base[1:])
        rows = [
            made(base, Tag.BASE, Tag.EPS, Tag.SEED), made(self.right(1.6, n=n), Tag.FGSM, attack="FGSM"),
            made(self.right(1.05, n=n), Tag.APGD, attack="APGD-40 cross_entropy"),
            made(self.right(1.02, n=n), Tag.APGD, attack="APGD-40 margin"),
            *(made(self.right(1.1, eps, n), Tag.EPS, eps=eps) for eps in (0.025, 0.05, 0.2)),
            made(self.right(1.1, 0.5, n), Tag.EPS, Tag.CHANCE, eps=0.5), made(longer, Tag.MORE, attack="PGD-40"),
            made(self.right(1.1, n=n), Tag.START, Tag.MORE, Tag.SEED), made(self.right(1.1, n=n), Tag.SEED),
        ]  # fmt: skip
        rows += [made(self.right(1.1, n=n), Tag.FROZEN)] if self.repeats > 1 else []
        return rows + ([made(self.right(1.1, n=n), Tag.CLAMP)] if self.defended else [])

    def info(self) -> ModelInfo:
        """What inspection would have found: nothing wrong, but for an image here and there."""
        draw, random = self.random, self.repeats > 1
        return ModelInfo(
            self.name, CLASSES, self.defended, robust=self.name == "robust", fingerprint=Fingerprint((), ()),
            images=LOOKED_AT, randomised=Found.CLEAN if random else Found.NOWHERE, gradient=Gradient.EXACT,
            zero_gradients=int(draw.binomial(LOOKED_AT, 0.001)), bad_rows=0, probabilities=False, writes_input=False,
            batch=BatchCheck(LOOKED_AT, 0, ""), slopes=tuple(np.where(draw.random(16) < 0.005, 1.0, 0.01).tolist()),
            unit_test=UnitTest(reason="randomised") if random else UnitTest(8, int(draw.binomial(8, 0.99)), 0,
                                                                              by_pgd=int(draw.binomial(8, 0.97))),
            answers_repeat=None if random else 0,
        )  # fmt: skip


def honest(kind: Kind, n: int, random: np.random.Generator) -> Report:
    """A report of an undefended network, an adversarially trained one, and a defended one, all without a fault."""
    labels = random.integers(CLASSES, size=n)
    makers = []
    for name, scale, accuracy in (("undefended", 0.02, 0.93), ("robust", 0.15, 0.85), ("defended", 0.12, 0.88)):
        radii = scale * np.exp(0.35 * random.standard_normal(n))
        makers.append(Maker(name, kind, radii, random.random(n) < accuracy, random, name == "defended"))
    return Report(
        {"norm": "Linf", "eps": EPS}, tuple(c for m in makers for c in m.cells()), (), (), {},
        tuple(c for m in makers for c in m.probes()), tuple(m.info() for m in makers), tuple(labels.tolist()),
    )  # fmt: skip


Fault = Callable[[Report, float, np.random.Generator], Report]
"""A report, a share of the images, and what draws, to the report with the fault on that share."""


def weaker_probe(tag: Tag) -> Fault:
    """The probe with the tag breaks what the base breaks, and a share of the images more."""

    def plant(report: Report, share: float, random: np.random.Generator) -> Report:
        base = np.array(report.probed("defended", Tag.BASE)[0].once)
        return _probes(
            report,
            lambda c: tag in c.tags and Tag.BASE not in c.tags,
            lambda c: _set(c, _fewer(_noisy(base, random), share, random)),
        )

    return plant


def stays(tag: Tag) -> Fault:
    """The probe with the tag leaves a share of the images, whatever it may do."""

    def plant(report: Report, share: float, random: np.random.Generator) -> Report:
        return _probes(report, lambda c: tag in c.tags, lambda c: _set(c, random.random(c.images) < share))

    return plant


def larger_budget_leaves_more(report: Report, share: float, random: np.random.Generator) -> Report:
    """Twice the budget leaves what the budget leaves, and a share of the images more."""
    base = np.array(report.probed("defended", Tag.BASE)[0].once)
    return _probes(
        report,
        lambda c: Tag.EPS in c.tags and c.parameters["eps"] == 2 * EPS,
        lambda c: _set(c, _more(_noisy(base, random), share, random)),
    )


def blind_breaks_more(report: Report, share: float, random: np.random.Generator) -> Report:
    """A blind attack breaks what the same attack with full knowledge breaks, and a share of the images more."""
    full = np.array(report.cell("defended", "native PGD-40", FULL).once)
    return _cells(
        report,
        lambda c: (c.attack, c.knowledge) == ("native PGD-40", BLIND),
        lambda c: _set(c, _fewer(_noisy(full, random), share, random)),
    )


def robust_leaves_more(report: Report, share: float, random: np.random.Generator) -> Report:
    """Every attack leaves of the trained network what it leaves of the defended one, and a share of the images more."""

    def more(c: Cell) -> Cell:
        defended = np.array(report.cell("defended", c.attack, FULL).once)
        return _set(c, _more(_noisy(defended, random), share, random))

    return _cells(report, lambda c: c.model == "robust" and c.knowledge == UNDEFENDED, more)


def asked_leave_more(report: Report, share: float, random: np.random.Generator) -> Report:
    """All asked attacks leave what the probe leaves, and a share of the images more."""
    base = np.array(report.probed("defended", Tag.BASE)[0].once)
    left = _more(base, share, random)
    every = np.concatenate([left, np.zeros(len(report.labels) - len(left), bool)])
    return _cells(report, lambda c: c.model == "defended" and c.knowledge == FULL, lambda c: _set(c, every))


def undefended_leaves(report: Report, share: float, random: np.random.Generator) -> Report:
    """No attack breaks a share of the images of the bare classifier."""
    left = random.random(len(report.labels)) < share
    return _cells(report, lambda c: c.model == "undefended" and c.knowledge == UNDEFENDED, lambda c: _set(c, left))


def drops(report: Report, share: float, random: np.random.Generator) -> Report:
    """Every attack drops an adversarial iterate for a share of the images."""

    def more(c: Cell) -> Cell:
        watched = c.observed.get("watched", 0)
        return replace(c, observed={**c.observed, "silent": int(random.binomial(watched, share))})

    return _cells(report, lambda c: c.model == "undefended" and not c.is_clean, more)


def clean_falls(report: Report, share: float, random: np.random.Generator) -> Report:
    """The defence costs a share of the clean images."""
    bare = np.array(report.clean("undefended").once)
    kept = bare & (random.random(len(bare)) >= share)
    return _cells(report, lambda c: c.is_clean and c.model == "defended", lambda c: _set(c, kept))


def facts(**made: Callable[[float, np.random.Generator], object]) -> Fault:
    """What inspection found of the defended model, by field."""

    def plant(report: Report, share: float, random: np.random.Generator) -> Report:
        found = {name: make(share, random) for name, make in made.items()}
        inspected = tuple(replace(m, **found) if m.name == "defended" else m for m in report.inspected)  # type: ignore[arg-type]
        return replace(report, inspected=inspected)

    return plant


FAULTS: dict[str, tuple[str, Fault, str]] = {
    "iterative not weaker": ("defended", weaker_probe(Tag.FGSM), "images that FGSM breaks and PGD does not"),
    "budget monotone": ("defended", larger_budget_leaves_more, "images that twice the budget leaves, and it does not"),
    "reaches chance": ("defended", stays(Tag.CHANCE), "images left where all can become grey"),
    "converged": ("defended", weaker_probe(Tag.MORE), "images that more steps break"),
    "seeds": ("defended", weaker_probe(Tag.SEED), "images that other seeds break"),
    "clamp hides nothing": ("defended", weaker_probe(Tag.CLAMP), "images that the clamp hides"),
    "a stronger attack was there": ("defended", weaker_probe(Tag.APGD), "images that APGD breaks and PGD does not"),
    "asked attacks": ("defended", asked_leave_more, "images that the asked attacks leave and the probe breaks"),
    "black-box not stronger": ("defended", blind_breaks_more, "images that a blind attack breaks and the full one not"),
    "static baseline": ("defended", robust_leaves_more, "images more that the trained network keeps"),
    "undefended breaks": ("undefended", undefended_leaves, "images of the bare classifier that no attack breaks"),
    "silent success": ("undefended", drops, "adversarial iterates that are dropped"),
    "clean accuracy cost": ("defended", clean_falls, "clean images that the defence costs"),
    "zero gradient": (
        "defended", facts(zero_gradients=lambda f, r: int(r.binomial(LOOKED_AT, f))), "images of zero gradient, of 64",
    ),
    "finite differences": (
        "defended", facts(slopes=lambda f, r: tuple(np.where(r.random(16) < f, 1.0, 0.01).tolist())),
        "images of a false gradient, of 16",
    ),
    "attack unit test": (
        "defended", facts(unit_test=lambda f, r: UnitTest(8, (k := int(r.binomial(8, 1 - f))), 0, by_pgd=k)),
        "planted examples that are missed, of 8",
    ),
}  # fmt: skip
"""For each check that counts: the model, a fault for it, and what its share is a share of."""


def _fewer(right: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:
    """The answers with a share of all images made wrong, as far as they are right."""
    return _turned(right, share, random)


def _more(right: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:
    """The answers with a share of all images made right, as far as they are wrong."""
    return ~_turned(~right, share, random)


def _turned(flags: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:
    """The flags with some of the set ones cleared, a share of all."""
    places = np.flatnonzero(flags)
    chosen = random.permutation(places)[: int(random.binomial(len(flags), share))]
    turned = flags.copy()
    turned[chosen] = False
    return turned


def _noisy(right: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Another run of an attack of the same strength: `LUCK` of the images turn out otherwise."""
    return right ^ (random.random(len(right)) < LUCK)


def _set(cell: Cell, right: np.ndarray) -> Cell:
    """The cell with other answers in its first repeat."""
    return replace(cell, correct=(tuple(map(bool, right[: cell.images])), *cell.correct[1:]))


def _probes(report: Report, which: Callable[[Cell], bool], change: Callable[[Cell], Cell]) -> Report:
    made = tuple(change(c) if c.model == "defended" and which(c) else c for c in report.probes)
    return replace(report, probes=made)


def _cells(report: Report, which: Callable[[Cell], bool], change: Callable[[Cell], Cell]) -> Report:
    return replace(report, cells=tuple(change(c) if which(c) else c for c in report.cells))
