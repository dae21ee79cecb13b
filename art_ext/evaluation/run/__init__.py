"""Running a schedule block by block, so that nothing is lost and nothing is run twice."""

from art_ext.evaluation.run.runner import Runner
from art_ext.evaluation.run.store import Store
from art_ext.evaluation.run.tracker import ModelTracker

__all__ = ["ModelTracker", "Runner", "Store"]
