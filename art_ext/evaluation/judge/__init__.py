"""Verdicts on everything that was run; all follow from the report alone."""

from art_ext.evaluation.judge.checks import CHECKS, judge
from art_ext.evaluation.judge.models import MODEL_CHECKS

__all__ = ["CHECKS", "MODEL_CHECKS", "judge"]
