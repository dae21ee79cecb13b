"""Measuring a defence: threat, attacker's knowledge, attacks of four libraries, checks, and a report."""

from art_ext.evaluation.backends import BACKENDS, Attack
from art_ext.evaluation.harness import Defended, evaluate
from art_ext.evaluation.report import Cell, Report
from art_ext.evaluation.statistics import Interval, paired_difference, wilson
from art_ext.evaluation.threat import Knowledge, Threat

__all__ = [
    "BACKENDS",
    "Attack",
    "Cell",
    "Defended",
    "Interval",
    "Knowledge",
    "Report",
    "Threat",
    "evaluate",
    "paired_difference",
    "wilson",
]
