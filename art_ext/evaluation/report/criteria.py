"""What a defence must reach, decided before it is attacked, and whether the report shows it."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from art_ext.evaluation.report.data import Findings
from art_ext.evaluation.statistics import Interval, mean_interval

Met = Literal["met", "not met", "not shown"]
CLAIMS_NOTHING = "smoke"
"""The suite that shows that everything runs; no criterion is met by it."""
FIGURES: dict[str, Callable[[Findings, str], Interval]] = {
    "clean": lambda report, model: report.clean(model).accuracy,
    "worst_case": lambda report, model: report.worst_case(model),
    "worst_case_once": lambda report, model: report.worst_case(model, repeats=1),
}
"""Accuracy on clean images; share of images that no attack broke in any repeat; the same at R = 1."""
FORM = re.compile(r"\s*(\w+)\s*(?:of\s+(.+?)\s*)?>=\s*([\d.]+(?:e-?\d+)?)\s*(%?)\s*")


@dataclass(frozen=True)
class Criterion:
    """A figure that has to be at least so high.

    Attributes:
        figure: a key of `FIGURES`.
        bound: in [0, 1].
        model: whose; every defended model of the report where empty, every model where none is defended.
    """

    figure: str
    bound: float
    model: str = ""

    def __str__(self) -> str:
        return f"{self.figure}{f' of {self.model}' if self.model else ''} >= {self.bound!r}"

    @classmethod
    def parse(cls, text: str) -> Criterion:
        """The criterion of a text, such as "worst_case >= 0.40", "clean of RDP >= 90 %".

        Raises:
            TypeError: no text.
            ValueError: another form, another figure, or a bound outside [0, 1].
        """
        if not isinstance(text, str):
            raise TypeError(f'expected a criterion such as "worst_case >= 0.40", got {type(text).__name__}')
        found = FORM.fullmatch(text)
        if not found or found[1] not in FIGURES:
            raise ValueError(f'expected a criterion such as "worst_case >= 0.40" of {", ".join(FIGURES)}, got {text!r}')
        try:
            bound = float(found[3]) / (100 if found[4] else 1)
        except ValueError:
            bound = math.nan
        if not 0 <= bound <= 1:
            raise ValueError(f"expected a bound from 0 to 1 (or 0 to 100 %), got {text!r}")
        return cls(found[1], bound, found[2] or "")


@dataclass(frozen=True)
class Outcome:
    """Whether a model meets a criterion.

    Attributes:
        outcome: "met" where the whole interval is at or above the bound, "not met" where it is below, or where a check
            on the model failed; "not shown" in between, and under the suite that claims nothing.
        detail: the figure with its interval, and what decided.
    """

    criterion: Criterion
    model: str
    outcome: Met
    detail: str


def given_criteria(texts: Iterable[str]) -> tuple[str, ...]:
    """The criteria in one spelling, each once.

    Raises:
        TypeError: one text instead of several.
        ValueError: one that is none.
    """
    if isinstance(texts, str):
        raise TypeError(f"expected several criteria, such as [{texts!r}], got a single text")
    return tuple(dict.fromkeys(str(Criterion.parse(text)) for text in texts))


def outcomes(report: Findings) -> list[Outcome]:
    """What the report shows of each criterion that was decided beforehand, in their order."""
    found = []
    for criterion in map(Criterion.parse, report.required):
        models = [criterion.model] if criterion.model else _judged(report)
        found += [_outcome(report, criterion, model) for model in models]
    return found


def met(report: Findings) -> bool:
    """Whether every criterion is met; also where there is none."""
    return all(o.outcome == "met" for o in outcomes(report))


def needed(n: int, bound: float) -> float | None:
    """The smallest share of n images whose interval is at or above a bound; None where n is too small for any."""
    right = bisect_left(range(n + 1), True, key=lambda k: mean_interval([1.0] * k + [0.0] * (n - k)).low >= bound)
    return right / n if right <= n else None


def _judged(report: Findings) -> list[str]:
    defended = [m for m in report.models() if report.info(m).defended]
    return defended or report.models()


def _outcome(report: Findings, criterion: Criterion, model: str) -> Outcome:
    if model not in report.models():
        return Outcome(criterion, model, "not met", f"the report has no such model, but {', '.join(report.models())}")
    try:
        found = FIGURES[criterion.figure](report, model)
    except ValueError:
        return Outcome(criterion, model, "not met", "no attack on it counts")
    return Outcome(criterion, model, *_shown(report, model, found, criterion.bound))


def _shown(report: Findings, model: str, found: Interval, bound: float) -> tuple[Met, str]:
    """Whether a figure shows that a bound is reached, and why."""
    failed = [v.check for v in report.checks if v.model == model and v.verdict == "fail"]
    if failed:
        return "not met", f"{found}, but these checks failed: {', '.join(failed)}"
    if found.high < bound:
        return "not met", str(found)
    if report.suite == CLAIMS_NOTHING:
        return "not shown", f"{found}, but the suite {CLAIMS_NOTHING} claims nothing"
    if found.low >= bound:
        return "met", str(found)
    share = needed(found.n, bound)
    short = "no share of so few images would do" if share is None else f"{100 * share:.1f} % would have shown it"
    return "not shown", f"{found}: the interval holds the bound; of {found.n} images {short}"
