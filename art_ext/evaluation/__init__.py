"""Measuring a defence: threat, attacker's knowledge, attacks of four libraries, checks, and a report."""

from __future__ import annotations

import warnings
from typing import Any

from art_ext.evaluation.backends import BACKENDS, Attack
from art_ext.evaluation.binarisation import Binarisation, binarisation_test
from art_ext.evaluation.evaluate import evaluate, merged
from art_ext.evaluation.inspect import ModelInfo
from art_ext.evaluation.judge import judge
from art_ext.evaluation.report import Cell, Report, Verdict, save_page
from art_ext.evaluation.settings import Probe
from art_ext.evaluation.statistics import Interval, bootstrap, double_sampling, mean_interval, paired_difference, wilson
from art_ext.evaluation.suites import SUITES, Suite, suite
from art_ext.evaluation.tags import Tag
from art_ext.evaluation.targets import Defended
from art_ext.evaluation.threat import Knowledge, Threat

__all__ = [
    "BACKENDS",
    "PLANS",
    "SUITES",
    "Attack",
    "Binarisation",
    "Cell",
    "Defended",
    "Interval",
    "Knowledge",
    "ModelInfo",
    "Probe",
    "Report",
    "Suite",
    "Tag",
    "Threat",
    "Verdict",
    "binarisation_test",
    "bootstrap",
    "double_sampling",
    "evaluate",
    "judge",
    "mean_interval",
    "merged",
    "paired_difference",
    "plan",
    "save_page",
    "suite",
    "wilson",
]
PLANS = SUITES
"""`SUITES`, as it was called before 0.2."""


def plan(*args: Any, **kwargs: Any) -> Suite:
    """`suite`, as it was called before 0.2."""
    warnings.warn("art_ext.evaluation.plan is called suite now", DeprecationWarning, stacklevel=2)
    return suite(*args, **kwargs)
