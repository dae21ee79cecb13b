"""Detectors of adversarial images: a score an image, learned from clean ones, and attacks that know of it."""

from art_ext.detectors.attacks import evades, feature_matching, joint, nearest_guides, orthogonal
from art_ext.detectors.base import Detector
from art_ext.detectors.features import LayerFeatures
from art_ext.detectors.kernel_density import KernelDensity
from art_ext.detectors.layered import LayerDetector
from art_ext.detectors.lid import LID
from art_ext.detectors.mahalanobis import Mahalanobis
from art_ext.detectors.metrics import Roc, auc, roc, threshold_at, tnr_at_tpr
from art_ext.detectors.residual import Residual, on_residuals

DETECTORS: dict[str, type[LayerDetector]] = {d.name: d for d in (KernelDensity, LID, Mahalanobis)}
"""By name, for tables and tests."""

__all__ = [
    "DETECTORS",
    "LID",
    "Detector",
    "KernelDensity",
    "LayerDetector",
    "LayerFeatures",
    "Mahalanobis",
    "Residual",
    "Roc",
    "auc",
    "evades",
    "feature_matching",
    "joint",
    "nearest_guides",
    "on_residuals",
    "orthogonal",
    "roc",
    "threshold_at",
    "tnr_at_tpr",
]
