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
from art_ext.evaluation.statistics import Interval, bootstrap, paired_difference, wilson
from art_ext.evaluation.suites import SUITES, Suite, suite
from art_ext.evaluation.tags import Tag
from art_ext.evaluation.targets import Defended
from art_ext.evaluation.threat import Knowledge, Threat

__all__ = [
    "BACKENDS",
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
    "evaluate",
    "judge",
    "merged",
    "paired_difference",
    "save_page",
    "suite",
    "wilson",
]
OLD = {"PLANS": "SUITES", "plan": "suite"}
"""Spellings before 0.2."""


def __getattr__(name: str) -> Any:
    if name not in OLD:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"art_ext.evaluation.{name} is called {OLD[name]} now", DeprecationWarning, stacklevel=2)
    return globals()[OLD[name]]
