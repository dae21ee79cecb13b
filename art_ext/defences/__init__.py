"""The purifiers under ART's names and base classes; nothing here computes, it only translates."""

from art_ext.defences.drrdn import DRRDNTrainer
from art_ext.defences.foreign import ArtPurifier, as_purifier
from art_ext.defences.preprocessor import AToPPreprocessor, DIRPreprocessor, PurifierPreprocessor, RDPPreprocessor
from art_ext.defences.trainer import AToPTrainer, DIRTrainer, PurifierTrainer, RDPTrainer
from art_ext.defences.view import as_module

__all__ = [
    "AToPPreprocessor",
    "AToPTrainer",
    "ArtPurifier",
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
