"""Options that several commands share, and how their texts become values."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from art_ext.cli.errors import out_of_memory

if TYPE_CHECKING:
    import torch

SPEC = "preset name, package.module:name, file.py:name, TorchScript .pt/.ts or torch.export .pt2"

Classifier = Annotated[
    str, typer.Option(help=f"{SPEC}. A name is a factory without arguments or a module; images in [0, 1] to logits.")
]
Data = Annotated[
    Path,
    typer.Option(
        help="npz with arrays x and y, a folder with one subfolder a class, fashion_mnist (the subset shipped here) or "
        "cifar10 (cifar-10-batches-bin in data/, or where ART_EXT_DATA says)."
    ),
]
Keys = Annotated[str, typer.Option(help="Names of the arrays of images and labels in an npz.")]
Size = Annotated[
    str | None, typer.Option(help="Height and width in pixels to stretch images of a folder to: 224 or 224x160.")
]
Channels = Annotated[
    int | None,
    typer.Option(help="Read the images of a folder as 1 (grey) or 3 (RGB). Default: grey if all of them are."),
]
Mean = Annotated[
    str | None,
    typer.Option(help="Subtracted before models that want standardised input: one number a channel, in [0, 1]."),
]
Std = Annotated[str | None, typer.Option(help="Divides after --mean: one number a channel, for images in [0, 1].")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto takes a GPU where there is one.")]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of everything random.")]
Precision = Annotated[str, typer.Option(help="32-true, bf16-mixed, or on a GPU 16-mixed.")]
Devices = Annotated[
    int,
    typer.Option(min=1, help="Of this machine, on the CPU processes. Under torchrun or fabric run: those started."),
]
Logger = Annotated[
    str | None,
    typer.Option(
        help="csv, tensorboard, mlflow or wandb: writes the figures, of a training each epoch, below OUT/logs."
    ),
]
Augment = Annotated[
    str | None,
    typer.Option(help="Changes the images of each step: shift_and_flip:2 (pixels), crop:32 or crop:32x24."),
]
ValidationShare = Annotated[
    float,
    typer.Option(
        min=0, max=1, help="Of DRRDN: share of the images to hold out; the epoch of highest robust accuracy is kept."
    ),
]
Patience = Annotated[
    int | None, typer.Option(min=1, help="Of DRRDN: ends after so many epochs without a higher robust accuracy.")
]
Method = Annotated[
    str | None, typer.Option(help="Method of a purifier's folder (art-ext list purifiers). Default: found out.")
]


Export = Annotated[
    str | None, typer.Option(help="Also writes csv, latex, junit or sarif; several with commas between them.")
]

Workers = Annotated[
    int | None,
    typer.Option(min=1, help="So many processes of this machine, one GPU each; of Ray and Slurm the most at a time."),
]
Executor = Annotated[
    str | None,
    typer.Option(help="Who makes the blocks instead: ray, ray://HOST:PORT, slurm, or under torchrun torchrun."),
]
Slurm = Annotated[
    list[str] | None,
    typer.Option(help="key=value of the jobs: partition=gpu, timeout_min=60, gpus_per_node=1; repeat it."),
]


def logger(kind: str | None) -> str | None:
    """The kind of a logger, whose package is there.

    Raises:
        ImportError: it is not.
        ValueError: no such kind.
    """
    if kind is not None:
        from art_ext.training import made_logger

        made_logger(kind, "")
    return kind


def names(text: str | None) -> list[str]:
    """Names between commas; none for no text."""
    return [part.strip() for part in text.split(",")] if text else []


def texts(file: Path | None) -> dict[str, str]:
    """The texts of a TOML file; none without one.

    Raises:
        ValueError: no such file, no TOML, or a value that is no text.
    """
    if file is None:
        return {}
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        found = tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"expected --about as a TOML file, got {file}: {error}") from error
    if wrong := [key for key, value in found.items() if not isinstance(value, str)]:
        raise ValueError(f'expected texts in {file}, such as purpose = "..."; got others for {", ".join(wrong)}')
    return found


def number(text: str, what: str) -> float:
    """A finite decimal or a fraction such as 8/255.

    Raises:
        ValueError: anything else.
    """
    above, slash, below = text.replace(" ", "").partition("/")
    try:
        found = float(Fraction(above) / Fraction(int(below))) if slash else float(above)
    except (ValueError, ArithmeticError):
        found = math.nan
    if not math.isfinite(found):
        raise ValueError(f"expected {what} as a number or a fraction such as 8/255, got {text!r}")
    return found


def numbers(text: str | None, what: str) -> list[float] | None:
    """Numbers between commas, None for no text."""
    return None if text is None else [number(part, what) for part in text.split(",")]


def value(text: str) -> Any:
    """A JSON value, a fraction such as 8/255 as its number, or else the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    return number(text, "a value") if re.fullmatch(r"\d+/[1-9]\d*", text) else text


def pairs(texts: Iterable[str]) -> dict[str, Any]:
    """The mapping of key=value texts, values as `value` reads them.

    Raises:
        ValueError: no "=", or a key twice.
    """
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, said = text.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"expected key=value, got {text!r}")
        if key.strip() in found:
            raise ValueError(f"expected each key once, got {key.strip()!r} twice")
        found[key.strip()] = value(said)
    return found


def height_width(text: str | None) -> tuple[int, int] | None:
    """The (height, width) of a text such as 224 or 224x160.

    Raises:
        ValueError: anything else.
    """
    if text is None:
        return None
    found = re.fullmatch(r"([1-9]\d*)(?:x([1-9]\d*))?", text)
    if not found:
        raise ValueError(f"expected --size as 224 or 224x160, got {text!r}")
    return int(found[1]), int(found[2] or found[1])


def device_of(text: str) -> torch.device:
    """The device that --device names; a GPU becomes the process's current one, which libraries take for "the" GPU.

    Raises:
        ValueError: there is no such device, or it is another accelerator than CUDA's.
    """
    import torch

    if text == "auto":
        mine = f":{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else ""  # under torchrun
        text = f"cuda{mine}" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(text)
    except RuntimeError as error:
        raise ValueError(f"expected --device auto, cpu, cuda or cuda:1, got {text!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(
            f"expected --device auto, cpu, cuda or cuda:1, got {text!r}: on {device.type} neither seeds nor ART's "
            "attacks are what they are elsewhere"
        )
    try:
        torch.zeros(1, device=device)
        if device.index is not None and device.type == "cuda":
            torch.cuda.set_device(device)
    except (RuntimeError, AssertionError) as error:
        if out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0]
        raise ValueError(f"expected --device auto, cpu or a device that is there, got {text!r}: {reason}") from error
    return device
