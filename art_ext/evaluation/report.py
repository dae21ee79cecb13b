"""What an evaluation found, per example; every number shown anywhere is computed from these booleans."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from art_ext.evaluation.statistics import Interval, wilson
from art_ext.evaluation.threat import Knowledge
from art_ext.training import replacing

SCHEMA = 1
"""Version of the JSON form; raised when a reader of the old one would misread the new one."""
CLEAN = "clean"
WORST = "worst case"
UNDEFENDED = Knowledge.UNDEFENDED.value


@dataclass(frozen=True)
class Cell:
    """One attack on one model under one knowledge.

    Attributes:
        model: name of the model that was evaluated.
        attack: title of the attack; "clean" for none.
        knowledge: value of `Knowledge`; "none" for clean images.
        correct: redraws x images: was the image classified correctly?
        backend: library of the attack; empty for clean images.
        parameters: of the attack, as the library names them, with `draws`.
        seconds: that the attack took; 0 where its examples were made for another cell.
    """

    model: str
    attack: str
    knowledge: str
    correct: tuple[tuple[bool, ...], ...]
    backend: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def survived(self) -> list[float]:
        """Share of the redraws in which each image was classified correctly."""
        return [sum(column) / len(column) for column in zip(*self.correct, strict=True)]

    @property
    def accuracy(self) -> Interval:
        """Mean accuracy over images and redraws."""
        survived = self.survived
        return wilson(sum(survived) / len(survived), len(survived))


@dataclass(frozen=True)
class Verdict:
    """What a check said: "pass", "warn", "fail" or "not run"."""

    check: str
    model: str
    verdict: str
    detail: str


@dataclass(frozen=True)
class Report:
    """An evaluation.

    Attributes:
        threat: norm and eps.
        cells: clean ones first.
        checks: verdicts.
        not_tested: what was left out and why.
        provenance: versions, device, seeds, data.
    """

    threat: Mapping[str, Any]
    cells: tuple[Cell, ...]
    checks: tuple[Verdict, ...]
    not_tested: tuple[str, ...]
    provenance: Mapping[str, Any]

    def cell(self, model: str, attack: str, knowledge: str) -> Cell:
        """The cell of a model, an attack and a knowledge.

        Raises:
            ValueError: there is none; lists those that are there.
        """
        for cell in self.cells:
            if (cell.model, cell.attack, cell.knowledge) == (model, attack, knowledge):
                return cell
        there = [(c.model, c.attack, c.knowledge) for c in self.cells]
        raise ValueError(f"expected one of {there}, got {(model, attack, knowledge)}")

    def attacked(self, model: str) -> list[Cell]:
        """The cells of a model that hold an attack."""
        return [c for c in self.cells if c.model == model and c.attack != CLEAN]

    def models(self) -> list[str]:
        """Names of the models, in the order in which they were evaluated."""
        return list(dict.fromkeys(c.model for c in self.cells))

    def undefended(self) -> str | None:
        """The model without a purifier, None if there is none."""
        return next((c.model for c in self.cells if c.knowledge == UNDEFENDED), None)

    def worst_case(self, model: str, knowledge: str | None = None) -> Interval:
        """Share of images that no attack broke in any redraw, over the images that every attack saw.

        Args:
            model: its name.
            knowledge: only attacks of this knowledge; all of them unless given.

        Raises:
            ValueError: the model was not attacked so.
        """
        cells = [c for c in self.attacked(model) if knowledge in (None, c.knowledge)]
        if not cells:
            raise ValueError(f"expected a model that was attacked, got {model!r} under {knowledge or 'anything'}")
        n = min(len(c.correct[0]) for c in cells)
        robust = [all(row[i] for c in cells for row in c.correct) for i in range(n)]
        return wilson(sum(robust) / n, n)

    def to_json(self) -> str:
        """The whole report; `from_json` gives it back unchanged."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """The report that `to_json` wrote.

        Raises:
            ValueError: another schema.
        """
        data = json.loads(text)
        if data.pop("schema", None) != SCHEMA:
            raise ValueError(f"expected a report of schema {SCHEMA}, got {json.loads(text).get('schema')!r}")
        cells = tuple(Cell(**{**c, "correct": tuple(map(tuple, c["correct"]))}) for c in data.pop("cells"))
        checks = tuple(Verdict(**v) for v in data.pop("checks"))
        return cls(cells=cells, checks=checks, not_tested=tuple(data.pop("not_tested")), **data)

    def save(self, path: Path | str) -> None:
        """Writes the JSON form, at once or not at all."""
        with replacing(path) as temporary:
            temporary.write_text(self.to_json(), "utf-8")

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows for people: a block of rows a model, a column a knowledge; accuracy, interval and n."""
        there = {c.knowledge for c in self.cells if c.attack != CLEAN}
        known = [k.value for k in Knowledge if k.value in there]
        rows, bare = [], self.undefended()
        for model in [m for m in self.models() if m != bare] or self.models():
            attacks = dict.fromkeys(c.attack for c in self.attacked(model))
            rows += [[model, attack, *(self._entry(model, attack, k) for k in known)] for attack in (CLEAN, *attacks)]
            if len(attacks) > 1:
                rows.append([model, WORST, *(self._entry(model, WORST, k) for k in known)])
        return ["model", "attack", *known], rows

    def _entry(self, model: str, attack: str, knowledge: str) -> str:
        """The accuracy of a cell; the undefended model's stands beside that of every defended one."""
        model = self.undefended() or model if knowledge == UNDEFENDED else model
        cells = [c for c in self.attacked(model) if c.knowledge == knowledge]
        if not cells:
            return ""
        if attack == CLEAN:  # knows no attacker: the same under each knowledge
            return str(self.cell(model, CLEAN, "none").accuracy)
        if attack == WORST:
            return str(self.worst_case(model, knowledge))
        return next((str(c.accuracy) for c in cells if c.attack == attack), "")

    def markdown(self) -> str:
        """Table, checks and what was not tested."""
        header, rows = self.table()
        lines = [f"Accuracy with 95 % Wilson intervals, {self.threat['norm']} eps {self.threat['eps']:g}", ""]
        lines += _markdown(header, rows)
        lines += [
            "",
            *_markdown(["check", "model", "verdict", "detail"], [list(vars(v).values()) for v in self.checks]),
        ]
        return "\n".join([*lines, "", "Not tested:", "", *(f"- {line}" for line in self.not_tested), ""])


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows]]
