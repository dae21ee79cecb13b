"""Time for memory: activations that are not kept, but computed again from the same draws when a gradient needs them."""

from __future__ import annotations

import math
import pickle
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import lru_cache
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

from art_ext.nn.copies import joined

Pass = Callable[[Tensor], Tensor]
_AGAIN: ContextVar[bool] = ContextVar("again", default=False)


def recomputing() -> bool:
    """Whether this pass is a recomputation for its activations; its answer is not used."""
    return _AGAIN.get()


def checkpointed(function: Pass, x: Tensor, *modules: nn.Module) -> Tensor:
    """function(x), in value and gradient; of its activations none is kept, and the backward pass makes them again.

    The second pass sees the draws of the first (torch's, numpy's and Python's ambient generators), and leaves these
    and the running statistics of batch normalisation as they are. Without gradients it is the function itself.

    Args:
        function: runs the modules; its draws come from the ambient generators.
        x: its argument (N, ...).
        modules: whose weights it uses.
    """
    if not (torch.is_grad_enabled() and (x.requires_grad or _weights(modules))):
        return function(x)
    again = _Again(Draws.now(x.device), modules)
    with set_checkpoint_early_stop(False):  # a model that is left half way does not put back what it borrowed
        result: Tensor = checkpoint(
            function, x, use_reentrant=False, preserve_rng_state=False, context_fn=lambda: (nullcontext(), again)
        )
    return result


class Pieces(nn.Module):
    """A model that passes at most `size` images at once, in value and gradient the model itself.

    With gradients each piece is checkpointed, so that memory is that of one piece. A randomised model draws for each
    piece.

    Args:
        module: images (N, C, H, W) to logits (N, K).
        size: the most images of one pass.
    """

    def __init__(self, module: nn.Module, size: int) -> None:
        super().__init__()
        self.module, self.size = module, size

    def cuts(self, x: Tensor) -> bool:
        """Whether x takes more than one pass."""
        return len(x) > self.size

    def forward(self, x: Tensor) -> Tensor:
        if not self.cuts(x):
            logits: Tensor = self.module(x)
            return logits
        return joined((checkpointed(self.module, piece, self.module) for piece in x.split(self.size)), len(x))


def stepwise(steps: Callable[[Tensor], Iterable[Pass]], x: Tensor, *modules: nn.Module) -> Tensor:
    """x after steps(x), each on what the one before gave; checkpointed in two levels [Chen et al. 2016].

    For T steps about sqrt(T) states are kept [arXiv:1604.06174, section 4.1]; the backward pass takes as many states
    again, and the activations of one step, in at most 2 T further steps under the draws of the first. The value is that
    of the plain loop. The gradient, which reaches x, also where steps(x) uses it, and those weights of the modules that
    require one, cannot be differentiated again.

    Args:
        steps: gives functions of the state for x (N, ...); all are made before the first runs.
        x: where the states begin.
        modules: whose weights the steps use.

    Raises:
        RuntimeError: in the backward pass, where a step gives a state without a gradient.
    """
    weights = _weights(modules)
    if torch.is_grad_enabled() and (x.requires_grad or weights):
        result: Tensor = _Stepwise.apply(steps, modules, x, *weights)
        return result
    state = x.clone()
    for step in list(steps(x)):
        state = step(state)
    return state


class _Stepwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, steps: Any, modules: Sequence[nn.Module], x: Tensor, *weights: Tensor) -> Tensor:
        first = Draws.now(x.device)
        run, state = list(steps(x)), x.clone()
        length = max(1, math.ceil(math.sqrt(len(run))))
        starts, draws = [], []
        for number, step in enumerate(run):
            if number % length == 0:
                starts.append(state.clone())  # a step may write into its own
                draws.append(Draws.now(x.device))
            state = step(state)
        ctx.steps, ctx.modules, ctx.length, ctx.count = steps, modules, length, len(starts)
        ctx.first, ctx.autocast = first, _autocast(x.device)
        ctx.draws = [d._replace(cpu=x.new_empty(0)) for d in draws]
        # A checkpoint around this one drops what is saved here; what is on ctx stays.
        ctx.save_for_backward(x, *starts, *(d.cpu for d in draws), *weights)
        return state

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, *saved = ctx.saved_tensors
        starts, generators, weights = saved[: ctx.count], saved[ctx.count : 2 * ctx.count], saved[2 * ctx.count :]
        leaf = x.detach().requires_grad_()
        inputs = [leaf, *weights]
        total: list[Tensor | None] = [None] * len(inputs)
        with _Again(ctx.first, ctx.modules), ctx.autocast():
            with torch.enable_grad():
                run = list(ctx.steps(leaf))
            for number in reversed(range(ctx.count)):
                segment = run[number * ctx.length :][: ctx.length]
                ctx.draws[number]._replace(cpu=generators[number]).replay()
                states = _states(segment[:-1], starts[number])
                for step in reversed(segment):
                    gradient, found = _back(step, *states.pop(), inputs, gradient)
                    total = [b if a is None else a if b is None else a + b for a, b in zip(total, found, strict=True)]
        to_x = gradient if total[0] is None else gradient + total[0]
        return None, None, to_x, *total[1:]


def _states(steps: Sequence[Pass], state: Tensor) -> list[tuple[Tensor, Draws]]:
    """The state before each step and after the last, with the draws that are next there."""
    found = [(state, Draws.now(state.device))]
    with torch.no_grad():
        for step in steps:
            state = step(state.clone())
            found.append((state, Draws.now(state.device)))
    return found


def _back(
    step: Pass, state: Tensor, draws: Draws, inputs: Sequence[Tensor], gradient: Tensor
) -> tuple[Tensor, Sequence[Tensor | None]]:
    """The gradient at the state before a step from the one after it, and what reaches the inputs on the way."""
    draws.replay()
    state = state.detach().requires_grad_()
    with torch.enable_grad():
        after = step(state.clone())
    if not after.requires_grad:
        raise RuntimeError("expected steps that autograd can differentiate, got a state without a gradient from one")
    # What steps(x) computed for all steps is used again by the step before.
    before, *found = torch.autograd.grad(after, [state, *inputs], gradient, retain_graph=True, allow_unused=True)
    return torch.zeros_like(state) if before is None else before, found


class Draws(NamedTuple):
    """Where the ambient generators are."""

    cpu: Tensor
    device: torch.device
    cuda: Tensor | None
    others: bytes

    @classmethod
    def now(cls, device: torch.device) -> Draws:
        others = pickle.dumps((random.getstate(), np.random.get_state(legacy=False)))  # noqa: NPY002  users draw from it
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return cls(torch.get_rng_state(), device, cuda, _shared(others))

    def moved(self) -> bool:
        """Whether something has been drawn since."""
        now = Draws.now(self.device)
        same = self.cuda is None or now.cuda is None or torch.equal(self.cuda, now.cuda)
        return not (same and torch.equal(self.cpu, now.cpu) and self.others == now.others)

    def replay(self) -> None:
        """Puts the generators there."""
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda, self.device)
        python, numpy = pickle.loads(self.others)
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


@lru_cache(maxsize=1)
def _shared(state: bytes) -> bytes:
    """The same bytes, once for all passes between which they did not change."""
    return state


class _Again(AbstractContextManager[None]):
    """A pass made a second time, under the draws of the first; can be entered again, for a second gradient."""

    def __init__(self, draws: Draws, modules: Sequence[nn.Module]) -> None:
        self.draws, self.modules = draws, modules

    def __enter__(self) -> None:
        self.inside = _replayed(self.draws, self.modules)
        self.inside.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self.inside.__exit__(kind, error, trace)


@contextmanager
def _replayed(draws: Draws, modules: Sequence[nn.Module]) -> Iterator[None]:
    before, token = Draws.now(draws.device), _AGAIN.set(True)
    norms = [m for module in modules for m in module.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    statistics = [(m, name, b) for m in norms if m.training for name, b in m.named_buffers(recurse=False)]
    try:
        draws.replay()
        for norm, name, buffer in statistics:
            setattr(norm, name, buffer.clone())
        yield
    finally:
        for norm, name, buffer in statistics:
            setattr(norm, name, buffer)
        _AGAIN.reset(token)
        before.replay()


def _weights(modules: Sequence[nn.Module]) -> list[Tensor]:
    return [p for module in modules for p in module.parameters() if p.requires_grad]


def _autocast(device: torch.device) -> Callable[[], AbstractContextManager[Any]]:
    """The precision in force, to be entered again."""
    enabled, dtype = torch.is_autocast_enabled(device.type), torch.get_autocast_dtype(device.type)
    return lambda: torch.autocast(device.type, dtype=dtype, enabled=enabled)
