"""Users' classifiers, by preset name, code, file or folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from art_ext import presets
from art_ext.classifiers import CLASSIFIERS
from art_ext.cli.code import called, check_named, code
from art_ext.cli.compiled import Compiled, load_exported, load_scripted
from art_ext.cli.errors import machine_failed, suggestion
from art_ext.cli.records import CONFIG, json_object
from art_ext.images import Normalize
from art_ext.purifiers import Purifier
from art_ext.purifiers.saving import WEIGHTS, load_weights

SCRIPTED, EXPORTED, PICKLED = (".pt", ".ts", ".torchscript"), (".pt2",), (".pth", ".ckpt", ".pkl", ".bin")


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
    check_named(spec)
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
