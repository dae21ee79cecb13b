"""What an evaluation found, and its forms: JSON, tables, Markdown, one page."""

from art_ext.evaluation.report.data import CLEAN, UNDEFENDED, Cell, Findings, Refusal, Verdict
from art_ext.evaluation.report.merge import merge
from art_ext.evaluation.report.page import page, save_page
from art_ext.evaluation.report.tables import WORST
from art_ext.evaluation.report.whole import Report
from art_ext.evaluation.report.worst import robust

__all__ = [
    "CLEAN",
    "UNDEFENDED",
    "WORST",
    "Cell",
    "Findings",
    "Refusal",
    "Report",
    "Verdict",
    "merge",
    "page",
    "robust",
    "save_page",
]
