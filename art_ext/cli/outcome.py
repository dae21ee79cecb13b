"""What `art-ext train` writes: the files of what was trained, and its last lines."""

from __future__ import annotations

import copy
import json
import shlex
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import art_ext
from art_ext.card import README, Facts, note
from art_ext.cli.classifiers import users_own
from art_ext.cli.errors import machine_failed
from art_ext.cli.fingerprint import AFTERWARDS, SHA256, answers
from art_ext.cli.fitting import STATE
from art_ext.cli.preparing import Job
from art_ext.cli.records import CONFIG, RECORD, json_object
from art_ext.cli.terminal import say, warn
from art_ext.files import replacing
from art_ext.nn.modes import evaluating, seeded
from art_ext.purifiers import Purifier
from art_ext.purifiers.saving import WEIGHTS

HOW = ("augment", "precision", "processes", "validation_share", "patience")
"""Keys of the record where they are not as usual."""
TOLD, PIECE = 256, 32
"""Images of which a training says whether they are still right, and how many are asked about at once."""
CLASSIFIER, EXPORTED, SCRIPTED = "classifier.safetensors", "classifier.pt2", "classifier.pt"
"""Of a classifier that was trained: the weights of the user's network; the whole with what --mean and --std put before
it; and, of TorchScript, which cannot be exported, the user's network alone."""


def said(context: Any) -> str:
    """The command line that a context was made of, its options in the order of the help."""
    words = ["art-ext", context.info_name]
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name)
        if source is None or source.name != "COMMANDLINE":
            continue
        value = context.params[parameter.name]
        values = [_word(v) for v in (value if isinstance(value, (list, tuple)) else [value])]
        if parameter.param_type_name == "argument":
            words += values
            continue
        option = max(parameter.opts, key=len)
        words += [option] if parameter.is_flag else [word for v in values for word in (option, v)]
    return shlex.join(words)


def _word(value: Any) -> str:
    return str(getattr(value, "value", value))  # of an enumeration its value


def save(job: Job, x: Tensor, out: Path, command: str, epochs: int) -> list[str]:
    """Writes what was trained; gives the names of the files.

    Args:
        job: whose model it is.
        x: some images (N, C, H, W).
        out: the folder.
        command: that made it, for the model card.
        epochs: passes over the images, for the model card.
    """
    x = x[:1].repeat(2, 1, 1, 1).cpu()  # exported with one image, a network would take no other number
    if not isinstance(job.model, Purifier):
        return _save_classifier(job, x, out)
    note(job.model, _facts(json_object(out / RECORD), command, epochs))
    job.model.save_pretrained(out)
    return [CONFIG, WEIGHTS, README, *_save_trained_too(job, x, out)]


def _facts(record: Mapping[str, Any], command: str, epochs: int) -> Facts:
    """What the record of a training says, for a model card."""
    data = f"{record['images']} images of {record.get('data', 'the user')}, sha256 {record['sha256_of_images']}"
    classifier = f"{record.get('classifier', 'of the user')}, sha256 of its weights {record[SHA256]}"
    keys = ("features_layer", "mean", "std", "batch_size", "seed", *HOW)
    settings = {key: record[key] for key in keys if record.get(key) is not None}
    settings |= {"epochs": epochs, "torch": torch.__version__, "art_ext": art_ext.__version__}
    return Facts(data=data, classifier=classifier, command=command, training={**record["tuning"], **settings})


def _save_trained_too(job: Job, x: Tensor, out: Path) -> list[str]:
    """Writes the classifier where it was trained too: the user's weights, and the whole as --classifier takes it."""
    moved = {id(p) for stage in job.stages for parameters in stage.players().values() for p in parameters}
    if job.network is None or not any(id(p) in moved for p in job.network.parameters()):
        return []
    own, _ = users_own(job.network)
    _save_weights(own, out / CLASSIFIER)
    device = next(p.device for p in job.network.parameters())
    job.network.eval()
    _amend(out, {AFTERWARDS: answers(job.network, x.shape[1:], device)})
    if isinstance(own, torch.jit.ScriptModule):
        with warnings.catch_warnings(), replacing(out / SCRIPTED) as temporary:
            warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
            torch.jit.save(own, str(temporary))
        return [CLASSIFIER, SCRIPTED]
    try:
        _export(job.network, x, out / EXPORTED)
    except Exception as error:  # whatever torch.export makes of a user's code
        if machine_failed(error) or isinstance(error, OSError):
            raise
        return [CLASSIFIER]
    return [CLASSIFIER, EXPORTED]


def _amend(out: Path, more: Mapping[str, Any]) -> None:
    record = {**json_object(out / RECORD), **more}
    with replacing(out / RECORD) as temporary:
        temporary.write_text(json.dumps(record, indent=1), "utf-8")


def _save_classifier(job: Job, x: Tensor, out: Path) -> list[str]:
    """Writes a classifier: its class and arguments, its weights, and the whole of it as --classifier takes it."""
    config = {"class": type(job.model).__name__, "arguments": job.arguments}
    with replacing(out / CONFIG) as temporary:
        temporary.write_text(json.dumps(config, indent=1), "utf-8")
    _save_weights(job.model, out / WEIGHTS)
    _export(job.model, x, out / EXPORTED)
    return [CONFIG, WEIGHTS, EXPORTED]


def _export(network: nn.Module, x: Tensor, file: Path) -> None:
    frozen = copy.deepcopy(network).cpu().eval().requires_grad_(False)
    program = torch.export.export(frozen, (x,), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    with replacing(file) as temporary, temporary.open("wb") as stream:
        torch.export.save(program, stream)


def _save_weights(network: nn.Module, file: Path) -> None:
    with replacing(file) as temporary:
        save_file({k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}, temporary)


def tell_accuracy(job: Job, x: Tensor, y: Tensor | None, steps: int) -> None:
    """Prints how many of the first training images the classifier gets right, with and without the purifier.

    A warning follows where the purifier surely loses half of them: such a training has gone wrong.

    Args:
        job: what was trained.
        x: images (N, C, H, W).
        y: labels (N,); None says nothing.
        steps: of each stage.
    """
    if y is None or job.network is None or not isinstance(job.model, Purifier):
        return
    from art_ext.evaluation.statistics import mean_interval, paired_difference

    device = next(job.model.parameters()).device
    x, y = x[:TOLD].to(device), y[:TOLD].to(device)
    with torch.no_grad(), evaluating(job.model, job.network), seeded(0):
        answers = (
            torch.cat([f(piece).argmax(1) for piece in x.split(PIECE)])
            for f in (job.network, nn.Sequential(job.model, job.network))
        )
        bare, purified = ((found == y).double().tolist() for found in answers)
    say(f"accuracy on the first images of the training: {mean_interval(bare)} without the purifier, "
        f"{mean_interval(purified)} with it")  # fmt: skip
    if paired_difference(bare, purified).low > sum(bare) / len(bare) / 2:
        warn(f"the purifier loses more than half of them, after {steps} steps a stage: try more --epochs, smaller "
             "--batch-size, more images, or a lower --learning-rate")  # fmt: skip


def advise(
    job: Job, classifier: str | None, written: list[str], out: Path, same: Mapping[str, str | int | None]
) -> None:
    """Says what comes next, and what of the folder is not needed for it.

    Args:
        job: what was trained.
        classifier: of --classifier.
        written: what `save` gave.
        out: the folder.
        same: options that the next command needs too, None where they were not given. What --mean and --std put before
            a classifier that was trained is in its file, unless that is of TorchScript.
    """
    states = sorted(out.glob(f"{STATE}.*"))
    if states:
        names, size = ", ".join(f.name for f in states), sum(f.stat().st_size for f in states) / 2**20
        say(f"{names} ({size:.1f} MiB): only needed to go on with this training, may be deleted")
    whole = EXPORTED in written
    made = next((name for name in (EXPORTED, SCRIPTED) if name in written), None)
    if CLASSIFIER in written and made is None:
        say(f"the classifier was trained too: evaluate with code that loads {out / CLASSIFIER}")
        return
    words = ["--classifier", str(classifier if made is None else out / made)]
    words += ["--purifier", str(out)] if isinstance(job.model, Purifier) else []
    options = {key: value for key, value in same.items() if not (whole and key in ("mean", "std"))}
    words += [word for key, value in options.items() if value is not None for word in (f"--{key}", str(value))]
    say(f"next: art-ext evaluate --data TEST {shlex.join([*words, '--out', f'{out}_evaluation'])}")
    advice = getattr(job.model, "advice", "")
    if advice and made is None:
        say(advice)
