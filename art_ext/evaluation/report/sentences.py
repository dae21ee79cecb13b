"""A model's robustness in two sentences: what is left, and which attack left so little."""

from __future__ import annotations

from collections.abc import Callable

from art_ext.evaluation.report.criteria import CLAIMS_NOTHING
from art_ext.evaluation.report.data import Cell, Findings
from art_ext.evaluation.statistics import mean_interval

NAMED = 3
"""Attacks that are named, of those that leave equally few images."""

NOTHING = "The suite smoke shows that everything runs. It claims nothing: use standard, or full for a claim."


def sentences(report: Findings) -> list[str]:
    """What stands before all tables: what the suite claims, where that is nothing, and each model's robustness."""
    stamp = [NOTHING] if report.suite == CLAIMS_NOTHING else []
    return stamp + [f"{m}: {left(report, m)} {stands_on(report, m)}".rstrip() for m in report.models()]


def left(report: Findings, model: str, strong: Callable[[str], str] = str) -> str:
    """Clean accuracy and worst case over the same images, of a randomised model at R = 1 and at all its repeats.

    Args:
        report: that has the model.
        model: its name.
        strong: what a worst case becomes, to stand out.
    """
    clean, attacked = report.clean(model), report.attacked(model)
    if not attacked:
        return f"{clean.accuracy} of clean images; no attack counts." if clean.images else "no images."
    once, again = report.worst_case(model, repeats=1), report.worst_case(model)
    same = mean_interval(clean.survived[: once.n], clean.repeats)
    text = f"{same} of clean images, {strong(str(once))} of the same images when every attack is tried on each"
    if again.repeats > 1:
        text += (
            f" and answered once (R = 1), {strong(str(again))} when answered {again.repeats} times: right every time"
        )
    return f"{text}."


def stands_on(report: Findings, model: str) -> str:
    """The strongest attack: alone, with the lowest accuracy on the images that all attacks saw, at R = 1.

    Empty where no attack counts.
    """
    cells = report.attacked(model)
    if not cells:
        return ""
    m = min(c.images for c in cells)
    right = [sum(c.survived[:m]) for c in cells]
    tied = [c for c, value in zip(cells, right, strict=True) if value - min(right) < 1e-9]
    # In a sequence those that come later leave as few when they break nothing more.
    tied = [c for i, c in enumerate(tied) if not c.skipped or c.knowledge not in {b.knowledge for b in tied[:i]}]
    names = [_effort(report, c) for c in tied[:NAMED]]
    if len(tied) == 1:
        return f"The strongest attack was {names[0]}."
    more = f"; and {len(tied) - NAMED} more" if len(tied) > NAMED else ""
    return f"The strongest attacks, which leave equally many, were {'; '.join(names)}{more}."


def _effort(report: Findings, cell: Cell) -> str:
    """An attack, its knowledge, and what it spent on an image."""
    spent = [f"{cell.attack} ({cell.knowledge})"]
    if cell.steps is not None:
        spent.append(_counted(cell.steps, "step") if cell.steps else "no gradient steps")
    samples = cell.parameters.get("eot_samples")
    if samples is not None and (cell.repeats > 1 or report.info(cell.model).random):
        spent.append(_counted(samples, "EOT sample"))
    return ", ".join(spent) + (", on what those before it had left" if cell.skipped else "")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
