"""Purifiers: one folder a paper, one contract for all."""

from art_ext.purifiers.atop import AToP
from art_ext.purifiers.base import Purifier
from art_ext.purifiers.cdvae import CDVAE
from art_ext.purifiers.dir import DIR
from art_ext.purifiers.foreign import Chain, Foreign
from art_ext.purifiers.rdp import RDP

PURIFIERS: dict[str, type[Purifier]] = {p.name: p for p in (RDP, CDVAE, DIR, AToP)}
"""Every registered method by name; the contract tests and presets read this."""

__all__ = ["CDVAE", "DIR", "PURIFIERS", "RDP", "AToP", "Chain", "Foreign", "Purifier"]
