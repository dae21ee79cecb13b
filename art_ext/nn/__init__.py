"""Network blocks and losses that more than one method uses."""

from art_ext.nn.blocks import RRDB, DenseBlock, ResidualBlock
from art_ext.nn.features import FeatureExtractor
from art_ext.nn.losses import mean_l1, relativistic
from art_ext.nn.modes import evaluating, seeded, trainable

__all__ = [
    "RRDB",
    "DenseBlock",
    "FeatureExtractor",
    "ResidualBlock",
    "evaluating",
    "mean_l1",
    "relativistic",
    "seeded",
    "trainable",
]
