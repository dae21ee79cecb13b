"""Looks at all models of an evaluation, and whether they fit each other and the labels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from art_ext.evaluation.inspect.info import ModelInfo
from art_ext.evaluation.inspect.model import LOOKED_AT, inspect_model
from art_ext.evaluation.targets import Defended
from art_ext.evaluation.threat import Threat
from art_ext.nn.identity import Identity


def inspect_models(
    models: Sequence[Defended], who: Mapping[str, Mapping[str, Identity]], x: Tensor, y: Tensor, threat: Threat,
    batch_size: int,
) -> dict[str, ModelInfo]:  # fmt: skip
    """What is found of each model, by name.

    Args:
        models: in eval mode.
        who: identities of each model's parts, by name of the model, taken before any pass.
        x: images (N, C, H, W) in [0, 1].
        y: labels (N,).
        threat: norm and radius.
        batch_size: the most images of one pass.

    Raises:
        ValueError: models of different numbers of classes, or labels beyond them.
    """
    piece = min(batch_size, LOOKED_AT)
    found = {}
    for m in models:
        info = inspect_model(m, _joint(who[m.name]), x, y, threat, piece)
        found[m.name] = replace(info, classifier=who[m.name]["classifier"].sha256)
    classes = {name: info.classes for name, info in found.items()}
    if len(set(classes.values())) > 1:
        raise ValueError(f"expected models that give logits (N, K) of one K, got {classes}")
    most = next(iter(classes.values()))
    if int(y.max()) >= most:
        raise ValueError(f"expected labels below the {most} classes of the models, got {int(y.max())}")
    return found


def _joint(parts: Mapping[str, Identity]) -> Identity:
    """The identity of a model from those of purifier and classifier."""
    chosen = [parts["purifier"], parts["classifier"]]
    text = " ".join(part.sha256 for part in chosen)
    return Identity(hashlib.sha256(text.encode()).hexdigest(), any(part.opaque for part in chosen))
