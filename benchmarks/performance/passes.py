"""The passes of a training step: which networks it calls on what, recorded once and run again without the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.nn.modes import trainable
from art_ext.training import Objective


@dataclass
class Pass:
    """One call of a network that no other network called.

    Attributes:
        module: the network.
        arguments: of the call, tensors detached, those that needed a gradient needing one.
        modes: the training flag of every module inside.
        weights: its parameters that needed gradients.
        graph: whether gradients were on.
    """

    module: nn.Module
    arguments: tuple[Any, ...]
    modes: list[bool]
    weights: list[nn.Parameter]
    graph: bool

    def run(self) -> None:
        """Forward, and backward where the call could have one."""
        for module, mode in zip(self.module.modules(), self.modes, strict=True):
            module.training = mode
        for parameter in self.weights:
            parameter.requires_grad_(True)
        with torch.set_grad_enabled(self.graph):
            outputs = [t for t in tensors(self.module(*self.arguments)) if t.requires_grad]
        wanted = [*(t for t in tensors(self.arguments) if t.requires_grad), *self.weights]
        if outputs and wanted:
            ones = [torch.ones_like(t) for t in outputs]
            torch.autograd.grad(outputs, wanted, ones, allow_unused=True)
        for parameter in self.weights:
            parameter.requires_grad_(False)


def tensors(value: Any) -> list[Tensor]:
    """Floating-point tensors in nested tuples, lists and mappings."""
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, Mapping):
        value = list(value.values())
    return [t for v in value for t in tensors(v)] if isinstance(value, tuple | list) else []


def detached(value: Any) -> Any:
    """The same with tensors that are leaves."""
    if isinstance(value, Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    if isinstance(value, tuple | list):
        parts = [detached(v) for v in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def passes_of(objective: Objective, x: Tensor, y: Tensor) -> list[Pass]:
    """The passes of one step on images (N, C, H, W) with labels (N,), in order."""
    objective.train()
    for name in objective.frozen:
        objective.get_submodule(name).eval()
    with _recording(objective) as found:
        with trainable((), objective.parameters()):
            x_adv = objective.perturb(x, y).detach()
        for player, parameters in objective.players().items():
            with trainable(parameters, objective.parameters()):
                objective.terms(player, x, x_adv, y)
    objective.requires_grad_(False)
    return found


@contextmanager
def _recording(objective: Objective) -> Iterator[list[Pass]]:
    """What is called inside; calls from within a call belong to it."""
    found: list[Pass] = []
    depth = 0

    def before(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        nonlocal depth
        if not depth:
            modes = [m.training for m in module.modules()]
            weights = [p for p in module.parameters() if p.requires_grad]
            found.append(Pass(module, detached(arguments), modes, weights, torch.is_grad_enabled()))
        depth += 1

    def after(*_: Any) -> None:
        nonlocal depth
        depth -= 1

    hooks = [m.register_forward_pre_hook(before) for m in objective.modules() if m is not objective]
    hooks += [m.register_forward_hook(after, always_call=True) for m in objective.modules() if m is not objective]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def again(passes: list[Pass]) -> Callable[[], None]:
    """What runs them in their order."""

    def run() -> None:
        for each in passes:
            each.run()

    return run
