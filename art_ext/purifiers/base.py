"""The contract of every purifier: images in, cleaned images of the same kind out."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakSet

import torch
from huggingface_hub import ModelCard, PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from typing_extensions import Self

from art_ext import card
from art_ext.attacks import Gradient, bpda, straight_through_clamp
from art_ext.files import replacing
from art_ext.images import OutsideRangeWarning, asks, check_layout, range_fault, settled
from art_ext.nn.checkpointing import checkpointed, stepwise
from art_ext.nn.copies import joined
from art_ext.nn.hashing import sha256
from art_ext.nn.modes import seeded
from art_ext.plain import plain

if TYPE_CHECKING:
    from art_ext.training import Objective

WEIGHTS = "model.safetensors"
FULL = 64 * 64
"""Pixels of the largest images of which `batch_size` pass at once."""
_WARNED: WeakSet[nn.Module] = WeakSet()
"""Purifiers that have said that images lay outside [0, 1]; nothing is written to them in `forward`."""


class Purifier(nn.Module, PyTorchModelHubMixin):
    """Maps images (N, C, H, W) in [0, 1] to the same shape, range, dtype and device.

    A method writes `name`, `paper` and `purify`, or `steps` if it has many; the rest has defaults. Constructor
    arguments are plain JSON values and are the configuration that `save_pretrained` writes. A defended classifier is
    `nn.Sequential(purifier, classifier)`.

    Attributes:
        small: constructor arguments of an instance for 3-channel images of 8 x 12 pixels that runs in milliseconds; the
            contract tests make it.
        channels: image channels that it takes; None for any number.
        batch_size: the most images that one call of `purify` sees; of images larger than 64 x 64 as many fewer as they
            are larger, and with gradients such calls are checkpointed: memory is that of one call.
        stochastic: two calls on the same images differ (ambient torch generator).
        differentiable: `purify` passes exact gradients; otherwise `forward` uses those of `surrogate`.
        evaluations_a_step: evaluations of the network in one of the `steps`, or in `purify`.
        advice: what a classifier behind it has to be; said after a training that left the classifier as it was.
        origin: hash of the weights that it was loaded with or trained to; empty for new ones. A training that goes on
            from a checkpoint must have begun with the same.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    small: ClassVar[dict[str, Any]] = {}
    channels: int | None = None
    batch_size: int = 256
    stochastic: bool = False
    differentiable: bool = True
    evaluations_a_step: int = 1
    advice: ClassVar[str] = ""
    origin: str = ""
    _refused_arguments: tuple[str, ...] = ()

    def purify(self, x: Tensor) -> Tensor:
        """Cleaned images, not yet clamped: what the steps make of x unless overridden.

        It gets at most `batch_size` images in the dtype of the weights. It must not mix samples, detach, run under
        `no_grad`, seed, or move devices.
        """
        return stepwise(self._steps, x, self)

    def steps(self, x: Tensor) -> Iterable[Callable[[Tensor], Tensor]] | None:
        """Functions of the state, in order, that purify x (N, C, H, W); each is bound by the rules of `purify`.

        The first gets x, and the last gives the images. The loop keeps about 2 sqrt(T) states and the activations of
        one of T steps: the backward pass runs each step twice more, with the noise of the first time, which steps draw
        from the ambient generators. Gradients reach x, the states, and the weights of the purifier.
        """
        return None

    def network_evaluations(self, x: Tensor) -> int:
        """How often purifying x (N, C, H, W) evaluates the network for each image; without `steps`, once.

        Those of a backward pass are not counted.
        """
        if type(self).steps is Purifier.steps:
            return self.evaluations_a_step
        with torch.no_grad(), seeded(0):
            return self.evaluations_a_step * len(list(self._steps(x)))

    def _steps(self, x: Tensor) -> Iterable[Callable[[Tensor], Tensor]]:
        steps = self.steps(x)
        if steps is None:
            raise ValueError(f"expected steps(x) of {self.name!r} to give functions, got None, and there is no purify")
        return steps

    def surrogate(self, x: Tensor) -> Tensor:
        """What stands in for `purify` in the backward pass where that has no gradient; identity unless overridden."""
        return x

    def stages(self, classifier: nn.Module | None = None, **options: Any) -> list[Objective]:
        """The objectives that train it, in order; none where there is nothing to train.

        Those that `art_ext.objectives.stages` has for its class. A class that overrides this names its options there.

        Args:
            classifier: images in [0, 1] to logits, for methods that are trained against one.
            options: of the method, see `art_ext.objectives.options_of`.
        """
        from art_ext.objectives.stages import registered

        return registered(self, classifier, **options)

    @classmethod
    def arguments_for(cls, x: Tensor, classes: int) -> dict[str, Any]:
        """Constructor arguments that a user's images (N, C, H, W) and number of classes settle: here the channels."""
        return {"channels": x.shape[1]} if "channels" in cls._hub_mixin_init_parameters else {}

    def adaptive_attacks(self, classifier: nn.Module, x: Tensor, y: Tensor) -> dict[str, Gradient]:
        """Gradients of adaptive attacks that know the inside of the method, by name.

        Args:
            classifier: images in [0, 1] to logits; it stands behind the purifier.
            x: clean images (N, C, H, W).
            y: their labels (N,).
        """
        return {}

    def own_attacks(self, classifier: nn.Module, x: Tensor, y: Tensor) -> dict[str, Gradient]:
        """`adaptive_attacks`, as it was called before 0.2; a class that overrides this one is understood too."""
        warnings.warn("own_attacks is called adaptive_attacks now", DeprecationWarning, stacklevel=2)
        return self.adaptive_attacks(classifier, x, y)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Gives a class that writes one of the two spellings of `adaptive_attacks` the other one."""
        super().__init_subclass__(**kwargs)
        new, old = "adaptive_attacks", "own_attacks"
        first = next(c for c in cls.__mro__ if new in vars(c) or old in vars(c))
        if new not in vars(first):
            setattr(cls, new, _second_spelling(vars(first)[old], warn=False))
        elif new in vars(cls) and old not in vars(cls):
            setattr(cls, old, _second_spelling(vars(cls)[new], warn=True))

    def forward(self, x: Tensor) -> Tensor:
        """Purified images in [0, 1], the same shape, dtype and device as x, which stays as it is.

        What lies outside [0, 1] is clamped with the gradient of the identity, with one `OutsideRangeWarning` a
        purifier, because attacks look there. An image with NaN or infinity comes back as NaN, and the others as ever.

        Raises:
            TypeError: x is not a floating-point tensor.
            ValueError: x is not (N, C, H, W).
        """
        return self._in_pieces(x, lambda piece: self.unclamped(piece).clamp(0, 1))

    def relaxed(self, x: Tensor) -> Tensor:
        """The values of `forward`, with a gradient that passes the final clamp: a clamp that holds is no defence."""
        return self._in_pieces(x, lambda piece: straight_through_clamp(self.unclamped(piece)))

    def approximate(self, x: Tensor) -> Tensor:
        """The values of `forward`, with the gradient of `surrogate`: what a BPDA attacker differentiates."""
        return self._in_pieces(x, bpda(lambda piece: self.purify(piece.clone()).clamp(0, 1), self._surrogate_of))

    def unclamped(self, x: Tensor) -> Tensor:
        """`purify`, differentiable in every case; x as `purify` takes it, and left as it is."""
        if self.differentiable:
            return self.purify(x.clone())
        return bpda(lambda v: self.purify(v.clone()), self._surrogate_of)(x)

    def _surrogate_of(self, x: Tensor) -> Tensor:
        return self.surrogate(x.clone())

    def _in_pieces(self, x: Tensor, each: Any) -> Tensor:
        check_layout(x, channels=self.channels)
        if not len(x):
            return x
        inside, broken = self._inside(x)
        dtype = next((p.dtype for p in self.parameters()), x.dtype)
        size = min(self.batch_size, max(1, self.batch_size * FULL // max(1, math.prod(x.shape[2:]))))

        def one(piece: Tensor) -> Tensor:
            return each(piece.to(dtype)).to(x.dtype)

        pieces = inside.split(size)
        cut = size < self.batch_size and len(pieces) > 1
        done = joined((checkpointed(one, piece, self) if cut else one(piece) for piece in pieces), len(x))
        return done if broken is None else done.masked_fill(broken.view(-1, *[1] * (done.ndim - 1)), torch.nan)

    def _inside(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """x clamped to [0, 1] where that is needed; and which images are not finite (N,), which are grey in it."""
        if not asks(self, x):
            return settled(x)
        if not range_fault(x):
            return x, None
        broken = ~torch.isfinite(x.detach()).flatten(1).all(1)
        x = x.masked_fill(broken.view(-1, 1, 1, 1), 0.5)
        fault = range_fault(x)
        if fault:
            if self not in _WARNED:
                _WARNED.add(self)
                warnings.warn(f"{fault}; clamped for {self.name!r}, said once", OutsideRangeWarning, stacklevel=4)
            x = straight_through_clamp(x)
        return x, broken if bool(broken.any()) else None

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
        if cls.purify is Purifier.purify and cls.steps is Purifier.steps:
            raise TypeError(f"expected {cls.__name__} to write purify(x) or steps(x), got neither")
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
        model = cls(**kwargs)
        model.load_state_dict(state, strict=strict)
        model.origin = sha256(model.state_dict().values())
        if card.is_written(readme := file.with_name(card.README)):
            card.note(model, card.Facts(text=readme.read_text("utf-8")))
        return model.requires_grad_(False).eval()


def _second_spelling(method: Any, *, warn: bool) -> Any:
    """A method that calls the one given, of that very class, so that `super()` ends where it should."""

    def call(self: Purifier, classifier: nn.Module, x: Tensor, y: Tensor) -> Any:
        if warn:
            warnings.warn("own_attacks is called adaptive_attacks now", DeprecationWarning, stacklevel=2)
        return method(self, classifier, x, y)

    return call


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
