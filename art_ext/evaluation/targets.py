"""What is evaluated, and what an attacker of a given knowledge differentiates."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.attacks import Averaged, Frozen
from art_ext.evaluation.threat import Knowledge
from art_ext.nn.checkpointing import Draws, Pieces
from art_ext.nn.compiling import Compiled
from art_ext.nn.layout import channels_last
from art_ext.purifiers import Purifier


@dataclass(frozen=True)
class Defended:
    """A model to evaluate: a classifier, with or without a purifier before it.

    Args:
        name: for the report.
        classifier: images (N, C, H, W) in [0, 1] to logits (N, K); of any floating-point dtype.
        purifier: None for the undefended classifier.
        surrogate: an independently trained classifier, for transfer attacks.
        robust: an adversarially trained classifier, which the defence is compared with; attacks need not break it.
        estimator: the ART classifier that it came from, if any.

    Raises:
        TypeError: a classifier or surrogate that is no module, or a purifier that is no `Purifier`.
        ValueError: an empty name, or a robust baseline with a purifier.
    """

    name: str
    classifier: nn.Module
    purifier: Purifier | None = None
    surrogate: nn.Module | None = None
    robust: bool = False
    estimator: Any = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"expected a name for the report, got {self.name!r}")
        for role, network in (("classifier", self.classifier), ("surrogate", self.surrogate)):
            if not isinstance(network, nn.Module) and not (network is None and role == "surrogate"):
                raise TypeError(f"expected {role} as an nn.Module, images to logits, got {_described(network)}")
        if self.purifier is not None and not isinstance(self.purifier, Purifier):
            raise TypeError(
                f"expected purifier as a Purifier, got {type(self.purifier).__name__}: "
                "art_ext.defences.as_purifier makes one of a module, a function or an ART preprocessor"
            )
        if self.robust and self.purifier is not None:
            raise ValueError(f"expected a robust baseline without a purifier, got {self.name!r} with one")

    @classmethod
    def from_art(cls, name: str, classifier: Any, surrogate: nn.Module | None = None) -> Defended:
        """An ART PyTorchClassifier with its defences, as its user has it.

        Images are (N, C, H, W) in [0, 1] in the evaluation; the classifier's clip values, layout, standardisation and
        postprocessing defences are applied inside. Its preprocessing defences become the purifier: PyTorch ones with
        the gradients that ART sees, numpy ones under BPDA with the identity.

        Raises:
            TypeError: not an ART PyTorchClassifier.
            ValueError: it has no clip_values.
        """
        from art_ext.defences import PurifierPreprocessor, as_module, as_purifier

        module = as_module(classifier)
        defences = [d for d in classifier.preprocessing_defences or [] if d.apply_predict]
        options = {"clip_values": classifier.clip_values, "channels_first": classifier.channels_first}
        # A PurifierPreprocessor maps range and layout itself; its purifier takes (N, C, H, W) in [0, 1].
        purifiers = [
            as_purifier(d) if isinstance(d, PurifierPreprocessor) else as_purifier(d, **options) for d in defences
        ]
        purifier = None if not purifiers else purifiers[0] if len(purifiers) == 1 else as_purifier(purifiers)
        return cls(name, module, purifier, surrogate, estimator=classifier)

    @cached_property
    def network(self) -> Guarded:
        """The classifier as every attack and every answer meets it."""
        return Guarded(self.classifier, self.name)

    @cached_property
    def surrogate_network(self) -> Guarded | None:
        """The surrogate, likewise."""
        return None if self.surrogate is None else Guarded(self.surrogate, f"the surrogate of {self.name}")

    @cached_property
    def module(self) -> nn.Module:
        """The pipeline that is evaluated."""
        return self.network if self.purifier is None else nn.Sequential(self.purifier, self.network)

    @cached_property
    def compiled(self) -> tuple[tuple[Any, str, Compiled], ...]:
        """What `torch.compile` may make faster: an owner, its attribute, and the pass that stands in for it."""
        networks = [n for n in (self.network, self.surrogate_network) if n is not None]
        found = [(network, "run", Compiled(network.module)) for network in networks]
        purifier = self.purifier
        return (*found, *([(purifier, "purify", Compiled(purifier.purify))] if purifier is not None else ()))

    def parts(self) -> list[nn.Module]:
        """Every network of the model."""
        return [m for m in (self.module, self.surrogate_network) if m is not None]

    def target(
        self,
        knowledge: Knowledge,
        eot_samples: int = 1,
        *,
        average: str = "logits",
        frozen: int | None = None,
        relaxed: bool = False,
        piece: int | None = None,
    ) -> nn.Module:
        """The module that an attacker of this knowledge differentiates.

        Args:
            knowledge: what the attacker knows.
            eot_samples: passes of a randomised model to average (EOT); each is a pass of its own.
            average: "logits" or "gradients", for libraries that can choose.
            frozen: seed of the one draw that attacker and defence share.
            relaxed: let the gradient pass the purifier's final clamp.
            piece: the most images of one pass, see `Pieces`; no limit unless given.

        Raises:
            ValueError: the knowledge makes no sense here (bpda without a purifier, transfer without a surrogate).
        """
        module = self._differentiated(knowledge, relaxed)
        if frozen is not None:
            module, eot_samples = Frozen(module, frozen), 1
        if piece is not None:
            module = Pieces(module, piece)
        return module if eot_samples == 1 else Averaged(module, eot_samples, average, 1)

    def _differentiated(self, knowledge: Knowledge, relaxed: bool) -> nn.Module:
        if knowledge is Knowledge.TRANSFER and self.surrogate_network is not None:
            return self.surrogate_network
        if knowledge is Knowledge.BLIND or (knowledge is Knowledge.UNDEFENDED and self.purifier is None):
            return self.network
        if knowledge in (Knowledge.FULL, Knowledge.ADAPTIVE):
            if self.purifier is None or not relaxed:
                return self.module
            return nn.Sequential(StandIn(self.purifier, "relaxed"), self.network)
        if knowledge is Knowledge.BPDA and self.purifier is not None:
            return nn.Sequential(StandIn(self.purifier, "approximate"), self.network)
        raise ValueError(f"expected a model that {knowledge.value} attacks can be run on, got {self.name!r}")


class Guarded(nn.Module):
    """Somebody's classifier, called so that neither side can change the other's tensors or modes.

    It gets a copy of the images in its own floating-point dtype, so that a network which writes into its input changes
    nothing for others; it gives logits (N, K) in float32, or an error that says what came instead. On a CPU the copy is
    channels last for a network with convolutions, which takes about four fifths of the time; one that raises an error
    on it at its first pass, as `x.view(len(x), -1)` does, gets the usual order from there on.

    Args:
        module: images (N, C, H, W) to logits (N, K).
        name: for messages.

    Raises:
        TypeError: on use, where what comes back is no floating-point tensor.
        ValueError: on use, where it is not (N, K).
    """

    def __init__(self, module: nn.Module, name: str) -> None:
        super().__init__()
        self.module, self.name = module, name
        self.run: Any = None  # what stands in for the module
        self.channels_last: bool | None = None if any(isinstance(m, nn.Conv2d) for m in module.modules()) else False

    def train(self, mode: bool = True) -> Guarded:
        """Sets the mode, of the network where it has one: exported and frozen programs are what they are."""
        self.training = mode
        with suppress(NotImplementedError, AttributeError):
            self.module.train(mode)
        return self

    def forward(self, x: Tensor) -> Tensor:
        out = self._pass(x.to(dtype_of(self.module)))
        if not isinstance(out, Tensor) or not out.is_floating_point():
            got = f"a tensor of {out.dtype}" if isinstance(out, Tensor) else _described(out)
            raise TypeError(f"expected logits (N, K) as a floating-point tensor from {self.name!r}, got {got}")
        if out.ndim != 2 or len(out) != len(x):
            raise ValueError(
                f"expected logits of shape ({len(x)}, classes) from {self.name!r}, got {tuple(out.shape)} "
                f"for {len(x)} images"
            )
        wide = out.float()
        if out.dtype is torch.float16 and wide.requires_grad:
            wide.register_hook(_fits_half)
        return wide

    def _pass(self, x: Tensor) -> Any:
        """What the network gives for a copy of x (N, C, H, W)."""
        run = self.run or self.module
        if self.channels_last is False or x.ndim != 4 or x.device.type != "cpu":
            return run(x.clone())
        if self.channels_last:
            return run(channels_last(x))
        draws = Draws.now(x.device)
        try:
            out, self.channels_last = self.module(channels_last(x)), True
        except Exception:  # of whatever kind: an error of the network's own comes again
            draws.replay()
            out, self.channels_last = self.module(x.clone()), False
        return out


class StandIn(nn.Module):
    """A purifier in value, another gradient: `approximate` is BPDA, `relaxed` passes the final clamp."""

    def __init__(self, purifier: Purifier, mode: str) -> None:
        super().__init__()
        self.purifier, self.mode = purifier, mode

    def forward(self, x: Tensor) -> Tensor:
        images: Tensor = getattr(self.purifier, self.mode)(x)
        return images


def _fits_half(gradient: Tensor) -> Tensor:
    """The gradient at logits (N, K), no entry above 2^8: rows beyond are scaled, and their direction is kept.

    Float16 ends at 65,504; a loss that divides by the difference of two logits, such as DLR, gets there at a tie.
    """
    largest = gradient.abs().amax(1, keepdim=True)
    return torch.where(largest > 256, gradient * (256 / largest), gradient)


def dtype_of(module: nn.Module) -> torch.dtype:
    """The floating-point dtype of a network's weights; float32 where it has none."""
    tensors = chain(module.parameters(), module.buffers())
    return next((t.dtype for t in tensors if t.is_floating_point()), torch.float32)


def _described(value: object) -> str:
    """What somebody gave or got, with the remedy where there is one."""
    kind = type(value).__name__
    if isinstance(value, dict):
        return f"a dict of {sorted(map(str, value))}: wrap the network so that it gives the logits alone"
    if isinstance(value, (tuple, list)):
        return f"a {kind} of {len(value)}: wrap the network so that it gives the logits alone"
    if hasattr(value, "nb_classes"):
        return f"the ART estimator {kind}: Defended.from_art takes it"
    if callable(value) and not isinstance(value, nn.Module):
        return f"the {kind} {getattr(value, '__name__', '')!r}: put it into the forward of an nn.Module"
    return kind
