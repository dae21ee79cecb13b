"""ART estimators that are more than a wrapped module."""

from art_ext.estimators.drrdn import DRRDNClassifier
from art_ext.estimators.eot import EOTClassifier

__all__ = ["DRRDNClassifier", "EOTClassifier"]
