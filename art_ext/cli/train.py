"""art-ext train: a purifier for a user's classifier, or a DRRDN, from a user's images."""

from __future__ import annotations

import copy
import json
import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from art_ext.cli import options
from art_ext.cli.errors import Debug, explained
from art_ext.cli.terminal import say

if TYPE_CHECKING:
    from torch import Tensor, nn

    from art_ext.cli.preparing import Job

CLASSIFIER, EXPORTED = "classifier.safetensors", "classifier.pt2"


def train(  # noqa: PLR0913, PLR0917  each is an option
    method: Annotated[str, typer.Argument(help="A purifier (art-ext list purifiers), drrdn or drrdn_wide.")],
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
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the images; more of them continue a training.")] = 20,
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
    debug: Debug = False,
) -> None:
    """Train a purifier for your classifier on your images, or a DRRDN; some methods need labels.

    The folder gets config.json and model.safetensors, for --purifier of the other commands; with a DRRDN
    classifier.pt2, for --classifier. The state is kept in training.pt.1 (a file a stage): a killed
    training goes on with the same command.
    """
    with explained(debug, resumes=True) as users:
        from art_ext.cli.fitting import claim, fit_stages
        from art_ext.cli.images import load_images
        from art_ext.cli.methods import method_of
        from art_ext.cli.preparing import classifier_of, prepared

        known = method_of(method)
        radius = None if eps is None else options.number(eps, "--eps")
        named = {"eps": radius, "steps": steps, "learning_rate": _positive(learning_rate), "width": width,
                 "blocks": blocks, "block": block, "fold": fold}  # fmt: skip
        said, tuning = known.sorted(named, options.pairs(settings or []))
        where, hw = options.device_of(device), options.height_width(size)
        found = load_images(data, split="train", keys=keys, size=hw, channels=channels, labels_needed=False)
        pixels = {"mean": options.numbers(mean, "--mean"), "std": options.numbers(std, "--std")}
        normal = {k: v for k, v in pixels.items() if v is not None}
        network = classifier_of(known, classifier, features_layer, normal, where)
        if network is not None and classifier is not None:
            users.add("the classifier", network, classifier)
        job = prepared(known, network, found, said, tuning, layer=features_layer, seed=seed, device=where)
        claim(out, job.record | {"batch_size": batch_size} | normal)  # what is normalised is no part of the weights
        fit_stages(job.stages, found, out, epochs=epochs, batch_size=batch_size, seed=seed)
        written = _save(job, found.x[:1].repeat(2, 1, 1, 1), out)
    say(f"written to {out}: {', '.join(written)}")
    _advise(job, classifier, written, out)


def _positive(rate: float | None) -> float | None:
    if rate is not None and not 0 < rate < math.inf:
        raise ValueError(f"expected --learning-rate above 0, got {rate}")
    return rate


def _save(job: Job, x: Tensor, out: Path) -> list[str]:
    """Writes what was trained; gives the names of the files."""
    from art_ext.purifiers import Purifier

    if not isinstance(job.model, Purifier):
        return _save_network(job, x, out)
    job.model.save_pretrained(out)
    written = ["config.json", "model.safetensors"]
    moved = {id(p) for stage in job.stages for parameters in stage.players().values() for p in parameters}
    if job.network is not None and any(id(p) in moved for p in job.network.parameters()):
        _save_weights(job.network, out / CLASSIFIER)
        written.append(CLASSIFIER)
    return written


def _save_network(job: Job, x: Tensor, out: Path) -> list[str]:
    """Writes a classifier: its class and arguments, its weights, and the whole of it as --classifier takes it.

    Args:
        job: whose model it is.
        x: images (2, C, H, W); exported with one, it would take no other number.
        out: the folder.
    """
    import torch

    from art_ext.files import replacing

    config = {"class": type(job.model).__name__, "arguments": job.arguments}
    with replacing(out / "config.json") as temporary:
        temporary.write_text(json.dumps(config, indent=1), "utf-8")
    _save_weights(job.model, out / "model.safetensors")
    network = copy.deepcopy(job.model).cpu().eval().requires_grad_(False)
    program = torch.export.export(network, (x.cpu(),), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    with replacing(out / EXPORTED) as temporary, temporary.open("wb") as file:
        torch.export.save(program, file)
    return ["config.json", "model.safetensors", EXPORTED]


def _save_weights(network: nn.Module, file: Path) -> None:
    from safetensors.torch import save_file

    from art_ext.files import replacing

    with replacing(file) as temporary:
        save_file({k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}, temporary)


def _advise(job: Job, classifier: str | None, written: list[str], out: Path) -> None:
    """Says what comes next."""
    if CLASSIFIER in written:
        say(f"the classifier was trained too: evaluate with code that loads {out / CLASSIFIER}")
        return
    words = ["--classifier", str(out / EXPORTED)]
    if classifier is not None:
        words = ["--classifier", classifier, "--purifier", str(out)]
    say(f"next: art-ext evaluate {shlex.join(words)} --data TEST --out FOLDER")
    advice = getattr(job.model, "advice", "")
    if advice:
        say(advice)
