"""CD-VAE: class-disentanglement by a variational autoencoder [Yang et al., NeurIPS 2021]."""

from art_ext.purifiers.cdvae.game import CDVAEGame
from art_ext.purifiers.cdvae.network import VAE, VQVAE, Coded, ResidualClassifier
from art_ext.purifiers.cdvae.objective import CDVAETraining, Curriculum
from art_ext.purifiers.cdvae.purifier import CDVAE, Residual

__all__ = [
    "CDVAE",
    "VAE",
    "VQVAE",
    "CDVAEGame",
    "CDVAETraining",
    "Coded",
    "Curriculum",
    "Residual",
    "ResidualClassifier",
]
