"""A report as one self-contained HTML page: verdict first, then numbers, checks, pictures, provenance."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from art_ext.evaluation.report.criteria import CLAIMS_NOTHING, outcomes
from art_ext.evaluation.report.data import Findings, Verdict
from art_ext.evaluation.report.heading import heading
from art_ext.evaluation.report.remedies import remedy
from art_ext.evaluation.report.rows import ATLAS, EVADE, NIST, kind_of
from art_ext.evaluation.report.sentences import NOTHING, left, stands_on
from art_ext.evaluation.report.tables import INTERVALS, accuracy_table, model_table, more_tables, one_line, radius
from art_ext.files import replacing

STYLE = """
:root { --ink: #1c2430; --paper: #fff; --shade: #f2f4f8; --rule: #d8dde5; --pass: #14693a; --warn: #8a5a00;
  --fail: #a4161a; --dim: #555e6c; --open: #6a3fa0; color-scheme: light dark }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --paper: #14181f; --shade: #1f2630; --rule: #3a4452;
  --pass: #6fd19a; --warn: #f0b955; --fail: #ff8a8a; --dim: #a7b0bd; --open: #c5a5f0 } img { background: #fff } }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: var(--ink);
  background: var(--paper) }
h1 { font-size: 1.6rem; margin-bottom: .2rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
table { border-collapse: collapse; font-size: .9rem } .wide { overflow-x: auto }
caption { text-align: left; font-weight: 600; padding: .3rem 0 }
th, td { border-bottom: 1px solid var(--rule); padding: .4rem .7rem; text-align: left; vertical-align: top }
th { background: var(--shade) } tr:last-child td { border-bottom: 2px solid var(--ink) }
.fail-box { border-color: var(--fail) !important } .warn-box { border-color: var(--warn) !important }
.wide:focus-visible, summary:focus-visible { outline: 2px solid var(--open) }
details summary { cursor: pointer; margin: .8rem 0 }
.verdict ul { margin: .2rem 0 0; font-size: .9rem } .verdict p { margin: .5rem 0 0 }
.verdict { border-left: .4rem solid var(--ink); background: var(--shade); padding: .8rem 1.2rem; margin: 1rem 0 }
.stamp { border: 2px solid var(--warn); color: var(--warn); padding: .4rem .8rem; font-weight: 600 }
.pass, .met { color: var(--pass) } .warn { color: var(--warn) } .fail, .unmet { color: var(--fail); font-weight: 600 }
.not { color: var(--dim) } .undetermined, .unshown { color: var(--open); font-weight: 600 }
td span { white-space: nowrap }
.verdict, li { overflow-wrap: anywhere } td { max-width: 40rem; overflow-wrap: break-word }
img { max-width: 100%; height: auto }
pre { background: var(--shade); padding: 1rem; overflow-x: auto; font-size: .8rem }
@media print { body { margin: 0; max-width: none; font-size: 10pt } .wide { overflow: visible }
  table { font-size: 7.5pt }
  th, td { padding: .15rem .3rem } td span { white-space: normal } pre { white-space: pre-wrap; font-size: 6.5pt }
  h2, caption { break-after: avoid } tr, li, img { break-inside: avoid } }
"""


LEGEND = (
    "What the attacker differentiates through: <b>bare classifier</b> that alone, which is also what is attacked; "
    "<b>transfer</b> another network; <b>blind</b> the classifier alone; <b>bpda</b> the purifier with an approximate "
    "gradient; <b>full</b> everything, exactly; <b>adaptive</b> that, and what the method makes possible. "
    "The worst case counts an image as left only if it was right under every attack inside the ball and in every one "
    "of R repeats, over the images that all of them saw; attacks with a bound of their own (StAdv, ReColorAdv, JPEG) "
    "do not count."
)
BOUNDS, WHOLE = re.compile(r"\[-?[\d.]+, -?[\d.]+\]"), r"<span>\g<0></span>"
"""The two ends of an interval stay on one line."""
OUTCOMES = {"met": "met", "not met": "unmet", "not shown": "unshown"}
WORRYING = {
    "fail": "Checks that failed: the numbers of this model are not to be believed before these are explained.",
    "warn": "Warnings:",
    "undetermined": "Undetermined, because these checks could not have told; more images would:",
}


def page(report: Findings, figures: Mapping[str, bytes] | None = None) -> str:
    """The report as HTML that needs no other file.

    Args:
        report: what to show.
        figures: PNG images by caption; `art_ext.plots.figures` makes the usual ones.
    """
    body = [
        "<h1>Robustness report</h1>",
        *([f'<p class="stamp">{NOTHING}</p>'] if report.suite == CLAIMS_NOTHING else []),
        heading(report),
        *_criteria(report),
        f"<p>{INTERVALS}</p>",
        *(_verdict(report, model) for model in _defended_first(report)),
        "<h2>Accuracy under attack</h2>",
        _table(*accuracy_table(report)),
        f"<p>{LEGEND}</p>",
        *([f"<p>{_own_bounds(report)}</p>"] if _own_bounds(report) else []),
        *(part for title, found, text in more_tables(report) for part in _section(title, *found, text)),
        "<h2>Checks</h2>",
        *_check_tables(report),
        *_section("Models", *model_table(report), "As they were found before the attacks, on the first images."),
        "<h2>Not tested</h2>",
        _list(report.not_tested),
        *(["<h2>Notes on the run</h2>", _list(report.notes)] if report.notes else []),
        *(_figure(caption, png) for caption, png in (figures or {}).items()),
        "<h2>Attacks and what they cost</h2>",
        _table(["model", "attack", "knowledge", "parameters", "images forward / backward", "seconds"], _costs(report)),
        f"<p>In the words of MITRE ATLAS ({EVADE}) and of NIST AI 100-2: {_safe(_taxonomy(report))}.</p>",
        "<h2>Provenance</h2>",
        f"<pre>{escape(json.dumps(report.provenance, indent=1, sort_keys=True))}</pre>",
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Robustness report</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body>{''.join(body)}</body></html>"
    )


def save_page(report: Findings, path: Path | str, figures: Mapping[str, bytes] | None = None) -> None:
    """Writes `page`, at once or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(page(report, figures), "utf-8")


def _advice(verdict: Verdict) -> str:
    found = remedy(verdict)
    return f". <em>{found}</em>" if found else ""


def _criteria(report: Findings) -> list[str]:
    """What had to be reached, and whether it was; nothing where nothing was asked."""
    found = outcomes(report)
    header = ["criterion, decided beforehand", "model", "outcome", "found"]
    rows = [[str(o.criterion), o.model, o.outcome, o.detail] for o in found]
    return [_table(header, rows, "What the defence had to reach")] if rows else []


def _taxonomy(report: Findings) -> str:
    """The kinds of attacks that count, under both names."""
    kinds = dict.fromkeys(kind_of(c) for c in report.cells if not c.is_clean and c.images)
    return "; ".join(f"{ATLAS[k]} ({NIST[k].partition(': ')[2]})" for k in kinds) or "no attack"


def summary(report: Findings) -> str:
    """The accuracies as an HTML table without a page around it, for notebooks."""
    return _table(*accuracy_table(report), f"Accuracy under attack, {radius(report)}")


def _section(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], text: str) -> list[str]:
    """A table under a heading; nothing where it has no rows."""
    return [f"<h2>{title}</h2>", _table(header, rows), f"<p>{text}</p>"] if rows else []


def _list(lines: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{_safe(line)}</li>" for line in lines) + "</ul>"


def _safe(text: str) -> str:
    """A text that is neither HTML nor holds control characters."""
    return escape(one_line(text))


def _defended_first(report: Findings) -> list[str]:
    return sorted(report.models(), key=lambda model: not report.info(model).defended)


def _verdict(report: Findings, model: str) -> str:
    """What a reader who stops here must know about a model: all numbers are over the same images."""
    text = (
        f"<b>{_safe(model)}</b>: {left(report, model, '<b>{}</b>'.format)} {_safe(stands_on(report, model))}".rstrip()
    )
    by = {verdict: [v for v in report.checks if v.model == model and v.verdict == verdict] for verdict in WORRYING}
    for verdict, found in by.items():
        if found:
            lines = "".join(f"<li>{_safe(v.check)}: {_safe(v.detail)}{_advice(v)}</li>" for v in found)
            text += f'<p class="{verdict}">{WORRYING[verdict]}</p><ul>{lines}</ul>'
    worst = next((verdict for verdict, found in by.items() if found), "pass")
    return f'<div class="verdict {worst}-box">{text}</div>'


def _check_tables(report: Findings) -> list[str]:
    """Those to worry about first; what passed can be unfolded."""
    order, header = ["fail", "warn", "undetermined", "not run"], ["check", "model", "verdict", "detail"]
    worrying = sorted((v for v in report.checks if v.verdict != "pass"), key=lambda v: order.index(v.verdict))
    tables = []
    for verdicts in (worrying, [v for v in report.checks if v.verdict == "pass"]):
        table = _table(header, [[v.check, v.model, v.verdict, v.detail] for v in verdicts]) if verdicts else ""
        tables.append(table)
    passed = sum(v.verdict == "pass" for v in report.checks)
    folded = f"<details><summary>{passed} checks passed</summary>{tables[1]}</details>" if passed else ""
    return [tables[0] or "<p>No check failed, warned or was left out.</p>", folded]


def _own_bounds(report: Findings) -> str:
    own = dict.fromkeys(f"{c.attack} (bounded by {c.threat})" for c in report.cells if c.threat)
    return f"Outside the ball, and not in the worst case: {_safe('; '.join(own))}." if own else ""


def _costs(report: Findings) -> list[list[str]]:
    rows = []
    for c in report.cells:
        if not c.is_clean and not c.source:
            said = ", ".join(
                f"{k} {format(v, '.6g') if isinstance(v, float) else v}" for k, v in sorted(c.parameters.items())
            )
            passes = f"{c.observed.get('forward', 0):,} / {c.observed.get('backward', 0):,}"
            rows.append([c.model, c.attack, c.knowledge, said, passes, f"{c.seconds:.1f}"])
    return rows


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """A table that keyboards can scroll."""
    head = "".join(f'<th scope="col">{_safe(h)}</th>' for h in header)
    body = "".join("<tr>" + "".join(map(_entry, header, row)) + "</tr>" for row in rows)
    above = f"<caption>{_safe(caption)}</caption>" if caption else ""
    table = f"<table>{above}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide" tabindex="0">{table}</div>'


def _entry(column: str, value: str) -> str:
    styles = {"verdict": value.split()[:1], "outcome": [OUTCOMES.get(value, "")]}.get(column)
    style = f' class="{styles[0]}"' if styles else ""
    return f"<td{style}>{BOUNDS.sub(WHOLE, _safe(value))}</td>"


def _figure(caption: str, png: bytes) -> str:
    data = base64.b64encode(png).decode("ascii")
    return f'<h2>{_safe(caption)}</h2><img alt="{_safe(caption)}" src="data:image/png;base64,{data}">'
