"""What an evaluation found, per example; every number shown anywhere is computed from these booleans."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from art_ext.evaluation.statistics import Interval, wilson
from art_ext.evaluation.threat import Knowledge
from art_ext.training import replacing

SCHEMA = 2
"""Version of the JSON form (see `report.schema.json`), raised when readers of the old one would misread it."""
READABLE = (1, 2)
CLEAN = "clean"
WORST = "worst case"
UNDEFENDED = Knowledge.UNDEFENDED.value
Rows = tuple[tuple[bool, ...], ...]
COSTS = ("peak_memory_bytes", "shard")
"""Entries of the provenance that may differ between two runs of one evaluation."""


@dataclass(frozen=True)
class Cell:
    """One attack on one model under one knowledge.

    Attributes:
        model: name of the model that was evaluated.
        attack: title of the attack; "clean" for none.
        knowledge: value of `Knowledge`; "none" for clean images.
        correct: redraws x images: was the image classified correctly?
        backend: library of the attack; empty for clean images.
        parameters: of the attack, as the library names them, with `norm`, `eps`, `draws` and `seed`.
        seconds: that the attack took; 0 where its examples were made for another cell.
        threat: what bounds an attack that does not stay in the report's ball; empty where the report's threat does.
        source: the other model whose examples these are; empty for the model's own.
        black_box: whether the attack uses no gradient.
        hits: redraws x images: did a targeted attack get its class?
        skipped: positions in `correct` of images that an earlier attack of a sequence had broken, counted as broken.
        refused: why the examples do not count; `correct` is empty then.
        indices: which images, where they are not the first ones in order (a shard).
        observed: what was watched during the attack: images passed forward and backward, the purifier's share of them,
            and how often success was silent.
        probe: the sweep or check that the cell was made for; empty for the attacks that were asked for.
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
    probe: str = ""

    @property
    def images(self) -> int:
        """How many images the cell holds."""
        return len(self.correct[0]) if self.correct else 0

    @property
    def survived(self) -> list[float]:
        """Share of the redraws in which each image was classified correctly."""
        return [sum(column) / len(column) for column in zip(*self.correct, strict=True)]

    @property
    def accuracy(self) -> Interval:
        """Mean accuracy over images and redraws."""
        return _share(self.survived)

    @property
    def worst(self) -> Interval:
        """Share of images classified correctly in every redraw: the attacker may submit again and again."""
        return _share([float(all(column)) for column in zip(*self.correct, strict=True)])

    @property
    def majority(self) -> Interval:
        """Share of images that more than half of the redraws classify correctly: the defence may vote."""
        return _share([float(2 * sum(column) > len(column)) for column in zip(*self.correct, strict=True)])

    @property
    def success(self) -> Interval | None:
        """Share of images that a targeted attack turned into the class it wanted, None for untargeted ones."""
        return _share([sum(column) / len(column) for column in zip(*self.hits, strict=True)]) if self.hits else None


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
        cells: clean ones first, then the attacks that were asked for.
        checks: verdicts.
        not_tested: what was left out and why.
        provenance: versions, device, seeds, data.
        probes: attacks made for checks and curves, on fewer images; no accuracy that is claimed counts them.
    """

    threat: Mapping[str, Any]
    cells: tuple[Cell, ...]
    checks: tuple[Verdict, ...]
    not_tested: tuple[str, ...]
    provenance: Mapping[str, Any]
    probes: tuple[Cell, ...] = ()

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
        """The cells of a model that hold an attack inside the threat that counts."""
        return [c for c in self._shown(model) if not c.threat and not c.refused]

    def _shown(self, model: str) -> list[Cell]:
        return [c for c in self.cells if c.model == model and c.attack != CLEAN and (c.images or c.refused)]

    def models(self) -> list[str]:
        """Names of the models, in the order in which they were evaluated."""
        return list(dict.fromkeys(c.model for c in self.cells))

    def undefended(self) -> str | None:
        """The first model without a purifier, None if there is none."""
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
        return _share([float(v) for v in robust(cells)])

    def curve(self, model: str, axis: str) -> list[tuple[float, Interval]]:
        """Accuracy of a model along "eps", "steps" or "draws", as the probes found it, in ascending order.

        Raises:
            ValueError: another axis.
        """
        if axis not in ("eps", "steps", "draws"):
            raise ValueError(f"expected axis eps, steps or draws, got {axis!r}")
        cells = [c for c in self.probes if c.model == model and c.images and axis in c.probe.split(", ")]
        found = {float(c.parameters[axis]): c.accuracy for c in cells}
        clean = [c for c in self.cells if c.model == model and c.attack == CLEAN and c.images]
        if axis == "eps" and found and clean:
            n = cells[0].images
            found[0.0] = _share(clean[0].survived[:n])
        return sorted(found.items())

    def transfer_matrix(self, attack: str) -> tuple[list[str], dict[tuple[str, str], Interval]]:
        """Accuracy of every model on the examples that an attack made against every other one.

        Args:
            attack: title of the attack, without " from ...".

        Returns:
            Names of the models, and accuracies by (source, model); the diagonal is the model's own attack.

        Raises:
            ValueError: there are no such examples.
        """
        found: dict[tuple[str, str], Interval] = {}
        for c in self.cells:
            if c.images and c.source and c.attack == f"{attack} from {c.source}":
                found[c.source, c.model] = c.accuracy
            elif c.images and c.attack == attack and c.knowledge in (UNDEFENDED, Knowledge.FULL.value):
                found[c.model, c.model] = c.accuracy
        if not any(a != b for a, b in found):
            titles = sorted({c.attack.removesuffix(f" from {c.source}") for c in self.cells if c.source})
            raise ValueError(f"expected an attack whose examples were tried on other models, {titles}; got {attack!r}")
        return [m for m in self.models() if any(m in pair for pair in found)], found

    def robustbench(self, model: str) -> dict[str, Any]:
        """The entry of a RobustBench leaderboard, in per cent; unreliable for randomised models, which it excludes."""
        auto = [c for c in self.attacked(model) if c.backend == "autoattack"]
        clean = self.cell(model, CLEAN, "none").accuracy
        eps = float(self.threat["eps"])
        entry: dict[str, Any] = {
            "clean_acc": round(100 * clean.mean, 2),
            "autoattack_acc": round(100 * _share([float(v) for v in robust(auto)]).mean, 2) if auto else None,
            "eps": f"{round(255 * eps)}/255" if abs(255 * eps - round(255 * eps)) < 1e-6 else f"{eps:g}",
            "n": auto[0].images if auto else clean.n,
            "unreliable": False,
        }
        if self.provenance.get("randomised", {}).get(model):
            entry["unreliable"] = True
            entry["footnote"] = (
                "randomised: AutoAttack's flags hold for one draw; see the mean and worst of the redraws"
            )
        return entry

    def findings(self) -> Report:
        """The report without what it cost: equal for two runs of the same evaluation."""
        free = {k: v for k, v in self.provenance.items() if k not in COSTS}
        cells, probes = (tuple(replace(c, seconds=0.0) for c in group) for group in (self.cells, self.probes))
        return replace(self, cells=cells, probes=probes, provenance=free)

    def to_json(self) -> str:
        """The whole report; `from_json` gives it back unchanged."""
        data = {f.name: getattr(self, f.name) for f in fields(self)}
        data |= {"cells": [_packed(c) for c in self.cells], "probes": [_packed(c) for c in self.probes]}
        data["checks"] = [asdict(v) for v in self.checks]
        return json.dumps({"schema": SCHEMA, **data}, indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """The report that `to_json` wrote, in this or an earlier schema.

        Raises:
            ValueError: not a report, or one of another schema.
        """
        data = json.loads(text)
        schema = data.pop("schema", None) if isinstance(data, dict) else None
        if schema not in READABLE:
            raise ValueError(f"expected a report of schema {' or '.join(map(str, READABLE))}, got {schema!r}")
        cells, probes = (tuple(_unpacked(c) for c in data.pop(k, ())) for k in ("cells", "probes"))
        checks = tuple(Verdict(**v) for v in data.pop("checks"))
        return cls(cells=cells, checks=checks, not_tested=tuple(data.pop("not_tested")), probes=probes, **data)

    def save(self, path: Path | str) -> None:
        """Writes the JSON form, at once or not at all."""
        with replacing(path) as temporary:
            temporary.write_text(self.to_json(), "utf-8")

    @classmethod
    def load(cls, path: Path | str) -> Report:
        """The report of a file.

        Raises:
            ValueError: not a report, or one of another schema.
        """
        return cls.from_json(Path(path).read_text("utf-8"))

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows for people: a block of rows a model, a column a knowledge; accuracy, interval and n.

        What knowledge `undefended` attacks stands under "bare classifier", which of a defended model is that before
        which its purifier was put.
        """
        there = {c.knowledge for c in self.cells if c.attack != CLEAN}
        known = [k.value for k in Knowledge if k.value in there]
        rows, bare = [], self.undefended()
        for model in [m for m in self.models() if m != bare] or self.models():
            attacks = dict.fromkeys(c.attack for c in self._shown(model))
            rows += [[model, attack, *(self._entry(model, attack, k) for k in known)] for attack in (CLEAN, *attacks)]
            if len({c.attack for c in self.attacked(model)}) > 1:
                rows.append([model, WORST, *(self._entry(model, WORST, k) for k in known)])
        return ["model", "attack", *("bare classifier" if k == UNDEFENDED else k for k in known)], rows

    def _entry(self, model: str, attack: str, knowledge: str) -> str:
        """The accuracy of a cell; the undefended model's stands beside that of every defended one."""
        if knowledge == UNDEFENDED and not any(c.knowledge == UNDEFENDED for c in self._shown(model)):
            model = self.undefended() or model
        cells = [c for c in self._shown(model) if c.knowledge == knowledge]
        if not cells:
            return ""
        if attack == CLEAN:  # knows no attacker: the same under each knowledge
            return str(self.cell(model, CLEAN, "none").accuracy)
        if attack == WORST:
            return str(self.worst_case(model, knowledge)) if any(not c.threat and not c.refused for c in cells) else ""
        return next(("refused" if c.refused else str(c.accuracy) for c in cells if c.attack == attack), "")

    def redraw_table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows of what repeated draws say about randomised models; no rows where there are none."""
        rows = []
        for c in self.cells:
            if c.images and len(c.correct) > 1:
                means = [str(interval) for interval in (c.accuracy, c.worst, c.majority)]
                rows.append([c.model, c.attack, c.knowledge, str(len(c.correct)), *means])
        return ["model", "attack", "knowledge", "redraws", "mean", "right in every redraw", "majority vote"], rows

    def markdown(self) -> str:
        """Table, redraws, checks and what was not tested."""
        header, rows = self.table()
        lines = [f"Accuracy with 95 % Wilson intervals, {self.threat['norm']} eps {self.threat['eps']:g}", ""]
        lines += _markdown(header, rows)
        header, rows = self.redraw_table()
        if rows:
            lines += ["", *_markdown(header, rows)]
        lines += [
            "",
            *_markdown(["check", "model", "verdict", "detail"], [list(vars(v).values()) for v in self.checks]),
        ]
        return "\n".join([*lines, "", "Not tested:", "", *(f"- {line}" for line in self.not_tested), ""])


def robust(cells: Sequence[Cell]) -> list[bool]:
    """Per image, whether it was classified correctly in every redraw of every cell, over the images that all saw."""
    n = min((c.images for c in cells), default=0)
    return [all(row[i] for c in cells for row in c.correct) for i in range(n)]


def merge(reports: Sequence[Report], judge: Callable[[Report], tuple[Verdict, ...]]) -> Report:
    """The report that one run over all images would have given, from the reports of its shards.

    Args:
        reports: all shards of one evaluation, in any order.
        judge: the verdicts that follow from a report's cells.

    Raises:
        ValueError: not one report of every shard of the same evaluation.
    """
    shards = sorted(reports, key=lambda r: r.provenance.get("shard", [0, 1])[0])
    parts = [tuple(r.provenance.get("shard", [0, 1])) for r in shards]
    if not shards or parts != [(i, len(shards)) for i in range(len(shards))]:
        raise ValueError(f"expected every shard i/n of one evaluation once, got {[f'{i}/{n}' for i, n in parts]}")
    first = shards[0]
    if len(shards) == 1:
        return first
    for other in shards[1:]:
        for what in ("threat", "not_tested"):
            if getattr(first, what) != getattr(other, what):
                raise ValueError(f"expected shards of one evaluation, got different {what}")
        differing = [k for k in first.provenance if k not in COSTS and first.provenance[k] != other.provenance.get(k)]
        if differing:
            raise ValueError(f"expected shards of one evaluation, got different {', '.join(differing)}")
    cells, probes = (
        tuple(_joined(group) for group in zip(*(getattr(r, k) for r in shards), strict=True))
        for k in ("cells", "probes")
    )
    peak = max(r.provenance.get("peak_memory_bytes", 0) for r in shards)
    provenance = {**first.provenance, "shard": [0, 1], "peak_memory_bytes": peak}
    whole = Report(first.threat, cells, (), first.not_tested, provenance, probes)
    return replace(whole, checks=(*(v for r in shards for v in r.checks), *judge(whole)))


def _joined(cells: Sequence[Cell]) -> Cell:
    """One cell of the parts that hold images."""
    reasons = [c.refused for c in cells if c.refused]
    observed = {k: sum(c.observed.get(k, 0) for c in cells) for c in cells for k in c.observed}
    seconds = sum(c.seconds for c in cells)
    if reasons:
        return replace(cells[0], correct=(), hits=(), skipped=(), indices=(), refused=reasons[0],
                       observed={}, seconds=seconds)  # fmt: skip
    places = sorted((index, part, at) for part, c in enumerate(cells) for at, index in enumerate(c.indices))
    redraws = max(len(c.correct) for c in cells)

    def woven(rows_of: Callable[[Cell], Rows]) -> Rows:
        return tuple(tuple(rows_of(cells[part])[draw][at] for _, part, at in places) for draw in range(redraws))

    skipped = tuple(i for i, (_, part, at) in enumerate(places) if at in cells[part].skipped)
    hits = woven(lambda c: c.hits) if any(c.hits and c.hits[0] for c in cells) else ()
    indices = tuple(index for index, _, _ in places)
    return replace(
        cells[0], correct=woven(lambda c: c.correct), hits=hits, skipped=skipped, observed=observed, seconds=seconds,
        indices=() if indices == tuple(range(len(indices))) else indices,
    )  # fmt: skip


def _share(values: Sequence[float]) -> Interval:
    return wilson(sum(values) / len(values), len(values))


def _packed(cell: Cell) -> dict[str, Any]:
    """A cell without its defaults, its booleans as strings of 0 and 1."""
    defaults = {f.name: getattr(_EMPTY, f.name) for f in fields(cell)}
    data = {k: v for k, v in vars(cell).items() if v != defaults[k] or k in ("model", "attack", "knowledge")}
    for k in ("correct", "hits"):
        if k in data or k == "correct":
            data[k] = ["".join("01"[v] for v in row) for row in getattr(cell, k)]
    return data


def _unpacked(data: Mapping[str, Any]) -> Cell:
    def rows(value: Sequence[Any]) -> Iterator[tuple[bool, ...]]:
        for row in value:
            yield tuple(v in (True, "1") for v in row)

    ready = dict(data)
    for k in ("correct", "hits"):
        if k in ready:
            ready[k] = tuple(rows(ready[k]))
    for k in ("skipped", "indices"):
        if k in ready:
            ready[k] = tuple(ready[k])
    return Cell(**ready)


_EMPTY = Cell("", "", "", ())


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows]]
