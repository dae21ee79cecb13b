"""Passes that are compiled where that pays, with a stand-in for `torch.compile` but in the slow test."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.nn import compiling, seeded
from art_ext.nn.compiling import Compiled, standing_in


class Counted:
    """Doubles images; counts the batches that it saw by the way they came."""

    def __init__(self) -> None:
        self.seen: dict[str, list[int]] = {"plain": [], "fast": []}

    def plain(self, x: Tensor) -> Tensor:
        self.seen["plain"].append(len(x))
        return 2 * x

    def compiled(self, function: Any, **options: Any) -> Callable[[Tensor], Tensor]:
        assert options["dynamic"] is False
        return self.fast

    def fast(self, x: Tensor) -> Tensor:
        self.seen["fast"].append(len(x))
        return 2 * x


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    made = Counted()
    monkeypatch.setattr(torch, "compile", made.compiled)
    monkeypatch.setattr(Compiled, "_timed", staticmethod(lambda run, x: (run(x), 2.0 if run == made.plain else 1.0)[1]))
    return made


@pytest.mark.parametrize(("n", "size"), [(1, 0), (5, 0), (6, 8), (8, 8), (9, 0), (12, 16), (22, 0), (23, 32), (32, 32)])
def test_a_batch_is_padded_to_a_size_that_it_nearly_fills(counted: Counted, n: int, size: int) -> None:
    fast = Compiled(counted.plain)
    x = torch.rand(n, 3)
    fast(x)
    counted.seen = {"plain": [], "fast": []}
    assert torch.equal(fast(x), 2 * x)
    assert counted.seen == ({"plain": [], "fast": [size]} if size else {"plain": [n], "fast": []})
    assert fast.images == (2 * n if size else 0)


def test_gradients_pass_the_padding(counted: Counted) -> None:
    x = torch.rand(7, 3).requires_grad_()
    (gradient,) = torch.autograd.grad(Compiled(counted.plain)(x).sum(), x)
    assert torch.equal(gradient, torch.full_like(x, 2))


def test_what_does_not_pay_passes_as_it_is(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Compiled, "_timed", staticmethod(lambda run, x: 1.05 if run == counted.plain else 1.0))
    fast = Compiled(counted.plain)
    with pytest.warns(UserWarning, match=r"8 images are not compiled: 1.05 times as fast"):
        fast(torch.rand(8, 3))
    fast(torch.rand(7, 3))
    assert counted.seen == {"plain": [8, 7], "fast": []}
    assert fast.images == 0
    assert list(fast.refused) == [(8, True)]


def test_what_torch_cannot_compile_passes_as_it_is(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(x: Tensor) -> Tensor:
        raise RuntimeError("no compiler\nfound")

    monkeypatch.setattr(counted, "fast", fails)
    fast, x = Compiled(counted.plain), torch.rand(8, 3)
    with pytest.warns(UserWarning, match="RuntimeError: no compiler$"):
        assert torch.equal(fast(x), 2 * x)
    assert torch.equal(fast(x), 2 * x)


def test_an_error_of_the_pass_is_its_own(counted: Counted) -> None:
    def broken(x: Tensor) -> Tensor:
        raise ValueError("expected other images")

    fast = Compiled(broken)
    with pytest.raises(ValueError, match="expected other images"):
        fast(torch.rand(8, 3))
    assert not fast.refused


def test_measuring_draws_nothing(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Compiled, "_timed", staticmethod(lambda run, x: torch.rand(()).item() * 0 + 1.0))
    x = torch.rand(8, 3)
    before = torch.get_rng_state()
    with pytest.warns(UserWarning, match="not compiled"):
        Compiled(counted.plain)(x)
    assert torch.equal(torch.get_rng_state(), before)


def test_both_kinds_of_passes_are_decided_for_themselves(counted: Counted) -> None:
    fast, x = Compiled(counted.plain), torch.rand(8, 3)
    with torch.no_grad():
        fast(x)
    assert fast.used == {(8, False)}
    fast(x)
    assert fast.used == {(8, False), (8, True)}


def test_another_process_gets_the_pass(counted: Counted) -> None:
    class_of = nn.Flatten()
    again = pickle.loads(pickle.dumps(Compiled(class_of)))
    assert isinstance(again, Compiled)
    assert isinstance(again.function, nn.Flatten)


def test_an_attribute_is_what_it_was_after_the_block() -> None:
    flat = nn.Flatten()
    flat.run = None
    with standing_in([(flat, "forward", len), (flat, "run", sum)]):
        assert flat.forward is len
        assert flat.run is sum
    assert "forward" not in vars(flat)
    assert vars(flat)["run"] is None


@pytest.mark.slow
def test_torch_compiles_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "GAIN", 0.0)
    with seeded(0):
        network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)).requires_grad_(False)
    fast, x = Compiled(network), torch.rand(7, 3, 8, 8).requires_grad_()
    made, plain = (torch.autograd.grad(run(x).square().sum(), x)[0] for run in (fast, network))
    assert fast.images == 7
    torch.testing.assert_close(made, plain)
