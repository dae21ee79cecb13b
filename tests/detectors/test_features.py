"""Features of several layers: the right outputs, pooled, in one pass, without a trace."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from art_ext.detectors import LayerFeatures

from .toys import Small, images, two_classes


def test_equal_the_outputs_of_the_layers() -> None:
    network, x = Small().eval(), torch.rand(3, 2, 4, 5)
    expected = network.conv(x)
    features = LayerFeatures(network, ["norm", "conv"])
    (norm, conv), logits = features(x)
    torch.testing.assert_close(conv, expected.mean((2, 3)))
    torch.testing.assert_close(norm, network.norm(expected).mean((2, 3)))
    assert torch.equal(logits, network(x))
    torch.testing.assert_close(features.joined(x), torch.cat([norm, conv], 1))
    whole = LayerFeatures(network, ["conv"], pooled=False)(x)[0][0]
    torch.testing.assert_close(whole, expected.flatten(1))
    assert not any(m._forward_hooks for m in network.modules())


def test_tokens_are_averaged() -> None:
    class Tokens(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, 0]  # (N, T, D)

    network = nn.Sequential(Tokens(), nn.Flatten())
    x = torch.rand(2, 1, 3, 4)
    torch.testing.assert_close(LayerFeatures(network, ["0"])(x)[0][0], x[:, 0].mean(1))


def test_no_trace_after_an_error() -> None:
    network = Small()
    with pytest.raises(RuntimeError, match="channels"):
        LayerFeatures(network, ["conv"])(torch.rand(1, 3, 4, 4))
    assert not any(m._forward_hooks for m in network.modules())


def test_refused() -> None:
    with pytest.raises(ValueError, match=r"expected layers out of first, second, head; got \['third'\]"):
        LayerFeatures(two_classes(), ["third"])
    for layers in ([], "first"):
        with pytest.raises(ValueError, match="expected layers"):
            LayerFeatures(two_classes(), layers)

    class Skipping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)

    with pytest.raises(RuntimeError, match="did not call its layers unused"):
        LayerFeatures(Skipping(), ["unused"])(images((0.0, 1.0)))


def test_a_layer_is_what_it_gave_even_if_the_next_one_writes_over_it() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(inplace=True), nn.Linear(3, 2))
    x = torch.rand(5, 1, 2, 2) - 0.5
    (found,), _ = LayerFeatures(network, ["1"], pooled=False)(x)
    torch.testing.assert_close(found, network[1](x.flatten(1)))
    assert found.min().item() < 0


def test_a_module_in_two_places_has_both_names() -> None:
    shared = nn.Linear(4, 2)
    network = nn.Sequential(nn.ModuleDict({"own": shared})["own"], nn.Sequential(nn.Identity()))
    both = nn.Sequential(nn.Flatten(), nn.Sequential(shared), network)
    assert LayerFeatures(both, ["2.0", "1.0"]).layers == ("2.0", "1.0")
