"""How each method is trained: its objectives, and `stages`, which makes them from the method's options."""

from art_ext.objectives.atop import AToPFineTuning, AToPPretraining, atop_stages, default_discriminator
from art_ext.objectives.cdvae import CDVAETraining, Curriculum, Disentangling
from art_ext.objectives.cdvae_game import CDVAEGame, cdvae_stages
from art_ext.objectives.dir import DIRPretraining, DIRRestoration, dir_stages
from art_ext.objectives.drrdn import drrdn_stages
from art_ext.objectives.rdp import RDPObjective, Weights, rdp_stages
from art_ext.objectives.stages import check_options, options_of, stages
from art_ext.training import check_labels, needs_labels

__all__ = [
    "AToPFineTuning",
    "AToPPretraining",
    "CDVAEGame",
    "CDVAETraining",
    "Curriculum",
    "DIRPretraining",
    "DIRRestoration",
    "Disentangling",
    "RDPObjective",
    "Weights",
    "atop_stages",
    "cdvae_stages",
    "check_labels",
    "check_options",
    "default_discriminator",
    "dir_stages",
    "drrdn_stages",
    "needs_labels",
    "options_of",
    "rdp_stages",
    "stages",
]
