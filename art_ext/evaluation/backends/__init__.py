"""Attack libraries behind one contract: (module, x, y) to x_adv inside a threat, by name."""

from art_ext.evaluation.backends.attack import TARGETS, YOURS, Attack, Function
from art_ext.evaluation.backends.entry import Backend, Entry
from art_ext.evaluation.backends.registry import BACKENDS

__all__ = ["BACKENDS", "TARGETS", "YOURS", "Attack", "Backend", "Entry", "Function"]
