"""What a model is, measured once: identity, answers, randomness, gradients."""

from art_ext.evaluation.inspect.identity import Fingerprint
from art_ext.evaluation.inspect.info import ArtGradient, BatchCheck, Found, Gradient, ModelInfo, UnitTest
from art_ext.evaluation.inspect.model import LOOKED_AT, fingerprint, identities, inspect_model
from art_ext.evaluation.inspect.models import inspect_models
from art_ext.nn.identity import Identity, identity

__all__ = [
    "LOOKED_AT",
    "ArtGradient",
    "BatchCheck",
    "Fingerprint",
    "Found",
    "Gradient",
    "Identity",
    "ModelInfo",
    "UnitTest",
    "fingerprint",
    "identities",
    "identity",
    "inspect_model",
    "inspect_models",
]
