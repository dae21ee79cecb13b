"""Detectors compared: on images and on purified images, and against attackers with full knowledge of the detector."""

from art_ext.evaluation.detection.attackers import FALSE_POSITIVES, adaptive
from art_ext.evaluation.detection.protocol import (
    ATTACKS,
    KNOWN,
    METRICS,
    NOISES,
    PROTOCOLS,
    STEPS,
    TARGETS,
    UNSEEN,
    Space,
    cells,
    compared,
    detectors,
    image_sets,
    right,
    surely,
)

__all__ = [
    "ATTACKS",
    "FALSE_POSITIVES",
    "KNOWN",
    "METRICS",
    "NOISES",
    "PROTOCOLS",
    "STEPS",
    "TARGETS",
    "UNSEEN",
    "Space",
    "adaptive",
    "cells",
    "compared",
    "detectors",
    "image_sets",
    "right",
    "surely",
]
