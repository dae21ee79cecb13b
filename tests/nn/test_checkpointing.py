"""Checkpointed passes: value, gradient, draws and state of the plain ones, in less memory."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from art_ext.nn.checkpointing import Pieces, checkpointed, recomputing, stepwise
from art_ext.nn.modes import seeded
from tests.allocated import Allocated

X = torch.rand(3, 2, 4, 5, generator=torch.Generator().manual_seed(0))
Step = Callable[[Tensor], Tensor]


class Walk(nn.Module):
    """Noisy steps towards x that use it, a weight and a constant made of x."""

    def __init__(self, count: int, width: int = 8) -> None:
        super().__init__()
        with seeded(1):
            self.net = nn.Sequential(nn.Conv2d(2, width, 3, padding=1), nn.Tanh(), nn.Conv2d(width, 2, 3, padding=1))
        self.count, self.ran = count, 0

    def steps(self, x: Tensor) -> Iterator[Step]:
        scale = x.std()  # computed once, differentiable
        start = torch.randn_like(x)

        def step(state: Tensor) -> Tensor:
            self.ran += 1
            noise = torch.randn_like(state) + np.random.rand() + random.random()  # noqa: NPY002
            return state + 0.1 * self.net(state) * scale * noise + 0.05 * (x - state) * start

        return (step for _ in range(self.count))

    def plain(self, x: Tensor) -> Tensor:
        state = x.clone()
        for step in list(self.steps(x)):
            state = step(state)
        return state

    def run(self, x: Tensor) -> Tensor:
        return stepwise(self.steps, x, self)


def seeds(seed: int = 5) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)


def ambient() -> tuple[float, float, float]:
    return float(torch.rand(())), float(np.random.rand()), random.random()  # noqa: NPY002


def with_gradients(run: Step, module: nn.Module) -> tuple[Tensor, list[Tensor], tuple[float, float, float]]:
    """Value, gradients at x and the weights, and what the generators give next; other draws come before backward."""
    seeds()
    x = X.clone().requires_grad_()
    value = run(x)
    ambient()
    gradients = torch.autograd.grad((value**2).sum(), [x, *module.parameters()])
    return value.detach(), list(gradients), ambient()


def test_no_step_is_the_identity() -> None:
    x = X.clone().requires_grad_()
    out = stepwise(lambda _: [], x)
    assert torch.equal(out, x)
    assert torch.equal(torch.autograd.grad(out.sum(), x)[0], torch.ones_like(x))


@pytest.mark.parametrize("count", [1, 2, 7, 16])
def test_steps_have_the_value_gradient_and_draws_of_the_plain_loop(count: int) -> None:
    walk = Walk(count)
    expected, gradients, after = with_gradients(walk.plain, walk)
    walk.ran = 0
    value, found, left = with_gradients(walk.run, walk)
    assert torch.equal(value, expected)
    assert left == after
    for a, b in zip(found, gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert walk.ran <= 3 * count


def test_the_gradient_of_steps_on_the_state_alone_is_that_of_the_plain_loop_bit_for_bit() -> None:
    net = Walk(1).net.requires_grad_(False)

    def steps(x: Tensor) -> list[Step]:
        return [lambda s: s + 0.1 * net(s) + 0.1 * torch.randn_like(s)] * 11

    def plain(x: Tensor) -> Tensor:
        for step in steps(x):
            x = step(x)
        return x

    frozen = nn.Module()
    expected, gradient, _ = with_gradients(plain, frozen)
    value, found, _ = with_gradients(lambda x: stepwise(steps, x, net), frozen)
    assert torch.equal(value, expected)
    assert torch.equal(found[0], gradient[0])


def test_steps_may_write_into_their_state_and_differentiate_inside() -> None:
    net = Walk(1).net.requires_grad_(False)

    def written(state: Tensor) -> Tensor:
        state += 0.1 * torch.randn_like(state)
        return state.mul_(0.9)

    def energy(state: Tensor) -> Tensor:  # a step of Langevin dynamics
        with torch.enable_grad():
            inner = state if state.requires_grad else state.clone().requires_grad_()
            (slope,) = torch.autograd.grad((net(inner) ** 2).sum(), inner, create_graph=True)
        return state - 0.1 * slope

    def plain(x: Tensor) -> Tensor:
        state = x.clone()
        for step in (written, energy) * 3:
            state = step(state)
        return state

    expected, gradient, _ = with_gradients(plain, nn.Module())
    value, found, _ = with_gradients(lambda x: stepwise(lambda _: (written, energy) * 3, x), nn.Module())
    torch.testing.assert_close(value, expected, rtol=0, atol=0)
    torch.testing.assert_close(found[0], gradient[0])


def test_a_step_without_a_gradient_is_an_error() -> None:
    x = X.clone().requires_grad_()
    with pytest.raises(RuntimeError, match="without a gradient"):
        torch.autograd.grad(stepwise(lambda _: [torch.sin, Tensor.detach, torch.cos], x).sum(), x)


def test_without_gradients_nothing_is_made_twice() -> None:
    walk = Walk(9)
    with torch.no_grad():
        stepwise(walk.steps, X, walk)
    assert walk.ran == 9


def test_two_gradients_of_one_pass() -> None:
    """ART differentiates each class of one pass in turn."""
    walk = Walk(5)
    for run in (walk.run, lambda x: checkpointed(walk.plain, x, walk)):
        seeds()
        x = X.clone().requires_grad_()
        value = run(x).flatten(1)
        found = [torch.autograd.grad(value[:, k].sum(), x, retain_graph=True)[0] for k in (0, 7)]
        seeds()
        value = walk.plain(x).flatten(1)
        for k, gradient in zip((0, 7), found, strict=True):
            expected = torch.autograd.grad(value[:, k].sum(), x, retain_graph=True)[0]
            torch.testing.assert_close(gradient, expected)


def test_a_checkpointed_pass_is_the_pass_itself() -> None:
    walk = Walk(4)
    expected, gradients, after = with_gradients(walk.plain, walk)
    value, found, left = with_gradients(lambda x: checkpointed(walk.plain, x, walk), walk)
    assert torch.equal(value, expected)
    assert left == after
    assert all(torch.equal(a, b) for a, b in zip(found, gradients, strict=True))


def test_running_statistics_count_a_pass_once() -> None:
    for run in ("checkpointed", "stepwise"):
        norm, same = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
        x = X.clone().requires_grad_()
        steps = [norm]
        out = checkpointed(norm, x, norm) if run == "checkpointed" else stepwise(lambda _, s=steps: s, x, norm)
        found = torch.autograd.grad((out**3).sum(), x)[0]
        expected = torch.autograd.grad((same(x) ** 3).sum(), x)[0]
        torch.testing.assert_close(found, expected)
        for name, value in same.state_dict().items():
            assert torch.equal(norm.state_dict()[name], value), (run, name)


def test_passes_know_that_they_are_made_again() -> None:
    told: list[bool] = []

    def run(x: Tensor) -> Tensor:
        told.append(recomputing())
        return x.sin()

    x = X.clone().requires_grad_()
    torch.autograd.grad(checkpointed(run, x).sum(), x)
    torch.autograd.grad(stepwise(lambda _: [run], x).sum(), x)
    assert told == [False, True, False, True]
    assert not recomputing()


def test_pieces_are_the_model_itself() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(40, 3), nn.Tanh())
    x = X.clone().requires_grad_()
    for size in (1, 2, 3):
        found = torch.autograd.grad(Pieces(net, size)(x)[:, 0].sum(), x)[0]
        torch.testing.assert_close(found, torch.autograd.grad(net(x)[:, 0].sum(), x)[0])


@pytest.mark.parametrize("inside", [False, True])
def test_memory_hardly_grows_with_the_steps(inside: bool) -> None:
    def step(state: Tensor) -> Tensor:  # some 200 states at once
        return ((scales * state).tanh() * scales).mean(0) + 0.01 * torch.randn_like(state)

    most, x = {}, X.repeat(4, 1, 4, 1).requires_grad_()
    scales = torch.linspace(-1, 1, 50).view(-1, 1, 1, 1, 1)
    for count in (10, 144):
        with Allocated() as memory:
            run = partial(stepwise, lambda _, count=count: [step] * count)
            value = checkpointed(run, x) if inside else run(x)
            assert memory.now < (4 + (0 if inside else count**0.5 + 1)) * (x.nbytes + 5056)  # a generator's state
            torch.autograd.grad(value.sum(), x)
        most[count] = memory.most
    assert most[144] < 1.2 * most[10], most
