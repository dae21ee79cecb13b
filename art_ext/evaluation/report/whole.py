"""A report: what was found, and its forms as JSON, tables and Markdown."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from art_ext.evaluation.report import form, page, rows, tables
from art_ext.evaluation.report.data import Findings
from art_ext.evaluation.statistics import Interval
from art_ext.files import replacing

UNEQUAL = ("peak_memory_bytes", "shard")
"""Entries of the provenance that may differ between two runs of one evaluation."""


@dataclass(frozen=True)
class Report(Findings):
    """An evaluation, per image, in every form: the methods here show what `Findings` holds.

    Two reports are equal where their JSON is: NaN equals NaN, a list a tuple. See `Findings` for the attributes.
    """

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Report) and self.to_json() == other.to_json()

    def table(self) -> tables.Table:
        """Header and rows for people, see `tables.accuracy_table`."""
        return tables.accuracy_table(self)

    def repeat_table(self) -> tables.Table:
        """Header and rows of the table of repeated answers; no rows where there are no randomised models."""
        return tables.repeat_table(self)

    def redraw_table(self) -> tables.Table:
        """`repeat_table` under its old name."""
        warnings.warn("redraw_table is called repeat_table now", DeprecationWarning, stacklevel=2)
        return tables.repeat_table(self)

    def curve(self, model: str, axis: str) -> list[tuple[float, Interval]]:
        """Accuracy of a model along "eps", "steps" or "eot_samples", as the probes found it, in ascending order.

        Raises:
            ValueError: another axis.
        """
        return tables.curve(self, model, axis)

    def transfer_matrix(self, attack: str) -> tuple[list[str], dict[tuple[str, str], Interval]]:
        """Accuracy of every model on the examples that an attack made against every other one.

        Args:
            attack: title of the attack, without " from ...".

        Returns:
            Names of the models, and accuracies by (source, model); the diagonal is the model's own attack.

        Raises:
            ValueError: there are no such examples.
        """
        return tables.transfer_matrix(self, attack)

    def robustbench(self, model: str) -> dict[str, Any]:
        """The entry of a RobustBench leaderboard, in per cent; unreliable for randomised models, which it excludes."""
        return tables.robustbench(self, model)

    def rows(self) -> list[dict[str, Any]]:
        """A dict a cell, see `rows.rows`."""
        return rows.rows(self)

    def to_pandas(self) -> Any:
        """`rows` as a pandas.DataFrame.

        Raises:
            ImportError: pandas is not installed.
        """
        return rows.to_pandas(self)

    def __repr__(self) -> str:
        n, models = len(self.labels) or max((c.images for c in self.cells), default=0), ", ".join(self.models())
        checks = Counter(v.verdict for v in self.checks)
        said = ", ".join(f"{checks[k]} {k}" for k in ("fail", "warn") if checks[k]) or "none failed or warned"
        return f"<Report on {models}: {tables.radius(self)}, n={n}, {len(self.cells)} rows, checks: {said}>"

    def _repr_html_(self) -> str:
        return page.summary(self)

    def markdown(self) -> str:
        """Table, repeats, checks and what was not tested."""
        return tables.markdown(self)

    def findings(self) -> Report:
        """The report without what it cost, when, and in how many shards: equal for two runs of the same evaluation."""
        free = {k: v for k, v in self.provenance.items() if k not in UNEQUAL}
        cells, probes = (tuple(replace(c, seconds=0.0) for c in group) for group in (self.cells, self.probes))
        inspected = tuple(replace(m, seconds_a_pass=0.0) for m in self.inspected)
        return replace(
            self,
            cells=cells,
            probes=probes,
            provenance=free,
            inspected=inspected,
            started="",
            ended="",
            notes=(),
            about={},
            call="",
        )

    def to_json(self) -> str:
        """The whole report; `from_json` gives it back unchanged."""
        return form.written(self)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """The report that `to_json` wrote, in this or an earlier schema.

        Raises:
            ValueError: not a report, or one of another schema.
        """
        return cls(**form.read(text))

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
