"""The fake device refuses what CUDA refuses, and counts what waits for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from art_ext.nn import seeded
from art_ext.nn.checkpointing import checkpointed

from .fake import FakeCuda


@pytest.fixture
def mode() -> Iterator[FakeCuda]:
    with FakeCuda() as mode:
        yield mode


def test_places(mode: FakeCuda) -> None:
    x = torch.ones(2, 3)
    there = x.to("cuda")
    assert there.is_cuda
    assert not x.is_cuda
    assert there.device == torch.zeros(1, device="cuda:0").device == torch.device("cuda:0")
    assert (there + 1)[0].device == torch.ones_like(there).device == there.new_zeros(2).device == there.device
    assert there.to("cuda:1").device == torch.device("cuda:1")
    assert there.cpu().device == torch.device("cpu")
    layer = nn.Linear(3, 2).to("cuda")
    assert all(p.is_cuda for p in layer.parameters())
    layer(there).sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.is_cuda


@pytest.mark.parametrize(
    "mixing",
    [
        lambda here, there: here + there,
        lambda here, there: torch.where(here > 0, there, there),
        lambda here, there: torch.cat([here, there]),
        lambda here, there: here[there.long()],
        lambda here, there: there + here.to("cuda:1"),
        lambda here, there: there + torch.tensor([1.0, 1.0]),
        lambda here, there: torch.randn(2, device="cuda", generator=torch.Generator()),
        lambda here, there: there.normal_(generator=torch.Generator()),
        lambda here, there: nn.functional.linear(there, torch.ones(2, 2)),
    ],
)
def test_two_devices_are_refused(mode: FakeCuda, mixing: Callable[[Tensor, Tensor], Tensor]) -> None:
    here = torch.ones(2)
    with pytest.raises(RuntimeError, match=r"same device|device type for generator|indices should be"):
        mixing(here, here.to("cuda"))


def test_what_cuda_allows(mode: FakeCuda) -> None:
    there = torch.ones(2, device="cuda")
    assert (there + torch.tensor(1.0)).is_cuda  # one number
    there[:1] = torch.zeros(1)
    there.copy_(torch.zeros(2))
    with pytest.raises(TypeError, match="numpy"):
        there.numpy()
    with pytest.raises(TypeError, match="numpy"):
        np.asarray(there)


@pytest.mark.parametrize(
    ("waiting", "count"),
    [
        (lambda x: x.sum().item(), 1),
        (lambda x: float(x.sum()), 1),
        (lambda x: bool((x > 0).any()), 1),
        (lambda x: x.tolist(), 1),
        (lambda x: x.cpu(), 1),
        (lambda x: x.to("cpu"), 1),
        (lambda x: x.nonzero(), 1),
        (lambda x: x[x > 0], 1),
        (lambda x: x.masked_select(x > 0), 1),
        (lambda x: torch.equal(x, x), 1),
        (lambda x: torch.ones(2).to("cuda"), 1),
        (lambda x: x.new_tensor([1.0]), 1),
        (lambda x: x[torch.tensor([1])], 1),
        (lambda x: torch.ones(2).to("cuda", non_blocking=True), 0),
        (lambda x: torch.where(x > 0, x, 2 * x).argsort()[:1], 0),
        (lambda x: torch.arange(3, device="cuda") + x.shape[0], 0),
    ],
)
def test_waits(mode: FakeCuda, waiting: Callable[[Tensor], object], count: int) -> None:
    x = torch.ones(2, device="cuda")
    with mode.counting() as waits:
        waiting(x)
    assert sum(waits.values()) == count


def test_a_device_draws_from_its_own_generator(mode: FakeCuda) -> None:
    state = torch.get_rng_state()
    first = torch.rand(3, device="cuda")
    assert torch.equal(torch.get_rng_state(), state)
    with seeded(3):
        one, other = torch.rand(3, device="cuda"), torch.rand(3, device="cuda:1")
    with seeded(3):
        assert torch.equal(torch.rand(3, device="cuda"), one)
        assert torch.equal(torch.rand(3, device="cuda:1"), other)
    assert not torch.equal(torch.rand(3, device="cuda"), first)
    torch.default_generator.manual_seed(0)  # not of the device's
    now = torch.rand(3, device="cuda")
    torch.manual_seed(0)
    assert not torch.equal(torch.rand(3, device="cuda"), now)


def test_what_is_recomputed_in_a_backward_pass_is_on_the_device(mode: FakeCuda) -> None:
    seen: list[torch.device] = []

    def noisy(x: Tensor) -> Tensor:
        seen.append(x.device)
        return x * torch.rand_like(x)

    x = torch.ones(3, device="cuda", requires_grad=True)
    noise = checkpointed(noisy, x)
    (gradient,) = torch.autograd.grad(noise.sum(), x)
    assert seen == [torch.device("cuda:0")] * 2
    assert torch.equal(gradient, noise.detach())


def test_nothing_is_left_behind() -> None:
    real = torch.cuda.is_available, torch.autograd._engine_run_backward
    with pytest.raises(KeyError), FakeCuda():
        raise KeyError
    assert (torch.cuda.is_available, torch.autograd._engine_run_backward) == real
    assert torch.ones(1).device == torch.device("cpu")
