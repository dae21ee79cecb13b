"""DIR: information discard and robust representation restoration [Zhou et al., ICML 2023]."""

from art_ext.moved import moved
from art_ext.purifiers.dir.diagnostics import per_mask_restorations, representation_attack, share_discarded, slopes
from art_ext.purifiers.dir.purifier import DIR

__all__ = ["DIR", "per_mask_restorations", "representation_attack", "share_discarded", "slopes"]

__getattr__ = moved(__name__, "art_ext.objectives", "DIRPretraining", "DIRRestoration")
