"""A report's numbers as tables for people: accuracies, repeats, checks, and all of it as Markdown."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from art_ext.evaluation.report.data import CLEAN, UNDEFENDED, Cell, Findings
from art_ext.evaluation.report.estimates import clean_of, curve_over_repeats, estimate_table
from art_ext.evaluation.report.legacy import PARAMETERS
from art_ext.evaluation.report.pairs import ALONE, pair_table
from art_ext.evaluation.report.sentences import sentences
from art_ext.evaluation.report.worst import robust, worst_of
from art_ext.evaluation.statistics import Interval, mean_interval
from art_ext.evaluation.tags import Tag
from art_ext.evaluation.threat import Knowledge

WORST = "worst case"
INTERVALS = (
    "Each accuracy has a 95 % interval, Student's t over the images with two right and two wrong ones added, which is "
    "over images, for these networks, not over trainings; n is the number of images, R how often a randomised model "
    "answered each."
)
AXES = {"eps": Tag.EPS, "steps": Tag.STEPS, "eot_samples": Tag.EOT_SAMPLES}
Table = tuple[list[str], list[list[str]]]
"""Header and rows."""
MARKS = {"\\": "\\\\", "|": "\\|", "<": "&lt;", ">": "&gt;", "`": "\\`", "](": "]\\("}
"""What has a meaning in Markdown, and how it is written as text."""
UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Categories of characters that a reader does not see: controls, marks of direction, halves of pairs, line breaks."""


def accuracy_table(report: Findings) -> Table:
    """A block of rows a model, a column a knowledge; accuracy, interval and n.

    What knowledge `undefended` attacks stands under "bare classifier", which of a defended model is that before
    which its purifier was put. A randomised model has a worst case at R = 1 and one at all its repeats.
    """
    there = {c.knowledge for c in report.cells if not c.is_clean}
    known = [k.value for k in Knowledge if k.value in there]
    rows, bare = [], report.undefended()
    for model in [m for m in report.models() if m != bare] or report.models():
        cells = {k: _beside(report, model, k) for k in known}
        # Clean images know no attacker: their accuracy is the same under each knowledge.
        rows.append([model, CLEAN, *(_clean(report, cells[k][0].model) if cells[k] else "" for k in known)])
        for attack in dict.fromkeys(c.attack for c in report.shown(model)):
            rows.append([model, attack, *(_accuracy(report, cells[k], attack) for k in known)])
        if len({c.attack for c in report.attacked(model)}) > 1:
            rows += _worst_rows(report, model, list(cells.values()))
    return ["model", "attack", *("bare classifier" if k == UNDEFENDED else k for k in known)], rows


def _beside(report: Findings, model: str, knowledge: str) -> list[Cell]:
    """The cells of a column; those of its classifier alone stand beside those of a defended model."""
    if knowledge == UNDEFENDED and not any(c.knowledge == UNDEFENDED for c in report.shown(model)):
        model = bare_of(report, model) or model
    return [c for c in report.shown(model) if c.knowledge == knowledge]


def bare_of(report: Findings, model: str) -> str | None:
    """The model that is a defended one's classifier alone, None if there is none.

    In reports that do not say which classifiers their models have, the first one without a purifier.
    """
    mine = report.info(model).classifier
    if not mine:
        return report.undefended()
    alone = dict.fromkeys(c.model for c in report.cells if c.knowledge == UNDEFENDED)
    return next((name for name in alone if report.info(name).classifier == mine), None)


def _clean(report: Findings, model: str) -> str:
    clean = report.clean(model)
    return str(clean.accuracy) if clean.images else ""


def _accuracy(report: Findings, cells: Sequence[Cell], attack: str) -> str:
    # The classifier alone draws nothing; without its hash, these cells may be another network's.
    once = re.sub(r" \+ EOT-\d+$", "", attack)
    own = [c for c in cells if c.knowledge == UNDEFENDED and report.info(c.model).classifier]
    alike = [c for c in cells if c.attack == attack] or [c for c in own if c.attack == once]
    return next(("refused" if c.refused else _row(report, c) for c in alike), "")


def _row(report: Findings, cell: Cell) -> str:
    return f"{left_of_row(report, cell)}{' (left after the sequence)' if cell.skipped else ''}"


def left_of_row(report: Findings, cell: Cell) -> Interval:
    """What the row of an attack shows: its accuracy, or what is left after it where it was part of a sequence.

    Images that the attacks before it had broken were not attacked again, so a mean over repeats would be that of no
    attack: the share is counted of images that neither it nor those before it in the sequence broke in any repeat.
    """
    if not cell.skipped:
        return cell.accuracy
    same = [c for c in report.cells if (c.model, c.knowledge) == (cell.model, cell.knowledge)]
    before = [c for c in same[: same.index(cell)] if not c.threat and not c.refused]
    rows = [row for c in (*before, cell) for row in c.correct]
    left = [float(all(row[i] for row in rows if i < len(row))) for i in range(cell.images)]
    return mean_interval(left, cell.repeats)


def _worst_rows(report: Findings, model: str, columns: Sequence[Sequence[Cell]]) -> list[list[str]]:
    """The worst case of each column; of randomised models at R = 1, and at the repeats that every column has."""
    counted = [[c for c in cells if not c.threat and not c.refused and c.images] for cells in columns]
    most = min((c.repeats for cells in counted for c in cells if c.repeats > 1), default=1)
    titles = {1: f"{WORST}, R = 1", most: f"{WORST}, R = {most}"} if most > 1 else {1: WORST}
    return [[model, title, *(_worst(report, cells, r) for cells in counted)] for r, title in titles.items()]


def _worst(report: Findings, cells: Sequence[Cell], repeats: int) -> str:
    """The worst case; where some attack saw but a part of the images, with the clean accuracy on that part."""
    if not cells:
        return ""
    left, model = worst_of(cells, repeats), cells[0].model
    if left.n >= report.clean(model).images:
        return str(left)
    same = clean_of(report, model, left.n, repeats)
    return f"{left} (clean {100 * same.mean:.1f} %{f' R={same.repeats}' if same.repeats > 1 else ''})"


def repeat_table(report: Findings) -> Table:
    """The table of repeated answers of randomised models; no rows where there are none.

    The vote is the plurality of the repeats, of cells without classes (reports before schema 3) the absolute majority;
    its header says which. What a sequence has left has neither a mean nor a vote.
    """
    cells = [c for c in report.cells if c.images and c.repeats > 1]
    rows = []
    for c in cells:
        shown = ["", _row(report, c), ""] if c.skipped else [str(i) for i in (c.accuracy, c.worst, c.vote)]
        rows.append([c.model, c.attack, c.knowledge, *shown])
    kinds = {bool(c.predicted) for c in cells}
    vote = "plurality; absolute majority where classes are unknown" if len(kinds) > 1 else "plurality"
    vote = "absolute majority, classes are unknown" if kinds == {False} else vote
    return ["model", "attack", "knowledge", "mean", "right in every repeat", f"vote ({vote})"], rows


def refused_table(report: Findings) -> Table:
    """The attacks whose rows do not count, and why."""
    rows = [[c.model, c.attack, c.knowledge, c.refusal.value, c.refused] for c in report.cells if c.refused]
    return ["model", "attack", "knowledge", "kind", "reason"], rows


def model_table(report: Findings) -> Table:
    """What was found of each model; no rows for a report before schema 3."""
    rows = []
    for m in report.inspected:
        if m.fingerprint is not None:
            gradient = m.gradient.value if m.gradient is not None else ""
            cost = f"{1e3 * m.seconds_a_pass:.3g} ms"
            rows.append([m.name, m.kind, m.dtype, m.randomised.value or "nowhere", gradient, cost, m.sha256[:12]])
    header = ["model", "networks", "weights", "five passes differ on", "gradient", "an image, forward", "sha256"]
    return header, rows


def check_table(report: Findings) -> Table:
    """Every verdict."""
    return ["check", "model", "verdict", "detail"], [[v.check, v.model, v.verdict, v.detail] for v in report.checks]


def curve(report: Findings, model: str, axis: str) -> list[tuple[float, Interval]]:
    """Accuracy of a model along an axis, as the probes found it, in ascending order; "draws" are EOT samples.

    Raises:
        ValueError: another axis.
    """
    axis = PARAMETERS.get(axis, axis)
    if axis not in AXES:
        raise ValueError(f"expected axis {', '.join(AXES)}, got {axis!r}")
    cells = report.probed(model, AXES[axis])
    found = {float(c.parameters[axis]): c.accuracy for c in cells}
    clean = [c for c in report.cells if c.model == model and c.is_clean and c.images]
    if axis == "eps" and found and clean:
        found[0.0] = mean_interval(clean[0].survived[: cells[0].images])
    return sorted(found.items())


def transfer_matrix(report: Findings, attack: str) -> tuple[list[str], dict[tuple[str, str], Interval]]:
    """Names of the models, and accuracies by (source, model); the diagonal is the model's own attack.

    Raises:
        ValueError: there are no such examples.
    """
    found: dict[tuple[str, str], Interval] = {}
    for c in report.cells:
        if c.images and c.source and c.attack == f"{attack} from {c.source}":
            found[c.source, c.model] = c.accuracy
        elif c.images and c.attack == attack and c.knowledge in (UNDEFENDED, Knowledge.FULL.value):
            found[c.model, c.model] = c.accuracy
    if not any(a != b for a, b in found):
        titles = sorted({c.attack.removesuffix(f" from {c.source}") for c in report.cells if c.source})
        raise ValueError(f"expected an attack whose examples were tried on other models, {titles}; got {attack!r}")
    return [m for m in report.models() if any(m in pair for pair in found)], found


def robustbench(report: Findings, model: str) -> dict[str, Any]:
    """The entry of a RobustBench leaderboard, in per cent; unreliable for randomised models, which it excludes.

    Both accuracies are over the n images that AutoAttack saw, over all where it was not run.

    Raises:
        ValueError: the report has no images.
    """
    auto: list[Cell] = [c for c in report.attacked(model) if c.backend == "autoattack"]
    left = [float(v) for v in robust(auto)]
    clean = report.clean(model).survived
    n = len(left) if auto else len(clean)
    eps = float(report.threat["eps"])
    entry: dict[str, Any] = {
        "clean_acc": round(100 * mean_interval(clean[:n]).mean, 2),
        "autoattack_acc": round(100 * mean_interval(left).mean, 2) if auto else None,
        "eps": f"{round(255 * eps)}/255" if abs(255 * eps - round(255 * eps)) < 1e-6 else f"{eps:g}",
        "n": n,
        "unreliable": False,
    }
    if report.info(model).random:
        entry["unreliable"] = True
        entry["footnote"] = "randomised: AutoAttack's flags hold for one draw; see the mean and worst of the repeats"
    return entry


def radius(report: Findings) -> str:
    """Norm and radius, as the user wrote it."""
    return f"{report.threat['norm']} eps {report.threat.get('given') or format(report.threat['eps'], 'g')}"


def more_tables(report: Findings) -> list[tuple[str, Table, str]]:
    """Titles, tables and what they mean in a sentence; only those that have rows."""
    found = [
        (
            "Differences between the models",
            pair_table(report),
            f"Points by which the first is better, paired image by image. {ALONE}",
        ),
        (
            "Randomised models, answered again",
            repeat_table(report),
            "The mean is what one query meets; an attacker who may submit again meets the second number; the third is "
            "a defence that answers by a vote of its own answers, in which a tie counts in part.",
        ),
        (
            "Worst case over repeats",
            curve_over_repeats(report),
            "It falls without limit as R grows, so models are compared at R = 1 and at one stated R.",
        ),
        (
            "Estimated for all images",
            estimate_table(report),
            "Some attacks saw m images only. What all would leave of all N images, at R = 1, is estimated from one "
            "attack that saw them all: what it left of N, plus what the worst case differs from it by on the m images.",
        ),
        (
            "Attacks that do not count",
            refused_table(report),
            "These raised an error, ran out of memory or left the threat: no number above counts them.",
        ),
    ]
    return [entry for entry in found if entry[1][1]]


def markdown(report: Findings) -> str:
    """All tables, checks and what was not tested."""
    lines = [*map(_item, sentences(report)), ""]
    lines += [f"Accuracy under attack, {in_cell(radius(report))}. {INTERVALS}", ""]
    lines += table_lines(*accuracy_table(report))
    for title, table, text in more_tables(report):
        lines += ["", f"{title}. {text}", "", *table_lines(*table)]
    lines += ["", *table_lines(*check_table(report)), "", "Not tested:", ""]
    lines += map(_item, report.not_tested)
    if report.notes:
        lines += ["", "Notes:", "", *map(_item, report.notes)]
    return "\n".join([*lines, ""])


def table_lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table as lines of Markdown; texts are escaped, so that each stays in its cell."""
    return ["| " + " | ".join(map(in_cell, row)) + " |" for row in [header, ["---"] * len(header), *rows]]


def _item(text: str) -> str:
    """A text as an entry of a list, that begins no heading or list of its own."""
    return "- " + re.sub(r"^([#+*=~-])", r"\\\1", in_cell(text))


def in_cell(text: str) -> str:
    """A text that cannot leave its place in a Markdown table or list, nor begin HTML, code, a link or a picture."""
    for mark, instead in MARKS.items():
        text = text.replace(mark, instead)
    return one_line(text)


def one_line(text: str) -> str:
    """The text with line breaks, escape sequences and other characters that are no letters written out."""
    return "".join(ascii(c)[1:-1] if unicodedata.category(c) in UNSEEN else c for c in text)
