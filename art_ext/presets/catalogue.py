"""Presets on disk: one TOML file and one safetensors file each, beside this module or in a folder of the user's."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from art_ext.card import Facts, note
from art_ext.classifiers import CLASSIFIERS
from art_ext.files import replacing
from art_ext.nn.modes import evaluating
from art_ext.purifiers import PURIFIERS, Purifier
from art_ext.purifiers.saving import load_weights

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parent
CLASSES: dict[str, type[nn.Module]] = {**CLASSIFIERS, **{p.__name__: p for p in PURIFIERS.values()}}


@dataclass(frozen=True)
class Preset:
    """A trained network and its provenance.

    Attributes:
        name: also the name of its files.
        class_name: a key of `CLASSES`.
        arguments: of the class's constructor.
        paper: arXiv number or citation of the method, empty for none.
        data: what it was trained on.
        command: what made it, from the root of the repository.
        sha256: of the weights file.
        training: schedule, seed, versions, seconds.
        measured: accuracies with n, as the making command found them.
        classifier: of a purifier the preset that it was trained for or with; empty where it was trained for none.
        robust: a classifier that was trained against attacks.
    """

    name: str
    class_name: str
    arguments: Mapping[str, Any]
    paper: str
    data: str
    command: str
    sha256: str
    training: Mapping[str, Any]
    measured: Mapping[str, Any]
    classifier: str = ""
    robust: bool = False


def names(folder: Path | str = FOLDER) -> list[str]:
    """The presets of a folder, sorted."""
    return sorted(path.stem for path in Path(folder).glob("*.toml"))


def describe(name: str, folder: Path | str = FOLDER) -> Preset:
    """What is known about a preset.

    Raises:
        ValueError: there is no such preset (the message lists those that are there), or its description is damaged.
    """
    if name not in names(folder):
        raise ValueError(f"expected a preset out of {', '.join(names(folder)) or 'none'}; got {name!r}")
    file = Path(folder) / f"{name}.toml"
    try:
        return Preset(**tomllib.loads(file.read_text("utf-8")))
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"expected the description of a preset, got {file}, which is none: {error}") from error


def load(name: str, folder: Path | str = FOLDER) -> nn.Module:
    """A preset's network, in eval mode, its parameters not requiring gradients.

    Raises:
        ValueError: unknown preset, unknown class or arguments, weights that are missing, altered (sha256), of another
            network or no safetensors file.
    """
    preset, file = describe(name, folder), Path(folder) / f"{name}.safetensors"
    if preset.class_name not in CLASSES:
        raise ValueError(f"expected {name!r} to be one of {', '.join(CLASSES)}; got {preset.class_name!r}")
    state = load_weights(file)
    found = _sha256(file)
    if found != preset.sha256:
        raise ValueError(f"expected weights of {name!r} with sha256 {preset.sha256}, got {found}: {file} was altered")
    try:
        module = CLASSES[preset.class_name](**preset.arguments)
        module.load_state_dict(state)  # weights in half precision become those of the module
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"expected arguments and weights of a {preset.class_name} in {name!r}, got {error}") from error
    if isinstance(module, Purifier):
        licence = "mit" if Path(folder) == FOLDER else ""  # that of the package, which ships them
        facts = {key: getattr(preset, key) for key in ("data", "command", "training", "measured")}
        note(module, Facts(preset=name, licence=licence, **facts))
    return module.requires_grad_(False).eval()


def save(
    module: nn.Module,
    name: str,
    *,
    arguments: Mapping[str, Any],
    folder: Path | str = FOLDER,
    **facts: Any,
) -> Preset:
    """Writes a preset: weights first, then the description that vouches for them, each at once or not at all.

    Weights that half precision holds exactly, as those of `round_weights`, are stored in it; loaded they are float32.

    Args:
        module: an instance of one of `CLASSES`.
        name: of the preset: a plain file name, without a folder.
        arguments: of its constructor.
        folder: where to.
        facts: the remaining fields of `Preset`, from paper on.

    Raises:
        ValueError: the name is no plain file name, the class is not registered, or a fact is not what TOML can hold.
    """
    _check_name(name)
    if type(module).__name__ not in CLASSES:
        raise ValueError(f"expected an instance of {', '.join(CLASSES)}; got {type(module).__name__}")
    file = Path(folder) / f"{name}.safetensors"
    with replacing(file) as temporary:
        save_file(_state(module), temporary)
        preset = Preset(name, type(module).__name__, dict(arguments), sha256=_sha256(temporary), **facts)
        description = _toml(preset)  # what cannot be described is not written
    with replacing(Path(folder) / f"{name}.toml") as temporary:
        temporary.write_text(description, "utf-8")
    return preset


def _check_name(name: str) -> None:
    """Letters, digits, and what no system and no terminal takes for more than a part of a name."""
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.+-]*", name):
        raise ValueError(
            f"expected the name of a preset in letters, digits, '_', '-', '+' and '.', got {name!r}: say folder= for "
            "another place"
        )


def _state(module: nn.Module) -> dict[str, Tensor]:
    """The tensors to store, in half precision where that loses nothing."""
    state = {k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()}
    return {
        k: v.half() if v.dtype == torch.float32 and torch.equal(v.half().float(), v) else v for k, v in state.items()
    }


def round_weights(module: nn.Module, answers: Callable[[nn.Module], Tensor]) -> float:
    """Rounds a network's weights in place to what half precision holds, where that leaves every answer as it is.

    All of them if that may be, else tensor by tensor, the largest first; gives the share of the weights.

    Args:
        module: the network.
        answers: such as `lambda network: network(x).argmax(1)`; asked in eval mode and without gradients.
    """
    whole = {k: v for k, v in module.state_dict().items() if v.dtype == torch.float32}

    def rounded(names: Sequence[str]) -> bool:
        kept = {k: whole[k].clone() for k in names}
        for k in names:
            whole[k].copy_(whole[k].half())
        if torch.equal(answers(module), expected):
            return True
        for k in names:
            whole[k].copy_(kept[k])
        return False

    with torch.no_grad(), evaluating(module):
        expected = answers(module)
        names = sorted(whole, key=lambda k: -whole[k].numel())
        done = names if rounded(names) else [k for k in names if rounded([k])]
    return sum(whole[k].numel() for k in done) / max(1, sum(v.numel() for v in whole.values()))


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _toml(preset: Preset) -> str:
    """The preset as TOML; JSON's numbers, strings, booleans and flat lists are TOML's too."""
    plain = {k: v for k, v in vars(preset).items() if not isinstance(v, Mapping)}
    tables = {k: v for k, v in vars(preset).items() if isinstance(v, Mapping)}
    lines = [_pair(k, v) for k, v in plain.items()]
    for table, values in tables.items():
        lines += ["", f"[{table}]", *(_pair(k, v) for k, v in values.items())]
    text = "\n".join(lines) + "\n"
    try:
        faithful = tomllib.loads(text) == json.loads(json.dumps(vars(preset), default=dict))
    except tomllib.TOMLDecodeError:
        faithful = False
    if not faithful:
        raise ValueError(f"expected finite numbers, strings, booleans and flat lists under plain names, got {preset}")
    return text


def _pair(key: str, value: Any) -> str:
    return f"{key} = {json.dumps(value, ensure_ascii=False)}"
