"""Trained networks that ship with the package: what they are, how they were made, weights behind a sha256."""

from art_ext.presets.catalogue import CLASSES, FOLDER, Preset, describe, load, names, round_weights, save

__all__ = ["CLASSES", "FOLDER", "Preset", "describe", "load", "names", "round_weights", "save"]
