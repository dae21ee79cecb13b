"""The purifiers and detectors under ART's names and base classes; nothing here computes, it only translates."""

from art_ext.defences.detector import CDVAEDetector
from art_ext.defences.drrdn import DRRDNTrainer
from art_ext.defences.foreign import ArtPurifier, as_purifier
from art_ext.defences.preprocessor import PurifierPreprocessor
from art_ext.defences.preprocessors import AToPPreprocessor, CDVAEPreprocessor, DIRPreprocessor, RDPPreprocessor
from art_ext.defences.trainer import PurifierTrainer
from art_ext.defences.trainers import AToPTrainer, CDVAETrainer, DIRTrainer, RDPTrainer
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
