"""DRRDN: deep robust representation disentanglement network [Yang et al., AAAI 2021]."""

from art_ext.classifiers.drrdn.diagnostics import diagnose, read_out
from art_ext.classifiers.drrdn.mine import Mine
from art_ext.classifiers.drrdn.network import DRRDN, PreActDRRDN, Representations, SmallDRRDN, WideDRRDN, headless
from art_ext.classifiers.drrdn.objective import PAPER, PRINTED, DRRDNObjective, Rise, Weights

__all__ = [
    "DRRDN",
    "PAPER",
    "PRINTED",
    "DRRDNObjective",
    "Mine",
    "PreActDRRDN",
    "Representations",
    "Rise",
    "SmallDRRDN",
    "Weights",
    "WideDRRDN",
    "diagnose",
    "headless",
    "read_out",
]
