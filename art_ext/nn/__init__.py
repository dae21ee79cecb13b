"""Network blocks and losses that more than one method uses."""

from art_ext.nn.answers import predicted
from art_ext.nn.blocks import RRDB, DenseBlock, ResidualBlock
from art_ext.nn.features import FeatureExtractor, imagenet_vgg16
from art_ext.nn.losses import mean_l1, relativistic
from art_ext.nn.modes import evaluating, seeded, trainable, untracked

__all__ = [
    "RRDB",
    "DenseBlock",
    "FeatureExtractor",
    "ResidualBlock",
    "evaluating",
    "imagenet_vgg16",
    "mean_l1",
    "predicted",
    "relativistic",
    "seeded",
    "trainable",
    "untracked",
]
