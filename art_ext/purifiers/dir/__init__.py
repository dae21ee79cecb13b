"""DIR: information discard and robust representation restoration [Zhou et al., ICML 2023]."""

from art_ext.purifiers.dir.diagnostics import per_mask_restorations, representation_attack
from art_ext.purifiers.dir.objective import DIRPretraining, DIRRestoration
from art_ext.purifiers.dir.purifier import DIR

__all__ = ["DIR", "DIRPretraining", "DIRRestoration", "per_mask_restorations", "representation_attack"]
