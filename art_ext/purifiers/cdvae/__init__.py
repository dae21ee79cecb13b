"""CD-VAE: class-disentanglement by a variational autoencoder [Yang et al., NeurIPS 2021]."""

from art_ext.moved import moved
from art_ext.purifiers.cdvae.analysis import (
    DELTAS,
    IMAGES,
    cosine,
    cross_classification,
    decompose,
    frechet_distance,
    latent_correlation,
    part_norms,
    reconstruction_accuracy,
    trade_off,
)
from art_ext.purifiers.cdvae.network import VAE, VQVAE, Coded, ResidualClassifier
from art_ext.purifiers.cdvae.purifier import CDVAE

__all__ = [
    "CDVAE",
    "DELTAS",
    "IMAGES",
    "VAE",
    "VQVAE",
    "Coded",
    "ResidualClassifier",
    "cosine",
    "cross_classification",
    "decompose",
    "frechet_distance",
    "latent_correlation",
    "part_norms",
    "reconstruction_accuracy",
    "trade_off",
]

__getattr__ = moved(__name__, "art_ext.objectives", "CDVAEGame", "CDVAETraining", "Curriculum")
