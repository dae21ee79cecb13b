"""Anybody's image-to-image code as a purifier, and purifiers one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor, nn

from art_ext.purifiers.base import Purifier

if TYPE_CHECKING:
    from art_ext.training import Objective


class Unsaved(Purifier):
    """A purifier that holds code rather than a configuration, and so cannot be written as JSON and weights."""

    name = "unsaved"
    paper = ""

    def save_pretrained(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            f"expected a purifier that plain JSON values describe, got {type(self).__name__} {self.name!r}, which "
            "holds code: keep the code, torch.save(purifier.state_dict(), ...), and make it again"
        )

    def push_to_hub(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused, as `save_pretrained`."""
        self.save_pretrained()


class Foreign(Unsaved):
    """Any image-to-image module or function on tensors (N, C, H, W) in [0, 1].

    What it returns is clamped to [0, 1] and must have the shape of its input. A module becomes a submodule: it moves
    with `to`, its mode is the caller's affair, and its weights stop requiring gradients (training turns that on).

    Args:
        function: images to images, floating-point tensors both.
        name: in reports; the function's or the module's class unless given.
        differentiable: its autograd gradient is the true one. Unless given, a module is differentiable and a plain
            function is not: BPDA replaces its backward pass.
        surrogate: images to images, differentiable: the backward pass of BPDA; identity unless given.
        stochastic: two calls on the same images differ. It must draw from torch's generator.
        channels: image channels that it takes; any number unless given.
        stages: a classifier, or None, to the objectives that train it in order.

    Raises:
        TypeError: `function` or `surrogate` cannot be called. On use: what it returns is no floating-point tensor.
        ValueError: on use: another shape, or no gradient although it is called differentiable.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        *,
        name: str | None = None,
        differentiable: bool | None = None,
        surrogate: Callable[[Tensor], Tensor] | None = None,
        stochastic: bool = False,
        channels: int | None = None,
        stages: Callable[[nn.Module | None], list[Objective]] | None = None,
    ) -> None:
        super().__init__()
        for role, given in (("function", function), ("surrogate", surrogate)):
            if isinstance(given, type) or not ((given is None and role == "surrogate") or callable(given)):
                raise TypeError(f"expected {role} to be a module or a function on images, got {given!r}")
        self.name = name or _name_of(function)  # type: ignore[misc]
        self.function, self._surrogate, self._stages = function, surrogate, stages
        self.differentiable = isinstance(function, nn.Module) if differentiable is None else differentiable
        self.stochastic, self.channels = stochastic, channels
        self.requires_grad_(False)

    def purify(self, x: Tensor) -> Tensor:
        out = self._checked(self.function(x), x, "images")
        if self.differentiable and x.requires_grad and torch.is_grad_enabled() and not out.requires_grad:
            raise ValueError(
                f"expected a differentiable {self.name!r}, got images without a gradient: differentiable=False "
                "attacks it by BPDA"
            )
        return out

    def surrogate(self, x: Tensor) -> Tensor:
        return x if self._surrogate is None else self._checked(self._surrogate(x), x, "images from the surrogate")

    def stages(self, classifier: nn.Module | None = None) -> list[Objective]:  # type: ignore[override]
        return [] if self._stages is None else self._stages(classifier)

    def _checked(self, out: Any, x: Tensor, what: str) -> Tensor:
        if not isinstance(out, Tensor) or not out.is_floating_point():
            got = out.dtype if isinstance(out, Tensor) else type(out).__name__
            raise TypeError(f"expected {what} of {self.name!r} as a floating-point tensor, got {got}")
        if out.shape != x.shape:
            raise ValueError(f"expected {what} of {self.name!r} of shape {tuple(x.shape)}, got {tuple(out.shape)}")
        return out


class Chain(Unsaved):
    """Purifiers one after the other; each sees the clamped images of the one before.

    Every view is the composition of that view of the members: `approximate` runs each for real and goes back through
    the surrogates, each at the images that its member saw. It is not trained as a whole: train its members.

    Args:
        purifiers: in the order of their application.
        name: in reports; the members' names, joined, unless given.

    Raises:
        TypeError: a member is no purifier.
        ValueError: no member.
    """

    def __init__(self, purifiers: Sequence[Purifier], *, name: str | None = None) -> None:
        super().__init__()
        wrong = [type(p).__name__ for p in purifiers if not isinstance(p, Purifier)]
        if wrong:
            raise TypeError(f"expected purifiers, got {', '.join(wrong)}")
        if not purifiers:
            raise ValueError("expected at least one purifier, got none")
        self.purifiers = nn.ModuleList(purifiers)
        self.name = name or " + ".join(p.name for p in purifiers)  # type: ignore[misc]
        self.differentiable = all(p.differentiable for p in purifiers)
        self.stochastic = any(p.stochastic for p in purifiers)
        self.channels = next((p.channels for p in purifiers if p.channels is not None), None)

    def purify(self, x: Tensor) -> Tensor:
        *first, last = self.purifiers
        for purifier in first:
            x = purifier(x)
        assert isinstance(last, Purifier)
        return last._in_pieces(x, last.unclamped)

    def surrogate(self, x: Tensor) -> Tensor:
        return self._through(x, "approximate")

    def unclamped(self, x: Tensor) -> Tensor:
        return self.purify(x)  # each member brings its own BPDA

    def relaxed(self, x: Tensor) -> Tensor:
        return self._in_pieces(x, lambda piece: self._through(piece, "relaxed"))

    def approximate(self, x: Tensor) -> Tensor:
        return self._in_pieces(x, lambda piece: self._through(piece, "approximate"))

    def _through(self, x: Tensor, view: str) -> Tensor:
        for purifier in self.purifiers:
            x = getattr(purifier, view)(x)
        return x


def _name_of(function: Any) -> str:
    named = type(function) if isinstance(function, nn.Module) or not hasattr(function, "__name__") else function
    return str(named.__name__)
