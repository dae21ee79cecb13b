"""The purifiers and detectors under ART's names and base classes; nothing here computes, it only translates."""

from art_ext.defences.detector import CDVAEDetector
from art_ext.defences.drrdn import DRRDNTrainer
from art_ext.defences.foreign import ArtPurifier, as_purifier
from art_ext.defences.preprocessor import (
    AToPPreprocessor,
    CDVAEPreprocessor,
    DIRPreprocessor,
    PurifierPreprocessor,
    RDPPreprocessor,
)
from art_ext.defences.trainer import AToPTrainer, CDVAETrainer, DIRTrainer, PurifierTrainer, RDPTrainer
from art_ext.defences.view import as_module

__all__ = [
    "AToPPreprocessor",
    "AToPTrainer",
    "ArtPurifier",
    "CDVAEDetector",
    "CDVAEPreprocessor",
    "CDVAETrainer",
    "DIRPreprocessor",
    "DIRTrainer",
    "DRRDNTrainer",
    "PurifierPreprocessor",
    "PurifierTrainer",
    "RDPPreprocessor",
    "RDPTrainer",
    "as_module",
    "as_purifier",
]
