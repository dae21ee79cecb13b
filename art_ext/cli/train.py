"""art-ext train: a purifier for a user's classifier, from a user's images."""

from __future__ import annotations

import inspect
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from art_ext.cli import options
from art_ext.cli.errors import Debug, explained, machine_failed, suggestion
from art_ext.cli.terminal import say

if TYPE_CHECKING:
    from torch import Tensor, nn

    from art_ext.purifiers import Purifier
    from art_ext.training import Objective

CLASSIFIER = "classifier.safetensors"


def train(  # noqa: PLR0913, PLR0917  each is an option
    method: Annotated[str, typer.Argument(help="Name of the method: art-ext list purifiers.")],
    data: options.Data,
    classifier: options.Classifier,
    out: Annotated[Path, typer.Option(help="Folder for the purifier and its checkpoint; run again, it goes on.")],
    features_layer: Annotated[
        str | None,
        typer.Option(
            help="Layer of the classifier whose output the features are, such as features.15. Default: logits."
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the images; more of them continue a training.")] = 20,
    batch_size: Annotated[int, typer.Option(min=1, help="Images a step.")] = 64,
    eps: Annotated[
        str | None, typer.Option(help="Linf radius of the training attack for images in [0, 1]. Default: the paper's.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Of the training attack. Default: the paper's.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of every stage. Default: the paper's.")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Channels of the trunk, or width of the tokens.")] = None,
    blocks: Annotated[int | None, typer.Option(min=1, help="Blocks of RDP's purifier. Default: 23.")] = None,
    block: Annotated[str | None, typer.Option(help="Of RDP: rrdb or residual (light). Default: rrdb.")] = None,
    fold: Annotated[
        int | None, typer.Option(min=1, help="Side in pixels of squares taken as channels; 2 is faster. Default: 1.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="key=value: another argument of the constructor or the training, the value as JSON; repeat it.",
        ),
    ] = None,
    keys: options.Keys = "x,y",
    size: options.Size = None,
    channels: options.Channels = None,
    mean: options.Mean = None,
    std: options.Std = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    debug: Debug = False,
) -> None:
    """Train a purifier for your classifier on your images; labels are used only by methods that need them.

    The folder gets config.json and model.safetensors, for --purifier of the other commands. The state is kept in
    training.pt: a killed training goes on with the same command.
    """
    with explained(debug, resumes=True) as users:
        from art_ext.cli.fitting import claim, fit_stages
        from art_ext.cli.images import load_images
        from art_ext.cli.models import check_classifier, check_purifier, known_method, load_classifier
        from art_ext.nn.hashing import sha256

        known_method(method)
        if features_layer is not None and method != "rdp":
            raise ValueError(f"expected no --features-layer for {method}, which uses the classifier's answers")
        where, hw = options.device_of(device), options.height_width(size)
        found = load_images(data, split="train", keys=keys, size=hw, channels=channels, labels_needed=False)
        normal = {"mean": options.numbers(mean, "--mean"), "std": options.numbers(std, "--std")}
        network = load_classifier(classifier, device=where, **normal)
        users.add("the classifier", network, classifier)
        check_classifier(network, found.x[:3].to(where), found.labels, "--classifier")
        features = _features(network, features_layer, found.x[:2].to(where))
        shape = {"width": width, "blocks": blocks, "block": block, "fold": fold}
        said, more = _sorted(method, options.pairs(settings or []))
        arguments = _fitting(method, found.x[:1].to(where), network) | _once(_said(shape), said)
        radius = None if eps is None else options.number(eps, "--eps")
        tuning = _once(_said({"eps": radius, "steps": steps, "learning_rate": _positive(learning_rate)}), more)
        purifier = _purifier(method, arguments, found.x.shape[1], seed).to(where)
        check_purifier(purifier, found.x[:2].to(where))
        stages = _stages(purifier, features, tuning)
        record = {"method": method, "arguments": arguments, "tuning": tuning, "features_layer": features_layer,
                  "batch_size": batch_size, "seed": seed, "images": len(found.x),
                  "sha256_of_images": sha256([found.x]),
                  "sha256_of_classifier": sha256(network.state_dict().values())}  # fmt: skip
        record |= _said(normal)  # no part of the weights
        claim(out, record)
        fit_stages(stages, found, out, epochs=epochs, batch_size=batch_size, seed=seed)
        purifier.save_pretrained(out)
        trained = _save_classifier(network, stages, out)
    say(f"written to {out}: config.json, model.safetensors{trained}")
    if not trained:
        words = shlex.join(["--classifier", classifier, "--purifier", str(out)])
        say(f"next: art-ext evaluate {words} --data TEST --out FOLDER")
    if method == "cdvae" and not trained:
        say("CD-VAE is meant for a classifier that was trained on its output, and this one was not: CDVAETrainer")


def _said(values: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in values.items() if v is not None}


def _once(given: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Both together.

    Raises:
        ValueError: something has an option and --set of its own.
    """
    for key in given.keys() & settings.keys():
        raise ValueError(f"expected {key} once, got --{key.replace('_', '-')} and --set {key}=")
    return given | settings


def _positive(rate: float | None) -> float | None:
    if rate is not None and not 0 < rate < math.inf:
        raise ValueError(f"expected --learning-rate above 0, got {rate}")
    return rate


def _sorted(method: str, settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of the constructor, unknown ones too, and those of `stages`."""
    from art_ext.purifiers import PURIFIERS

    own = inspect.signature(PURIFIERS[method]).parameters
    of_stages = {*inspect.signature(PURIFIERS[method].stages).parameters} - {"self", "classifier", *own}
    more = {k: v for k, v in settings.items() if k in of_stages}
    return {k: v for k, v in settings.items() if k not in more}, more


def _fitting(method: str, x: Tensor, network: nn.Module) -> dict[str, Any]:
    """What images (N, C, H, W) and classifier say about arguments that a method has no use to guess."""
    import torch

    if method != "cdvae":
        return {}
    with torch.no_grad():
        classes = network(x).shape[1]
    return {"size": [*x.shape[2:]], "classes": classes}


def _save_classifier(network: nn.Module, stages: Sequence[Objective], out: Path) -> str:
    """Writes the classifier's weights where a stage trained it; gives what the last line has to say about it."""
    from safetensors.torch import save_file

    from art_ext.training import replacing

    moved = {id(p) for stage in stages for parameters in stage.players().values() for p in parameters}
    if not any(id(p) in moved for p in network.parameters()):
        return ""
    with replacing(out / CLASSIFIER) as temporary:
        save_file({k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}, temporary)
    return f", {CLASSIFIER} (the classifier was trained too: evaluate with code that loads it)"


def _features(network: nn.Module, layer: str | None, x: Tensor) -> nn.Module:
    """The layer's output, or the logits, through which a gradient has been sent.

    Raises:
        ValueError: there is no such layer, it is not reached, or no gradient passes.
    """
    import torch

    from art_ext.nn import FeatureExtractor

    if layer is not None:
        names = [name for name, _ in network.named_modules() if name]
        if layer not in names:
            raise ValueError(f"expected --features-layer out of {', '.join(names) or 'none'}; got {layer!r}"
                             f"{suggestion(layer, names)}")  # fmt: skip
        network = FeatureExtractor(network, layer)
    try:
        with torch.enable_grad():
            inside = x.detach().requires_grad_()
            torch.autograd.grad(network(inside).sum(), inside)
    except Exception as error:  # whatever a user's code raises
        if machine_failed(error):
            raise
        hint = " (compiled models hide their layers)" if layer is not None else ""
        raise ValueError(
            "expected a gradient from the classifier's features to the image, got "
            f"{type(error).__name__}: {error}{hint}"
        ) from error
    return network


def _purifier(method: str, arguments: dict[str, Any], channels: int, seed: int) -> Purifier:
    """A new purifier of a method.

    Raises:
        ValueError: arguments that its constructor does not have, or refuses.
    """
    from art_ext.nn import seeded
    from art_ext.purifiers import PURIFIERS

    kind = PURIFIERS[method]
    known = [k for k in inspect.signature(kind).parameters if k not in ("args", "kwargs")]
    for key in arguments:
        if key not in known:
            raise ValueError(f"expected an argument of {method} out of {', '.join(known)}; got {key!r}"
                             f"{suggestion(key, known)}")  # fmt: skip
    if "channels" in known:
        arguments.setdefault("channels", channels)
    with seeded(seed):
        return kind(**arguments)


def _stages(purifier: Purifier, features: nn.Module, tuning: dict[str, Any]) -> list[Objective]:
    """The objectives that train the purifier.

    Raises:
        ValueError: it cannot be trained, or has no such settings.
    """
    from art_ext.purifiers import RDP

    if isinstance(purifier, RDP):
        return [purifier.objective(features, **tuning)]
    unknown = [key for key in tuning if key not in inspect.signature(purifier.stages).parameters]
    if unknown:
        raise ValueError(f"expected no --{unknown[0].replace('_', '-')} for {purifier.name}, which has no such setting")
    stages = purifier.stages(features, **tuning)
    if not stages:
        raise ValueError(f"expected a method that can be trained, got {purifier.name!r}, which needs none")
    return stages
