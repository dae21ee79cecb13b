"""The contract of every purifier: images in, cleaned images of the same kind out."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakSet

import torch
from torch import Tensor, nn
from typing_extensions import Self

from art_ext.attacks import Gradient, bpda, straight_through_clamp
from art_ext.images import OutsideRangeWarning, asks, check_layout, range_fault, settled
from art_ext.nn.checkpointing import checkpointed, stepwise
from art_ext.nn.copies import joined
from art_ext.nn.modes import seeded
from art_ext.purifiers.saving import Saved

if TYPE_CHECKING:
    from art_ext.training import Objective

FULL = 64 * 64
"""Pixels of the largest images of which `batch_size` pass at once."""
_WARNED: WeakSet[nn.Module] = WeakSet()
"""Purifiers that have said that images lay outside [0, 1]; nothing is written to them in `forward`."""


class Purifier(Saved):
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

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Refuses a class without `purify` and `steps`.

        Raises:
            TypeError: it writes neither.
        """
        if cls.purify is Purifier.purify and cls.steps is Purifier.steps:
            raise TypeError(f"expected {cls.__name__} to write purify(x) or steps(x), got neither")
        return super().__new__(cls, *args, **kwargs)

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


def _second_spelling(method: Any, *, warn: bool) -> Any:
    """A method that calls the one given, of that very class, so that `super()` ends where it should."""

    def call(self: Purifier, classifier: nn.Module, x: Tensor, y: Tensor) -> Any:
        if warn:
            warnings.warn("own_attacks is called adaptive_attacks now", DeprecationWarning, stacklevel=2)
        return method(self, classifier, x, y)

    return call
