"""art-ext train: a purifier for a user's classifier, or a DRRDN, from a user's images."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from art_ext.cli import options
from art_ext.cli.errors import Debug, explained
from art_ext.cli.terminal import say


def train(  # noqa: PLR0913, PLR0917  each is an option
    context: typer.Context,
    method: Annotated[
        str, typer.Argument(help="A purifier (art-ext list purifiers), drrdn, drrdn_wide or drrdn_preact.")
    ],
    data: options.Data,
    out: Annotated[Path, typer.Option(help="Folder for what is trained and its checkpoint; run again, it goes on.")],
    classifier: Annotated[
        str | None,
        typer.Option(help=f"What a purifier is trained for: {options.SPEC}. Images in [0, 1] to logits."),
    ] = None,
    features_layer: Annotated[
        str | None,
        typer.Option(
            help="Of RDP: layer of the classifier whose output the features are, such as features.15. Default: logits."
        ),
    ] = None,
    epochs: Annotated[
        int, typer.Option(min=1, help="Passes over the images; more of them continue a training of one stage.")
    ] = 20,
    batch_size: Annotated[int, typer.Option(min=1, help="Images a step.")] = 64,
    eps: Annotated[
        str | None, typer.Option(help="Radius of the training attack for images in [0, 1]. Default: the paper's.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Of the training attack. Default: the paper's.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Default: the paper's. Of DIR's first stage: --set pretraining_rate=.")
    ] = None,
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
            help="key=value: any setting listed below, the value as JSON, a network as file.py:name; repeat it.",
        ),
    ] = None,
    keys: options.Keys = "x,y",
    size: options.Size = None,
    channels: options.Channels = None,
    mean: options.Mean = None,
    std: options.Std = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    devices: options.Devices = 1,
    precision: options.Precision = "32-true",
    augment: options.Augment = None,
    logger: options.Logger = None,
    validation_share: options.ValidationShare = 0.0,
    patience: options.Patience = None,
    debug: Debug = False,
) -> None:
    """Train a purifier for your classifier on your images, or a DRRDN; some methods need labels.

    The folder gets config.json, model.safetensors and a model card, for --purifier of the other commands; where a
    classifier is trained classifier.pt2, for --classifier. The state is kept in training.pt.1 (a file a stage): a
    killed training goes on with the same command.
    """
    with explained(debug, resumes=True) as users:
        from art_ext.cli.fingerprint import settled
        from art_ext.cli.fitting import How, claim, fit_stages, placed, split
        from art_ext.cli.images import load_images
        from art_ext.cli.methods import method_of
        from art_ext.cli.outcome import advise, save, tell_accuracy
        from art_ext.cli.outcome import said as line_of
        from art_ext.cli.preparing import classifier_of, prepared
        from art_ext.training import by_first, launched, make_fabric

        known = method_of(method)
        radius = None if eps is None else options.number(eps, "--eps")
        named = {"eps": radius, "steps": steps, "learning_rate": _positive(learning_rate), "width": width,
                 "blocks": blocks, "block": block, "fold": fold}  # fmt: skip
        said, tuning = known.sorted(named, options.pairs(settings or []))
        how = How(epochs, batch_size, seed, augment, logger, validation_share, patience)
        where, hw = placed(device, devices), options.height_width(size)
        fabric = make_fabric(where, devices=devices, precision=precision)
        found = load_images(data, split="train", keys=keys, size=hw, channels=channels, labels_needed=False)
        pixels = {"mean": options.numbers(mean, "--mean"), "std": options.numbers(std, "--std")}
        normal = {k: v for k, v in pixels.items() if v is not None}
        network = classifier_of(known, classifier, features_layer, normal, where)
        if network is not None and classifier is not None:
            users.add("the classifier", network, classifier)
        job = prepared(known, network, found, said, tuning, layer=features_layer, seed=seed, device=where)
        facts = {"data": str(data), "keys": keys, "size": size, "channels": channels, "classifier": classifier}
        # What is normalised is no part of the weights.
        parts = split(job, found, how)
        record = job.record | how.record(fabric) | normal | facts
        by_first(launched(fabric), lambda: claim(out, settled(out, record)))
        fit_stages(job, parts, out, how, fabric)
        if not fabric.is_global_zero:
            return
        written = save(job, found.x[:1], out, line_of(context), epochs)
        tell_accuracy(job, found.x, found.labels, epochs * math.ceil(len(found.x) / batch_size))
    say(f"written to {out}: {', '.join(written)}")
    same = {"size": size, "channels": channels, "mean": mean, "std": std, "keys": None if keys == "x,y" else keys,
            "device": None if device == "auto" else device}  # fmt: skip
    advise(job, classifier, written, out, same)


def _positive(rate: float | None) -> float | None:
    if rate is not None and not 0 < rate < math.inf:
        raise ValueError(f"expected --learning-rate above 0, got {rate}")
    return rate
