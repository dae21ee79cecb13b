"""The head of a page: what was evaluated, on what, when, and for whom."""

from __future__ import annotations

from datetime import datetime
from html import escape

from art_ext.evaluation.report.data import Findings
from art_ext.evaluation.report.tables import one_line, radius

HASH = 12
"""Characters of a hash that are shown."""


def facts(report: Findings) -> list[tuple[str, str]]:
    """The facts at the head of a page, as name and value; unknown ones are left out."""
    data = report.provenance.get("data", {})
    name = ", ".join(str(data[k]) for k in ("name", "images") if data.get(k)) if isinstance(data, dict) else ""
    found = [(key, str(value)) for key, value in sorted(report.about.items())]
    found += [(f"model {m.name}", _model(m.kind, m.sha256)) for m in report.inspected]
    found += [
        ("data", name),
        ("images", str(max((c.images for c in report.cells), default=0))),
        ("threat", f"{radius(report)}: perturbations of the input of the whole pipeline, images in [0, 1]"),
        ("suite", report.suite or "attacks of the user's own choice"),
        ("criteria", "" if report.required else "none was decided beforehand"),
        ("run", _when(report)),
        ("commit", str(report.provenance.get("git") or "")[:HASH]),
    ]
    return [(key, value) for key, value in found if value]


def heading(report: Findings) -> str:
    """`facts` as an HTML table."""
    rows = "".join(
        f'<tr><th scope="row">{escape(one_line(k))}</th><td>{escape(one_line(v))}</td></tr>' for k, v in facts(report)
    )
    return f'<div class="wide" tabindex="0"><table><tbody>{rows}</tbody></table></div>'


def _model(kind: str, sha256: str) -> str:
    return f"{kind}, sha256 {sha256[:HASH]}" if sha256 else kind


def _when(report: Findings) -> str:
    """Start, end and duration; empty where nothing is known of them."""
    if not report.started:
        return ""
    try:
        seconds = (datetime.fromisoformat(report.ended) - datetime.fromisoformat(report.started)).total_seconds()
    except ValueError:
        return f"from {report.started} to {report.ended}"
    return f"from {report.started} to {report.ended} ({seconds / 60:.1f} minutes)"
