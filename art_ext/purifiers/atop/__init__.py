"""AToP: adversarial training on purification [Lin et al., ICLR 2024]."""

from art_ext.moved import moved
from art_ext.purifiers.atop.network import AutoEncoder, GatedConv, Generator, PatchDiscriminator
from art_ext.purifiers.atop.purifier import AToP
from art_ext.purifiers.atop.transforms import Draw, RandomTransform

__all__ = [
    "AToP",
    "AutoEncoder",
    "Draw",
    "GatedConv",
    "Generator",
    "PatchDiscriminator",
    "RandomTransform",
]

__getattr__ = moved(__name__, "art_ext.objectives", "AToPFineTuning", "AToPPretraining")
