"""What an evaluation found, per image; every number shown anywhere is computed from these answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from art_ext.attacks.renamed import renamed_fields
from art_ext.evaluation.inspect.info import ModelInfo
from art_ext.evaluation.report.legacy import effort_from, inspected_from, knowledge_now, parameters_now, shard_from
from art_ext.evaluation.report.worst import worst_of
from art_ext.evaluation.statistics import Interval, mean_interval, plurality
from art_ext.evaluation.tags import Tag, old_spelling, tags_of
from art_ext.evaluation.threat import Knowledge

CLEAN = "clean"
NOBODY = "none"
"""The knowledge of the attacker of clean images."""
UNDEFENDED = Knowledge.UNDEFENDED.value
NO_ANSWER = -1
"""In place of a class: logits that are not finite, or an image that was not asked for any more."""
Rows = tuple[tuple[bool, ...], ...]
Classes = tuple[tuple[int, ...], ...]
Said = Literal["pass", "warn", "fail", "not run", "undetermined"]


class Refusal(str, Enum):
    """Why a row does not count."""

    NONE = ""
    NO_GRADIENT = "no gradient"
    LEFT_THREAT = "left the threat"
    OUT_OF_MEMORY = "out of memory"
    ERROR = "error"


@renamed_fields(probe="tags")
@dataclass(frozen=True)
class Cell:
    """One attack on one model under one knowledge; spellings of an earlier version are turned into today's.

    Attributes:
        model: name of the model that was evaluated.
        attack: title of the attack; "clean" for none.
        knowledge: value of `Knowledge`; "none" for clean images.
        correct: repeats x images: was the image classified correctly?
        backend: library of the attack; empty for clean images.
        parameters: of the attack, as the library names them, with `norm`, `eps`, `eot_samples` and `seed`.
        seconds: that the attack took; 0 where its examples were made for another cell.
        threat: what bounds an attack that does not stay in the report's ball; empty where the report's threat does.
        source: the other model whose examples these are; empty for the model's own.
        black_box: whether the attack uses no gradient.
        hits: repeats x images: did a targeted attack get its class?
        skipped: positions in `correct` of images that an earlier attack of a sequence had broken, counted as broken.
        refused: why the examples do not count; `correct` is empty then.
        indices: which images, where they are not the first ones in order (a shard).
        steps: gradient steps of the attack; None where nothing is known of them.
        losses: that it climbs; none where nothing is known of them.
        observed: what was seen during the attack: images passed "forward" and "backward", the purifier's share of them,
            images "watched" and "silent" successes among them, images "still" right and "unmoved" ones among them,
            images whose answers "varied" between two passes of a deterministic model, images "compared" in two formats
            of gradients, those of them "left_by_float32", "left_by_bfloat16" and "left_by_bfloat16_alone".
        tags: the sweeps and checks that a probe was made for; none for the attacks that were asked for.
        predicted: repeats x images: the class, -1 for logits that are not finite; empty in reports before schema 3.
        refusal: the kind of reason in `refused`.
    """

    model: str
    attack: str
    knowledge: str
    correct: Rows
    backend: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    threat: str = ""
    source: str = ""
    black_box: bool = False
    hits: Rows = ()
    skipped: tuple[int, ...] = ()
    refused: str = ""
    indices: tuple[int, ...] = ()
    observed: Mapping[str, int] = field(default_factory=dict)
    tags: frozenset[Tag] = frozenset()
    predicted: Classes = ()
    refusal: Refusal = Refusal.NONE
    steps: int | None = None
    losses: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        parameters = parameters_now(self.parameters)
        now: dict[str, Any] = {"knowledge": knowledge_now(self.knowledge), "parameters": parameters}
        if self.steps is None and not self.losses and not self.is_clean:
            now["steps"], now["losses"] = effort_from(self.backend, parameters)
        now["tags"] = tags_of(self.tags) if isinstance(self.tags, str) else frozenset(self.tags)
        for name, value in now.items():
            object.__setattr__(self, name, value)

    @property
    def is_clean(self) -> bool:
        """Whether these are the answers to the clean images, whatever an attack may be called."""
        return self.knowledge == NOBODY

    @property
    def probe(self) -> str:
        """The tags as reports before schema 3 wrote them."""
        return old_spelling(self.tags)

    @property
    def images(self) -> int:
        """How many images the cell holds."""
        return len(self.correct[0]) if self.correct else 0

    @property
    def repeats(self) -> int:
        """How often each example was answered, R."""
        return len(self.correct)

    @property
    def survived(self) -> list[float]:
        """Share of the repeats in which each image was classified correctly."""
        return [sum(column) / len(column) for column in zip(*self.correct, strict=True)]

    @property
    def once(self) -> list[bool]:
        """Whether each image was classified correctly in the first repeat (R = 1)."""
        return list(self.correct[0]) if self.correct else []

    @property
    def accuracy(self) -> Interval:
        """Mean accuracy over images and repeats: what one query meets."""
        return mean_interval(self.survived, self.repeats)

    @property
    def worst(self) -> Interval:
        """Share of images classified correctly in every repeat: the attacker may submit again and again."""
        return mean_interval([float(all(column)) for column in zip(*self.correct, strict=True)], self.repeats)

    @property
    def vote(self) -> Interval:
        """Share of images whose repeats vote for the right class, ties in part; without classes, by majority."""
        if not self.predicted:
            return mean_interval([float(2 * sum(c) > len(c)) for c in zip(*self.correct, strict=True)], self.repeats)
        columns = zip(zip(*self.predicted, strict=True), zip(*self.correct, strict=True), strict=True)
        return mean_interval([_voted(classes, right) for classes, right in columns], self.repeats)

    @property
    def majority(self) -> Interval:
        """`vote`, as it was called before 0.2."""
        return self.vote

    @property
    def success(self) -> Interval | None:
        """Share of images that a targeted attack turned into the class it wanted, None for untargeted ones."""
        if not self.hits:
            return None
        return mean_interval([sum(c) / len(c) for c in zip(*self.hits, strict=True)], self.repeats)


def _voted(classes: Sequence[int], right: Sequence[bool]) -> float:
    return plurality(classes, classes[right.index(True)]) if True in right else 0.0


@dataclass(frozen=True)
class Verdict:
    """The verdict of a check, and its reason.

    Attributes:
        verdict: "pass", "warn", "fail", "not run" where nothing was seen, or "undetermined" where the check could not
            have told.
    """

    check: str
    model: str
    verdict: Said
    detail: str


@dataclass(frozen=True)
class Findings:
    """Everything that an evaluation found, and how it was run.

    Attributes:
        threat: norm, eps, and eps as its user wrote it ("given").
        cells: clean ones first, then the attacks that were asked for.
        checks: verdicts.
        not_tested: what was left out and why.
        provenance: versions, device, seeds, data; for readers, nothing is computed from it.
        probes: attacks made for checks and curves, on fewer images; no accuracy that is claimed counts them.
        inspected: facts about each model, in order.
        labels: of the images, in order.
        suite: name of the ready-made suite; empty for attacks of one's own choice.
        started: UTC time, ISO 8601.
        ended: likewise.
        notes: what a reader should know of the run: pieces that were damaged and made anew, a change of machine.
        call: hash of everything that was asked for.
        shard: which of how many shards it is of; (0, 1) is all of it.
        required: what the defence had to reach, decided before it was attacked, see `criteria.Criterion`.
        about: who answers for the report and what it is for, in the user's words, by heading.
    """

    threat: Mapping[str, Any]
    cells: tuple[Cell, ...]
    checks: tuple[Verdict, ...]
    not_tested: tuple[str, ...]
    provenance: Mapping[str, Any]
    probes: tuple[Cell, ...] = ()
    inspected: tuple[ModelInfo, ...] = ()
    labels: tuple[int, ...] = ()
    suite: str = ""
    started: str = ""
    ended: str = ""
    notes: tuple[str, ...] = ()
    call: str = ""
    shard: tuple[int, int] = (0, 1)
    required: tuple[str, ...] = ()
    about: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.shard == (0, 1):
            object.__setattr__(self, "shard", shard_from(self.provenance))
        if not self.inspected:  # a report before schema 3, or one that was put together by hand
            object.__setattr__(self, "inspected", inspected_from(self.provenance, [c.model for c in self.cells]))

    def info(self, model: str) -> ModelInfo:
        """What was found of a model before it was attacked.

        Raises:
            ValueError: there is no such model.
        """
        for info in self.inspected:
            if info.name == model:
                return info
        raise ValueError(f"expected one of the models {self.models()}, got {model!r}")

    def cell(self, model: str, attack: str, knowledge: str) -> Cell:
        """The cell of a model, an attack and a knowledge.

        Raises:
            ValueError: there is none; lists those that are there.
        """
        wanted = (model, attack, knowledge_now(knowledge))
        there = [(c.model, c.attack, c.knowledge) for c in self.cells]
        if wanted not in there:
            raise ValueError(f"expected one of {there}, got {wanted}")
        return self.cells[there.index(wanted)]

    def clean(self, model: str) -> Cell:
        """The answers of a model to the clean images."""
        return self.cell(model, CLEAN, NOBODY)

    def attacked(self, model: str) -> list[Cell]:
        """The cells of a model that hold an attack inside the threat that counts."""
        return [c for c in self.shown(model) if not c.threat and not c.refused]

    def shown(self, model: str) -> list[Cell]:
        """The cells of a model's attacks, those that do not count among them."""
        return [c for c in self.cells if c.model == model and not c.is_clean and (c.images or c.refused)]

    def probed(self, model: str, tag: Tag) -> list[Cell]:
        """The probes of a model with a tag that hold answers."""
        return [c for c in self.probes if c.model == model and c.images and tag in c.tags]

    def models(self) -> list[str]:
        """Names of the models, in the order in which they were evaluated."""
        return list(dict.fromkeys(c.model for c in self.cells))

    def undefended(self) -> str | None:
        """The first model without a purifier, None if there is none."""
        return next((c.model for c in self.cells if c.knowledge == UNDEFENDED), None)

    def worst_case(self, model: str, knowledge: str | None = None, repeats: int | None = None) -> Interval:
        """Share of images that no attack broke in any repeat, over the images that every attack saw.

        It falls with the number of repeats without a limit, so models are compared at one number of them.

        Args:
            model: its name.
            knowledge: only attacks of this knowledge; all of them unless given.
            repeats: r, for the unbiased estimate of what r <= R repeats would have left; all R unless given. A
                deterministic model leaves the same whatever r is.

        Raises:
            ValueError: the model was not attacked so, or not answered so often.
        """
        known = None if knowledge is None else knowledge_now(knowledge)
        cells = [c for c in self.attacked(model) if known in (None, c.knowledge)]
        if not cells:
            raise ValueError(f"expected a model that was attacked, got {model!r} under {knowledge or 'anything'}")
        return worst_of(cells, repeats)

    def repeat_curve(self, model: str, knowledge: str | None = None) -> list[tuple[int, Interval]]:
        """`worst_case` for r = 1, ..., R repeats; one entry for a deterministic model.

        Raises:
            ValueError: the model was not attacked so.
        """
        most = self.worst_case(model, knowledge).repeats
        return [(r, self.worst_case(model, knowledge, r)) for r in range(1, most + 1)]
