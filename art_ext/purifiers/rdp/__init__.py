"""RDP, Representation Disentangled Purification [Bai, Zhao, Guo, Wen 2021, arXiv:2110.07801]."""

from art_ext.moved import moved
from art_ext.purifiers.rdp.network import Discriminator, Reconstructor
from art_ext.purifiers.rdp.purifier import RDP, Disentangled

__all__ = ["RDP", "Discriminator", "Disentangled", "Reconstructor"]

__getattr__ = moved(__name__, "art_ext.objectives", "RDPObjective", "Weights")
