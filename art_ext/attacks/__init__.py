"""Attacks in plain torch: norms, gradients that compose, and one PGD loop."""

from art_ext.attacks.active import Leave
from art_ext.attacks.apgd import apgd
from art_ext.attacks.autoattack import autoattack
from art_ext.attacks.best import Best
from art_ext.attacks.fab import fab
from art_ext.attacks.gradient import Gradient, ascent, bpda, eot, frozen_noise, straight_through_clamp
from art_ext.attacks.jpeg import jpeg_attack
from art_ext.attacks.losses import Loss, cross_entropy, divergence, dlr, dlr_targeted, feature, logit_margin, margin
from art_ext.attacks.norms import L1, L2, NORMS, Linf, Norm
from art_ext.attacks.pgd import pgd
from art_ext.attacks.randomness import AVERAGES, Averaged, Frozen
from art_ext.attacks.recolour import recoloradv
from art_ext.attacks.spatial import stadv
from art_ext.attacks.square import square
from art_ext.attacks.transfer import diverse, scaled_copies, si_ni_ti_dim, smoothed
from art_ext.attacks.until_broken import always_wrong, pgd_until_broken

__all__ = [
    "AVERAGES",
    "L1",
    "L2",
    "NORMS",
    "Averaged",
    "Best",
    "Frozen",
    "Gradient",
    "Leave",
    "Linf",
    "Loss",
    "Norm",
    "always_wrong",
    "apgd",
    "ascent",
    "autoattack",
    "bpda",
    "cross_entropy",
    "divergence",
    "diverse",
    "dlr",
    "dlr_targeted",
    "eot",
    "fab",
    "feature",
    "frozen_noise",
    "jpeg_attack",
    "logit_margin",
    "margin",
    "pgd",
    "pgd_until_broken",
    "recoloradv",
    "scaled_copies",
    "si_ni_ti_dim",
    "smoothed",
    "square",
    "stadv",
    "straight_through_clamp",
]
