"""Saving and loading: a module is the folder, or the Hub's page, of its configuration, its weights and its card."""

from __future__ import annotations

import inspect
import json
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from typing_extensions import Self

from art_ext import card
from art_ext.files import replacing
from art_ext.nn.loaded import Loaded
from art_ext.plain import plain

WEIGHTS, CONFIG = "model.safetensors", "config.json"


class Saved(Loaded, PyTorchModelHubMixin):
    """A module whose constructor's arguments are plain values, which `save_pretrained` writes beside the weights."""

    _refused_arguments: tuple[str, ...] = ()

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> Self:  # type: ignore[override]
        """A purifier that `save_pretrained` or `push_to_hub` wrote, in eval mode, not requiring gradients.

        Args:
            name: a folder, or "owner/name" on the Hugging Face Hub.
            options: of `huggingface_hub`, and constructor arguments that replace the saved ones.

        Raises:
            ValueError: no such folder and no Hub, or weights that are not safetensors.
        """
        try:
            return super().from_pretrained(str(name), **options)
        except LocalEntryNotFoundError as error:
            raise ValueError(
                f"expected a folder or an owner/name on the Hub, got {str(name)!r}: there is no such folder, "
                "and the Hub cannot be reached"
            ) from error

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Keeps the arguments as plain values, for `save_pretrained`; those that have none are refused there."""
        made = super().__new__(cls, *args, **kwargs)
        if is_dataclass(made._hub_mixin_config):
            return made
        given = {**dict(zip([*cls._hub_mixin_init_parameters][1:], args, strict=False)), **kwargs}
        config, refused = dict(made._hub_mixin_config or {}), []
        given.pop("config", None)  # huggingface_hub unpacks it
        for name, value in given.items():
            try:
                config[name] = plain(cls._encode_arg(value), name)
            except (TypeError, ValueError) as error:
                config.pop(name, None)
                refused.append(str(error))
        made._hub_mixin_config, made._refused_arguments = config or None, tuple(refused)
        return made

    def save_pretrained(self, save_directory: str | Path, *, config: Any = None, **options: Any) -> Any:
        """Writes configuration, weights and a model card into a folder, see `huggingface_hub.PyTorchModelHubMixin`.

        A card that is there is replaced, unless its owner has made it theirs; see `art_ext.card`.

        Args:
            save_directory: the folder.
            config: in place of the constructor's arguments.
            options: of `huggingface_hub`; `model_card_kwargs` are fields of `art_ext.card.Facts`.

        Raises:
            TypeError: a constructor argument that has no plain value (number, string, list, dict), or a fact that the
                card does not have. Nothing is written.
        """
        if config is None:
            if self._refused_arguments:
                raise TypeError("; ".join(self._refused_arguments))
            config = {} if self._hub_mixin_config is None else self._hub_mixin_config
        config = plain(config if isinstance(config, dict) else asdict(config), "the configuration")
        if not is_dataclass(self._hub_mixin_config) and self._hub_mixin_config is not None:
            self._hub_mixin_config = plain(self._hub_mixin_config, "the configuration")
        card.card(self, **(options.get("model_card_kwargs") or {}))
        readme = Path(save_directory) / card.README
        if card.is_written(readme):
            readme.unlink()
        return super().save_pretrained(save_directory, config=config, **options)

    def generate_model_card(self, *args: Any, **facts: Any) -> ModelCard:
        """The model card that is saved with it; `facts` are fields of `art_ext.card.Facts`."""
        return ModelCard(card.card(self, **facts))

    def _save_pretrained(self, save_directory: Path) -> None:
        with replacing(save_directory / WEIGHTS) as temporary:
            save_file({k: v.contiguous() for k, v in self.state_dict().items()}, temporary)

    @classmethod
    def _check_configuration(cls, folder: Path) -> None:
        """Refuses arguments that the constructor does not have: they would be of no effect."""
        file, known = folder / CONFIG, cls._hub_mixin_init_parameters
        if not file.is_file() or any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values()):
            return
        found = json.loads(file.read_text("utf-8"))
        unknown = sorted(found.keys() - known.keys()) if isinstance(found, dict) else ["no mapping"]
        if unknown:
            raise ValueError(f"expected arguments of {cls.__name__} in {file}, got {', '.join(unknown)}")

    @classmethod
    def _from_pretrained(cls, *, model_id: str, map_location: str = "cpu", strict: bool = True, **kwargs: Any) -> Self:
        """Weights from a folder or the Hub, safetensors only: a pickle can run code and is refused."""
        hub = {k: kwargs.pop(k) for k in ("revision", "cache_dir", "force_download", "local_files_only", "token")}
        for gone in ("proxies", "resume_download"):  # handed over by huggingface_hub before 1.0
            kwargs.pop(gone, None)
        if Path(model_id).is_dir():
            file = Path(model_id) / WEIGHTS
        else:
            try:
                file = Path(hf_hub_download(model_id, WEIGHTS, **hub))
            except EntryNotFoundError as error:
                raise ValueError(f"expected {WEIGHTS} in {model_id!r}, which has none (pickles are refused)") from error
        state = load_weights(file, device=map_location)
        if Path(model_id).is_dir():
            cls._check_configuration(Path(model_id))
        try:
            model = cls(**kwargs)
            model.load_state_dict(state, strict=strict)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"expected the arguments and weights of a {cls.__name__} in {model_id}, got {error}"
            ) from error
        if card.is_written(readme := file.with_name(card.README)):
            card.note(model, card.Facts(text=readme.read_text("utf-8")))
        return model.requires_grad_(False).eval()


def load_weights(file: Path, device: str = "cpu") -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        ValueError: the file is missing or is not in the safetensors format (a pickle, for one).
    """
    if not file.is_file():
        raise ValueError(f"expected weights in {file}, got no such file (pickled weights are refused)")
    try:
        return load_file(file, device=device)
    except SafetensorError as error:
        raise ValueError(f"expected a safetensors file, got {file}, which is none: {error}") from error
