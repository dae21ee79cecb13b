"""Measuring a defence: threat, attacker's knowledge, attacks of four libraries, checks, and a report."""

from art_ext.evaluation.backends import BACKENDS, Attack
from art_ext.evaluation.binarisation import Binarisation, binarisation_test
from art_ext.evaluation.harness import evaluate, merged
from art_ext.evaluation.jobs import Probe
from art_ext.evaluation.models import Defended
from art_ext.evaluation.plans import PLANS, plan
from art_ext.evaluation.report import Cell, Report
from art_ext.evaluation.statistics import Interval, bootstrap, paired_difference, wilson
from art_ext.evaluation.threat import Knowledge, Threat

__all__ = [
    "BACKENDS",
    "PLANS",
    "Attack",
    "Binarisation",
    "Cell",
    "Defended",
    "Interval",
    "Knowledge",
    "Probe",
    "Report",
    "Threat",
    "binarisation_test",
    "bootstrap",
    "evaluate",
    "merged",
    "paired_difference",
    "plan",
    "wilson",
]
