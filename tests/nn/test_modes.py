"""What is borrowed comes back as it was, also on an error."""

from __future__ import annotations

from contextlib import AbstractContextManager

import pytest
import torch
from torch import nn

from art_ext.nn import evaluating, seeded, trainable, untracked


def mixed() -> nn.Sequential:
    """A network in train mode with one submodule in eval mode and one frozen parameter."""
    network = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.Dropout(), nn.BatchNorm1d(3)), nn.Linear(3, 1))
    network[1][1].eval()
    network[0].bias.requires_grad_(False)
    return network


def modes(network: nn.Module) -> list[bool]:
    return [m.training for m in network.modules()]


def flags(network: nn.Module) -> list[bool]:
    return [p.requires_grad for p in network.parameters()]


def leave(context: AbstractContextManager[None], how: str) -> None:
    """Runs the context to its end or breaks out of it."""
    if how == "normally":
        with context:
            torch.rand(5)
        return
    with pytest.raises(KeyError), context:
        {}[float(torch.rand(1))]


both_ways = pytest.mark.parametrize("how", ["normally", "by an error"])


@both_ways
def test_evaluating_restores_every_mode(how: str) -> None:
    network, evaluated = mixed(), mixed().eval()
    before = modes(network)
    assert before == [True, True, True, True, False, True]
    leave(evaluating(network, evaluated), how)
    assert modes(network) == before
    assert not any(modes(evaluated))


def test_evaluating_switches_all_of_them() -> None:
    network, other = mixed(), mixed()
    with evaluating(network, other):
        assert not any(modes(network) + modes(other))
        with evaluating(network[1]):  # nested: the outer one is not ended by the inner one
            pass
        assert not any(modes(network) + modes(other))
        network[0].train()  # a change inside does not survive either
    assert modes(network) == modes(other) == [True, True, True, True, False, True]


def test_evaluating_a_module_and_its_part() -> None:
    network = mixed()
    with evaluating(network, network[1], network):
        assert not any(modes(network))
    assert modes(network) == [True, True, True, True, False, True]


def test_evaluating_a_part_that_two_parents_share() -> None:
    shared = nn.Dropout().eval()
    network = nn.Sequential(shared, nn.Sequential(shared))  # the second parent is in train mode, its part is not
    with evaluating(network):
        pass
    assert modes(network) == [True, False, True]


@both_ways
def test_trainable_restores_every_flag(how: str) -> None:
    network = mixed()
    before = flags(network)
    assert before == [True, False, True, True, True, True]
    leave(trainable(network[2].parameters(), network.parameters()), how)
    assert flags(network) == before


def test_trainable_leaves_only_the_chosen() -> None:
    network, other = mixed(), mixed()
    # The first weight, and the bias that was frozen; generators may be read once only.
    with trainable((p for p in network[0].parameters()), (p for p in network.parameters())):
        assert flags(network) == [True, True, False, False, False, False]
        assert flags(other) == [True, False, True, True, True, True]
    with trainable([], network.parameters()):
        assert not any(flags(network))
    with trainable(network[2].parameters(), network[0].parameters()):  # none of the chosen is among them
        assert flags(network) == [False, False, True, True, True, True]
    assert flags(network) == [True, False, True, True, True, True]


def test_trainable_tells_equal_parameters_apart() -> None:
    a, b = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    with trainable([a], [a, b]):
        assert (a.requires_grad, b.requires_grad) == (True, False)


@both_ways
def test_seeded_leaves_the_ambient_generator(how: str) -> None:
    before = torch.get_rng_state()
    leave(seeded(7), how)
    assert torch.equal(torch.get_rng_state(), before)


def test_seeded_starts_from_the_seed() -> None:
    torch.rand(3)
    with seeded(7):
        first = torch.rand(4)
        with seeded(7):
            assert torch.equal(torch.rand(4), first)
        second = torch.rand(4)  # the outer stream goes on
    with seeded(8):
        assert not torch.equal(torch.rand(4), first)
    torch.manual_seed(7)
    assert torch.equal(torch.rand(4), first)
    assert torch.equal(torch.rand(4), second)


@both_ways
def test_untracked_keeps_the_running_statistics_and_normalises_by_the_batch(how: str) -> None:
    norm, still = nn.BatchNorm1d(2), nn.BatchNorm1d(2).eval()
    network = nn.Sequential(norm, still)
    x = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    with untracked(network):
        torch.testing.assert_close(norm(x), torch.tensor([[-1.0, -1.0], [1.0, 1.0]]), atol=1e-4, rtol=0)
        torch.testing.assert_close(still(x), x, atol=1e-4, rtol=1e-4)  # mean 0, variance 1
    assert norm.num_batches_tracked == 0
    assert norm.running_mean is not None
    assert norm.running_mean.tolist() == [0, 0]
    leave(untracked(network), how)
    assert norm.track_running_stats
    assert still.track_running_stats
    norm(x)
    assert norm.num_batches_tracked == 1
