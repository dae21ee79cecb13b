"""Attacks in plain torch: norms, gradients that compose, and one PGD loop."""

from art_ext.attacks.gradient import (
    Gradient,
    Loss,
    ascent,
    bpda,
    cross_entropy,
    eot,
    feature,
    frozen_noise,
    logit_margin,
    margin,
    straight_through_clamp,
)
from art_ext.attacks.norms import L1, L2, NORMS, Linf, Norm
from art_ext.attacks.pgd import pgd

__all__ = [
    "L1",
    "L2",
    "NORMS",
    "Gradient",
    "Linf",
    "Loss",
    "Norm",
    "ascent",
    "bpda",
    "cross_entropy",
    "eot",
    "feature",
    "frozen_noise",
    "logit_margin",
    "margin",
    "pgd",
    "straight_through_clamp",
]
