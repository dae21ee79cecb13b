"""The old name of `art_ext.attacks.until_broken`, which works for one more version."""

from art_ext.moved import moved

__getattr__ = moved(__name__, "art_ext.attacks.until_broken", "always_wrong", "pgd_until_broken")
