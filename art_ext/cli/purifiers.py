"""Users' purifiers, by preset name, code, folder or the name of a method."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from art_ext import presets
from art_ext.cli.code import called, check_named, code
from art_ext.cli.errors import machine_failed, suggestion
from art_ext.cli.records import CONFIG, RECORD, json_object
from art_ext.purifiers import PURIFIERS, Purifier, purifier_class, purifier_names
from art_ext.purifiers.saving import WEIGHTS


def load_purifier(spec: str, *, device: torch.device, method: str | None = None) -> Purifier:
    """A purifier in eval mode, its parameters not requiring gradients.

    Args:
        spec: a preset, a folder of `save_pretrained`, `file.py:name` (a module or function from images to images, or
            a factory without arguments that gives one), or the name of a method that has no weights to train.
        device: where to put it.
        method: of a folder; found out unless given.

    Raises:
        ValueError: no such thing, or one that does not load.
        TypeError: something that is no purifier.
    """
    if Path(spec).is_dir():
        purifier = _pretrained(Path(spec), method)
    elif spec in presets.names():
        network = presets.load(spec)
        if not isinstance(network, Purifier):
            raise ValueError(f"expected a purifier, got the preset {spec!r}, which is a classifier")
        purifier = network
    elif ":" in spec:
        purifier = _wrapped(spec)
    elif spec in (methods := purifier_names()):
        purifier = _untrained(spec)
    else:
        check_named(spec)
        names = purifier_presets()
        raise ValueError(
            f"expected a purifier's preset ({', '.join(names)}), folder or file.py:name, got {spec!r}"
            f"{suggestion(spec, [*names, *methods])}"
        )
    return purifier.requires_grad_(False).eval().to(device)


def _untrained(name: str) -> Purifier:
    """A purifier that needs no training.

    Raises:
        ValueError: it has weights, or its constructor wants arguments.
    """
    purifier: Purifier = called(purifier_class(name), name)
    if any(True for _ in purifier.parameters()):
        raise ValueError(f"expected a trained purifier, got the method {name!r}: say the folder that "
                         f"art-ext train {name} wrote")  # fmt: skip
    return purifier


def purifier_presets() -> list[str]:
    """The presets that are purifiers, by name."""
    known = {p.__name__ for p in PURIFIERS.values()}
    return [n for n in presets.names() if presets.describe(n).class_name in known]


def _wrapped(spec: str) -> Purifier:
    from art_ext.defences import as_purifier

    found = code(spec)
    if isinstance(found, type) or (not isinstance(found, nn.Module) and callable(found) and not _takes_images(found)):
        found = called(found, spec)
    return found if isinstance(found, Purifier) else as_purifier(found)


def _takes_images(function: Callable[..., Any]) -> bool:
    """Whether a function must be given something: then it is the purifier itself, and no factory."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # of a builtin
        return True
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(p.kind in kinds and p.default is inspect.Parameter.empty for p in parameters)


def _pretrained(folder: Path, method: str | None) -> Purifier:
    if not (folder / CONFIG).is_file() and (folder / RECORD).is_file():
        raise ValueError(f"expected a purifier, got the training of one in {folder} that has not ended: the same "
                         "command of art-ext train goes on with it")  # fmt: skip
    if not (folder / CONFIG).is_file():
        raise ValueError(f"expected the folder of a purifier ({CONFIG}, {WEIGHTS}), got {folder}")
    failures = []
    for name in _methods(folder, method):
        try:
            return purifier_class(name).from_pretrained(folder)
        except Exception as error:  # of another method, or damaged: constructors and readers raise their own
            if machine_failed(error):
                raise
            failures.append(f"{name}: {error}")
    raise ValueError(f"expected the folder of a purifier, got {folder}, which does not load ({'; '.join(failures)})")


def _methods(folder: Path, method: str | None) -> list[str]:
    """The method that was said or recorded, or else all that take its configuration, other packages' last."""
    record = folder / RECORD
    if method is None and record.is_file():
        method = json_object(record).get("method")
    if method is not None:
        return [known_method(method)]
    config, names = json_object(folder / CONFIG), purifier_names()
    own = [n for n, p in PURIFIERS.items() if set(config) <= set(inspect.signature(p.__init__).parameters)]
    return [*own, *names[len(PURIFIERS) :]] or names


def known_method(name: str) -> str:
    """The name itself.

    Raises:
        ValueError: there is no such method.
    """
    if name not in PURIFIERS and name not in (offered := purifier_names()):
        raise ValueError(f"expected a method out of {', '.join(offered)}; got {name!r}{suggestion(name, offered)}")
    return name
