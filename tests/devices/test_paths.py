"""What was written anew for devices gives what the plain formula gives."""

from __future__ import annotations

import warnings
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from art_ext import attacks
from art_ext.attacks.active import EVERY, due, split
from art_ext.images import OutsideRangeWarning, asking_once, asks, settled
from art_ext.nn import seeded
from art_ext.nn.vit import attention
from art_ext.purifiers.dir import per_mask_restorations

from . import toys
from .fake import FakeCuda


@pytest.mark.parametrize("options", [{}, {"masks": 3, "ratio": 0.4}])
def test_seen_tokens_by_place_and_by_boolean_index_are_the_same_bits(options: dict[str, Any]) -> None:
    purifier, (x, _) = toys.purifier("dir", **options), toys.images()
    network, weight = purifier.network, torch.rand(x.shape[0], 24, 8)
    parameters = [network.hidden_token, *network.encoder.parameters()]

    def by_index(tokens: Tensor, hidden: Tensor) -> Tensor:
        encoded = network.encoder(tokens[~hidden].view(len(tokens), -1, 8))
        filled = network.hidden_token.expand_as(tokens).clone()
        filled[~hidden] = encoded.reshape(-1, 8)
        return filled

    for hidden, count in purifier.counted(purifier.hidden(x)):
        assert hidden.sum(1).unique().tolist() == [count]
        tokens = torch.randn(x.shape[0], 24, 8, requires_grad=True)
        found, expected = network._filled(tokens, hidden, count), by_index(tokens, hidden)
        assert torch.equal(found, expected)
        slopes = [torch.autograd.grad((out * weight).sum(), [tokens, *parameters]) for out in (found, expected)]
        assert all(torch.equal(a, b) for a, b in zip(*slopes, strict=True))
        with pytest.raises(RuntimeError, match=f"expected {count + 1} hidden patches"):
            network(x, hidden, count=count + 1)
        with pytest.raises(ValueError, match=r"expected masks of shape \(5, 24\), got \(6, 24\)"):
            network(x[:5], hidden)


def test_attacks_that_hold_something_of_each_image_take_more_than_a_piece() -> None:
    """Gradients of more than 32 images are taken in pieces on a CPU."""
    (x, y), classifier = toys.images(40), toys.classifier()
    for name in ("dir", "atop"):
        purifier = toys.purifier(name).requires_grad_(False)
        for gradient in purifier.adaptive_attacks(classifier, x, y).values():
            assert gradient(x).shape == x.shape
    assert per_mask_restorations(toys.purifier("dir"), classifier, x, y, steps=1).shape == x.shape


@pytest.mark.parametrize("biased", [False, True])
def test_attention_is_written_out_on_the_cpu_and_fused_elsewhere(biased: bool) -> None:
    query, key, value = torch.randn(3, 2, 4, 7, 8, requires_grad=True)
    bias = torch.randn(2, 1, 1, 7) if biased else None
    weights = query @ key.transpose(2, 3) / 8**0.5
    expected = (weights if bias is None else weights + bias).softmax(3) @ value
    assert torch.equal(attention(query, key, value, bias), expected)
    with FakeCuda(), mock.patch.object(nn.functional, "scaled_dot_product_attention", wraps=fused) as called:
        there = [None if part is None else part.to("cuda") for part in (query, key, value, bias)]
        found = attention(*there)  # type: ignore[arg-type]
    assert called.call_count == 1
    assert torch.allclose(found, expected, atol=1e-6)


fused = nn.functional.scaled_dot_product_attention


def test_gradients_under_float16_do_not_round_to_zero() -> None:
    """Of a network that is sure: the gradient of its logits is below float16's smallest number."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2, bias=False))
    with torch.no_grad():
        network[1].weight.copy_(torch.cat([torch.ones(1, 12), -torch.ones(1, 12)]))
    x, y = torch.full((1, 3, 2, 2), 0.75), torch.zeros(1, dtype=torch.int64)  # logits of 9 and -9
    gradient = attacks.ascent(attacks.cross_entropy(network, y))
    expected = gradient(x)
    with torch.autocast("cpu", torch.float16):
        found = gradient(x)
    assert (expected < 0).all()
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, rtol=0.1, atol=0)


def test_seeds_reach_a_device_that_is_first_used_inside() -> None:
    seeds: list[int] = []
    torch.manual_seed(7)
    with (
        mock.patch.object(torch.cuda, "is_available", return_value=True),
        mock.patch.object(torch.cuda, "manual_seed_all", seeds.append),
    ):
        with seeded(3):
            assert seeds == [3]
        assert seeds == [3, 7]
        with pytest.raises(KeyError), seeded(4):
            raise KeyError
    assert seeds == [3, 7, 4, 7]


@pytest.mark.parametrize("flags", [[], [False], [True], [True, False, False, True, True]])
def test_split(flags: list[bool]) -> None:
    unset, set_ = split(torch.tensor(flags, dtype=torch.bool))
    assert unset.tolist() == [i for i, flag in enumerate(flags) if not flag]
    assert set_.tolist() == [i for i, flag in enumerate(flags) if flag]


def test_it_is_looked_for_leavers_at_each_step_on_the_cpu() -> None:
    steps = range(2 * EVERY)
    assert all(due(step, torch.device("cpu")) for step in steps)
    assert [step for step in steps if due(step, torch.device("cuda"))] == [0, EVERY]


@pytest.mark.parametrize("how", ["inside", "just outside", "outside", "broken", "both"])
def test_images_are_settled_as_purifiers_settle_them(how: str) -> None:
    x, _ = toys.images()
    if how == "just outside":
        x[0, 0, 0, 0] = 1.0005  # float error, which stays
    if how in ("outside", "both"):
        x = 3 * x - 1
    if how in ("broken", "both"):
        x[1, 0, 0, 0], x[2] = torch.nan, torch.inf
    purifier = toys.purifier("rdp")
    results = []
    for settle in (purifier._inside, settled):
        given = x.clone().requires_grad_()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OutsideRangeWarning)
            found, broken = settle(given)
        (slope,) = torch.autograd.grad((found * x.nan_to_num(0, 0, 0)).sum(), given)
        results.append((found, torch.zeros(len(x), dtype=torch.bool) if broken is None else broken, slope))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_a_loop_asks_each_module_once() -> None:
    one, other, x = nn.ReLU(), nn.ReLU(), torch.rand(1)
    with asking_once():
        assert asks(one, x)
        assert asks(one, x)  # the CPU need not be waited for
    with FakeCuda():
        there = x.to("cuda")
        assert asks(one, there)
        assert asks(one, there)
        with asking_once():
            assert [asks(module, there) for module in (one, one, other, other)] == [True, False, True, False]
            with asking_once():
                assert not asks(one, there)
        with asking_once():
            assert asks(one, there)
