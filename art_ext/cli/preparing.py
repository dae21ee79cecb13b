"""What stands ready before the first step of `art-ext train`: the classifier, the model, its stages, its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.cli.classifiers import load_classifier, users_own
from art_ext.cli.errors import machine_failed, suggestion
from art_ext.cli.fingerprint import ANSWERS, SHA256, SHAPE, answers
from art_ext.cli.methods import Method, Settings
from art_ext.cli.trying import check_classifier, check_purifier
from art_ext.data import Images
from art_ext.nn import FeatureExtractor
from art_ext.nn.hashing import sha256
from art_ext.objectives import check_labels
from art_ext.purifiers import Purifier
from art_ext.training import Objective


@dataclass(frozen=True)
class Job:
    """A training that nothing has been refused of.

    Attributes:
        method: what is trained.
        arguments: of its constructor.
        model: new, on its device.
        network: the classifier that a purifier is trained for, None for a method that is a classifier.
        stages: the objectives.
        record: what tells the training from another one.
    """

    method: Method
    arguments: Settings
    model: nn.Module
    network: nn.Module | None
    stages: Sequence[Objective]
    record: dict[str, Any]


def classifier_of(
    method: Method, spec: str | None, layer: str | None, normal: dict[str, list[float]], device: torch.device
) -> nn.Module | None:
    """The classifier that a method is trained for, None for a method that is one.

    Args:
        method: what is trained.
        spec: of --classifier.
        layer: of --features-layer.
        normal: mean and std, where given.
        device: where to put it.

    Raises:
        ValueError: a classifier, its normalisation or a layer where the method has no use for it, or none where it has.
    """
    if layer is not None and "features" not in method.training:
        raise ValueError(f"expected no --features-layer for {method.name}, which uses the classifier's answers")
    if method.purifies:
        if spec is None:
            raise ValueError(f"expected --classifier to train {method.name} for, got none")
        return load_classifier(spec, device=device, **normal)
    given = [f"--{name}" for name, value in {"classifier": spec, **normal}.items() if value is not None]
    if given:
        raise ValueError(f"expected no {', '.join(given)} for {method.name}, which is a classifier itself")
    return None


def prepared(
    method: Method, network: nn.Module | None, found: Images, said: Settings, tuning: Settings, *,
    layer: str | None, seed: int, device: torch.device,
) -> Job:  # fmt: skip
    """A job, everything in it new from the seed.

    Args:
        method: what is trained.
        network: of `classifier_of`.
        found: images and labels.
        said: arguments of the constructor that were given.
        tuning: options of the training that were given.
        layer: of --features-layer.
        seed: of the model's weights and of helper networks.
        device: where to train.

    Raises:
        ValueError: something that does not fit the images, the method, or each other.
    """
    some = found.x[:3].to(device)
    classes = 1 if found.labels is None else int(found.labels.max()) + 1
    options = dict(tuning)
    if network is not None:
        classes = check_classifier(network, some, found.labels, "--classifier")
        if layer is not None:
            if "features" in options:
                raise ValueError("expected features once, got --features-layer and --set features=")
            options["features"] = _layer(network, layer)
        _check_gradient(options["features"] if layer is not None else network, some[:2], layer)
    arguments = method.arguments_for(found.x[:1], classes) | said
    model = method.made(arguments, seed).to(device)
    if isinstance(model, Purifier):
        check_purifier(model, some)
    else:
        check_classifier(model.eval(), some, found.labels, "the network")
    stages = method.stages(model, network, options, seed, device)
    check_labels(stages, found.labels is not None)
    record = {"method": method.name, "arguments": arguments, "tuning": tuning, "features_layer": layer, "seed": seed,
              "images": len(found.x), "sha256_of_images": sha256([found.x]), SHAPE: [*found.x.shape[1:]]}  # fmt: skip
    if network is not None:
        record[SHA256] = sha256(network.state_dict().values())
        record[ANSWERS] = answers(network, found.x.shape[1:], device)
    return Job(method, arguments, model, network, stages, record)


def _layer(network: nn.Module, layer: str) -> FeatureExtractor:
    """The network's output at a layer of the user's.

    Raises:
        ValueError: there is no such layer.
    """
    own, before = users_own(network)
    names = [name for name, _ in own.named_modules() if name]
    if layer not in names:
        raise ValueError(
            f"expected --features-layer out of {', '.join(names) or 'none'}; got {layer!r}{suggestion(layer, names)}"
        )
    return FeatureExtractor(network, before + layer)


def _check_gradient(features: nn.Module, x: Tensor, layer: str | None) -> None:
    """Sends a gradient through the logits or the layer's output.

    Raises:
        ValueError: none passes, or the layer is not reached.
    """
    try:
        with torch.enable_grad():
            inside = x.detach().requires_grad_()
            torch.autograd.grad(features(inside).sum(), inside)
    except Exception as error:  # whatever a user's code raises
        if machine_failed(error):
            raise
        hint = " (compiled models hide their layers)" if layer is not None else ""
        raise ValueError(
            "expected a gradient from the classifier's features to the image, got "
            f"{type(error).__name__}: {error}{hint}"
        ) from error
