"""Users' classifiers and purifiers, by preset name, code, or file."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from art_ext import presets
from art_ext.classifiers import CLASSIFIERS
from art_ext.cli.code import called, code
from art_ext.cli.compiled import Compiled, load_exported, load_scripted
from art_ext.cli.errors import machine_failed, suggestion
from art_ext.cli.terminal import warn
from art_ext.images import Normalize
from art_ext.purifiers import PURIFIERS, Purifier, purifier_class, purifier_names
from art_ext.purifiers.saving import WEIGHTS, load_weights

SCRIPTED, EXPORTED, PICKLED = (".pt", ".ts", ".torchscript"), (".pt2",), (".pth", ".ckpt", ".pkl", ".bin")
RECORD = "training.json"
"""What `art-ext train` writes beside a purifier; names its method, and what it was trained on and for."""
CONFIG = "config.json"


class Normalised(nn.Module):
    """A user's network behind the standardisation of --mean and --std; the names of its layers are those in `network`.

    Args:
        normalize: of images in [0, 1].
        network: of standardised images.
    """

    def __init__(self, normalize: Normalize, network: nn.Module) -> None:
        super().__init__()
        self.normalize, self.network = normalize, network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(self.normalize(x))
        return logits


def users_own(network: nn.Module) -> tuple[nn.Module, str]:
    """The user's network inside what `load_classifier` gave, and what stands before the names of its layers there."""
    before = ""
    while isinstance(network, (Normalised, Compiled)):
        network, before = network.network, before + "network."
    return network, before


def load_classifier(
    spec: str, *, device: torch.device, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> nn.Module:
    """A user's classifier in eval mode, its parameters not requiring gradients.

    Args:
        spec: a preset, `package.module:name`, `file.py:name`, a TorchScript or a torch.export file, or the folder of a
            classifier of this package (`art-ext train drrdn`).
        device: where to put it.
        mean: with `std`, standardises the images before every model but presets and folders, which do it themselves.
        std: see `mean`.

    Raises:
        ValueError: no such thing, or one that does not load.
        TypeError: something that is no torch module.
    """
    if (mean is None) != (std is None):
        raise ValueError("expected --mean and --std together, got one of them")
    preset = spec in presets.names()
    if preset:
        network = presets.load(spec).to(device)
        if isinstance(network, Purifier):
            raise ValueError(f"expected a classifier, got the preset {spec!r}, which is a purifier")
        return network
    if Path(spec).is_dir():
        return _of_folder(Path(spec)).to(device)
    network = _network(spec, device)
    if mean is not None and std is not None:
        network = Normalised(_normalize(mean, std).to(device), network)
    for p in network.parameters():  # TorchScript has no requires_grad_
        p.requires_grad_(False)
    return network.eval()


def _normalize(mean: Sequence[float], std: Sequence[float]) -> Normalize:
    if not all(0 <= m <= 1 for m in mean):
        raise ValueError(f"expected --mean for images in [0, 1], got {list(mean)}")
    return Normalize(mean, std)


def _of_folder(folder: Path) -> nn.Module:
    """A classifier of this package by its configuration and its weights, in eval mode, not requiring gradients."""
    config = json_object(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    name, arguments = config.get("class"), config.get("arguments")
    if name not in CLASSIFIERS or not isinstance(arguments, dict):
        raise ValueError(
            f"expected the folder of a classifier ({CONFIG} with class and arguments, {WEIGHTS}; class out of "
            f"{', '.join(CLASSIFIERS)}), got {folder}"
        )
    try:
        network = CLASSIFIERS[name](**arguments)
        network.load_state_dict(load_weights(folder / WEIGHTS))
    except (ValueError, TypeError, RuntimeError) as error:
        if machine_failed(error):
            raise
        raise ValueError(f"expected arguments and weights of a {name} in {folder}, got {error}") from error
    return network.requires_grad_(False).eval()


def _network(spec: str, device: torch.device) -> nn.Module:
    suffix = Path(spec).suffix.lower()
    if ":" in spec and suffix not in (*SCRIPTED, *EXPORTED):
        return _built(code(spec), spec).to(device)
    if suffix in (*SCRIPTED, *EXPORTED) and not Path(spec).is_file():
        raise ValueError(f"expected a model file, got {spec}, which is not there")
    if suffix in SCRIPTED:
        return load_scripted(spec, device)
    if suffix in EXPORTED:
        return load_exported(spec, device)
    if suffix in (*PICKLED, ".safetensors"):
        raise ValueError(
            f"expected code or a TorchScript or torch.export file, got {spec}: weights alone are no model; write a "
            "function that builds one and loads them, and say file.py:function"
        )
    close = suggestion(spec, presets.names())
    raise ValueError(
        f"expected a preset ({', '.join(presets.names())}), module:name, file.py:name, .pt or .pt2, got {spec!r}{close}"
    )


def _built(found: Any, spec: str) -> nn.Module:
    """A module, or what a factory without arguments gives."""
    if not isinstance(found, nn.Module) and callable(found):
        found = called(found, spec)
    if not isinstance(found, nn.Module):
        raise TypeError(f"expected {spec} to be or to give a torch.nn.Module, got {type(found).__name__}")
    return found


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


def json_object(file: Path) -> dict[str, Any]:
    """What a JSON file holds.

    Raises:
        ValueError: no JSON, or something else than an object.
    """
    try:
        found = json.loads(file.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected a JSON file, got {file}, which is none: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"expected a JSON object in {file}, got {type(found).__name__}")
    return found


def known_method(name: str) -> str:
    """The name itself.

    Raises:
        ValueError: there is no such method.
    """
    if name not in PURIFIERS and name not in (offered := purifier_names()):
        raise ValueError(f"expected a method out of {', '.join(offered)}; got {name!r}{suggestion(name, offered)}")
    return name


def check_classifier(network: nn.Module, x: Tensor, y: Tensor | None, who: str, *, finite: bool = True) -> int:
    """The number of classes of a network that gives logits for these images, whose labels are among them.

    Args:
        network: in eval mode.
        x: images (N, C, H, W); the first three are tried, alone and together.
        y: labels (N,), or None.
        who: for the message.
        finite: refuse rows of logits that are not finite; else they are said on standard error.

    Raises:
        ValueError: it does not take the images, gives no logits, or has too few classes.
    """
    means = [m.mean.numel() for m in network.modules() if isinstance(m, Normalize)]
    if any(n not in (1, x.shape[1]) for n in means):
        raise ValueError(f"expected {who} to normalise {x.shape[1]} channel(s), got {means[0]} means")
    for n in (1, 3):
        logits = _tried(network, x[:n], who)
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(x[:n]):
            found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(f"expected {who} to give logits ({len(x[:n])}, K), got {found}")
    wrong = int((~logits.isfinite().all(1)).sum())
    if wrong and finite:
        raise ValueError(f"expected {who} to give finite logits, got NaN or Inf for {wrong} of {len(logits)} images")
    if wrong:
        warn(f"{who} gives NaN or Inf for {wrong} of the first {len(logits)} images: such answers count as wrong")
    if y is not None and int(y.max()) >= logits.shape[1]:
        raise ValueError(
            f"expected labels below {logits.shape[1]}, the classes of {who}, got {int(y.max())} in the data"
        )
    return int(logits.shape[1])


def check_purifier(purifier: Purifier, x: Tensor) -> None:
    """Refuses a purifier that does not take these images (N, C, H, W).

    Raises:
        ValueError: wrong channels or sizes, or it gives something else than images.
    """
    if purifier.channels not in (None, x.shape[1]):
        raise ValueError(f"expected images with {purifier.channels} channel(s), what the purifier takes, "
                         f"got {x.shape[1]} in the data")  # fmt: skip
    purified = _tried(purifier, x[:2], "the purifier")
    if not isinstance(purified, Tensor):
        raise ValueError(f"expected the purifier to give images, got {type(purified).__name__}")
    if purified.shape != x[:2].shape:
        raise ValueError(f"expected the purifier to keep shape {tuple(x[:2].shape)}, got {tuple(purified.shape)}")


def _tried(network: nn.Module, x: Tensor, who: str) -> Any:
    try:
        with torch.no_grad():
            return network(x)
    except (Exception, SystemExit) as error:  # whatever a user's code raises
        if machine_failed(error):
            raise
        raise ValueError(
            f"expected {who} to take images of shape {tuple(x.shape)}, got {type(error).__name__}: {error}"
        ) from error
