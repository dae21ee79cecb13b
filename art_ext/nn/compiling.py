"""Passes that `torch.compile` makes faster, for batches of a few sizes."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from art_ext.nn.checkpointing import Draws

Pass = Callable[[Tensor], Tensor]
FULLEST = 0.7
"""A batch is padded to the next size where it fills this share of it; else it passes as it is."""
GAIN = 1.1
"""As many times as fast compiled passes have to be, or they are left alone."""
MEASURED = 3
"""Passes of each kind whose fastest one is compared."""


class Compiled:
    """A pass of images, (N, C, H, W) to (N, ...), compiled where that pays; elsewhere the pass itself.

    Static shapes are the fast ones, and each costs seconds to minutes of compiling: a batch is padded with its last
    image to the next power of two, from 8 on, if that fills at least 70 % of it. Of each size, with and without
    gradients, the first batch decides: where torch cannot compile the pass, or the compiled one is not 1.1 times as
    fast, the pass itself is used from there on, and `refused` says why. What is measured draws nothing from the ambient
    generators.

    Values are those of the pass but for rounding. A randomised pass draws for the padding, too, so that its draws are
    others.

    Args:
        function: the pass.

    Attributes:
        images: that passed compiled.
        refused: why which size is not compiled, by the size and whether there are gradients.
    """

    def __init__(self, function: Pass) -> None:
        self.function = function
        with _without_deprecations():
            import torch._dynamo  # a second, which only who compiles pays

            self.fast: Pass = torch.compile(function, dynamic=False, options={"fallback_random": True})
        self.used: set[tuple[int, bool]] = set()
        self.refused: dict[tuple[int, bool], str] = {}
        self.images = 0

    def __call__(self, x: Tensor) -> Tensor:
        size = max(8, 1 << (len(x) - 1).bit_length())
        key = size, torch.is_grad_enabled()
        if len(x) < FULLEST * size or key in self.refused:
            return self.function(x)
        padded = x if len(x) == size else torch.cat([x, x[-1:].expand(size - len(x), *x.shape[1:])])
        with torch._dynamo.config.patch(recompile_limit=256):  # counted over all networks of a class
            if key not in self.used and not self._pays(key, padded):
                return self.function(x)
            self.images += len(x)
            return self.fast(padded)[: len(x)]

    def _pays(self, key: tuple[int, bool], x: Tensor) -> bool:
        """Compiles, and says whether that was worth it."""
        draws = Draws.now(x.device)
        try:
            with _without_deprecations():
                seconds = [min(self._timed(run, x) for _ in range(MEASURED)) for run in (self.function, self.fast)]
        except Exception as error:
            draws.replay()
            self.function(x)  # an error of its own is raised here
            self.refused[key] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        else:
            if seconds[0] < GAIN * seconds[1]:
                self.refused[key] = f"{seconds[0] / seconds[1]:.2f} times as fast"
        draws.replay()
        if key in self.refused:
            warnings.warn(f"{key[0]} images are not compiled: {self.refused[key]}", UserWarning, stacklevel=2)
        else:
            self.used.add(key)
        return key in self.used

    def __reduce__(self) -> tuple[type[Compiled], tuple[Pass]]:
        return Compiled, (self.function,)  # programs stay in their process

    @staticmethod
    def _timed(run: Pass, x: Tensor) -> float:
        """Seconds of a pass, and of the one back to the images where there are gradients; on a CPU those of the CPU."""
        x = x.detach().requires_grad_(torch.is_grad_enabled())
        start = _seconds(x.device)
        out = run(x)
        if out.requires_grad:
            torch.autograd.grad(out.float().sum(), x, allow_unused=True)
        return _seconds(x.device) - start


@contextmanager
def _without_deprecations() -> Iterator[None]:
    """What torch says of its own parts is nothing that a user could change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def _seconds(device: torch.device) -> float:
    """Of the clock that other work on the machine disturbs least."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


@contextmanager
def standing_in(others: Sequence[tuple[Any, str, Any]]) -> Iterator[None]:
    """Other attributes of objects while the block runs: an object, the attribute's name, its value."""
    before = [(owner, name, name in vars(owner), getattr(owner, name)) for owner, name, _ in others]
    try:
        for owner, name, value in others:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, own, value in before:
            setattr(owner, name, value) if own else delattr(owner, name)
