"""Features: the layer that was named, nothing after it, no trace in the network."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from art_ext.nn import FeatureExtractor, imagenet_vgg16


class Failing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise ArithmeticError("ran")


class Skipping(nn.Module):
    """Has a layer that it does not call."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return x


def network() -> nn.Sequential:
    body = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Conv2d(3, 4, 2))
    return nn.Sequential(body, nn.Flatten(), nn.Linear(4 * 2 * 3, 5))


def hooks(module: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


def test_equals_the_manual_forward() -> None:
    whole, x = network(), torch.rand(3, 2, 5, 6)
    for layer, expected in (
        ("0.0", whole[0][0](x)),
        ("0.1", whole[0][1](whole[0][0](x))),
        ("0", whole[0](x)),
        ("2", whole(x)),
    ):
        extractor = FeatureExtractor(whole, layer)
        assert torch.equal(extractor(x), expected)
        assert torch.equal(extractor(x), expected)  # a second time as well
        assert hooks(whole) == 0
    assert torch.equal(whole(x), whole[2](whole[1](whole[0](x))))  # the network still runs to its end


def test_later_layers_are_not_run() -> None:
    whole = nn.Sequential(network()[0], Failing())
    x = torch.rand(3, 2, 5, 6)
    assert torch.equal(FeatureExtractor(whole, "0")(x), whole[0](x))


def test_no_hook_is_left_after_an_error() -> None:
    whole = nn.Sequential(Failing(), nn.Identity())
    for layer in ("0", "1"):
        with pytest.raises(ArithmeticError, match="ran"):
            FeatureExtractor(whole, layer)(torch.rand(3, 2, 5, 6))
        assert hooks(whole) == 0
    skipping = Skipping()
    with pytest.raises(RuntimeError, match="did not call its layer 'unused'"):
        FeatureExtractor(skipping, "unused")(torch.rand(3, 2, 5, 6))
    assert hooks(skipping) == 0


def test_hooks_of_others_stay_and_run() -> None:
    whole, seen = network(), []
    whole[0].register_forward_hook(lambda module, args, output: seen.append(len(output)))
    FeatureExtractor(whole, "0")(torch.rand(3, 2, 5, 6))
    assert seen == [3]
    assert hooks(whole) == 1


def test_two_extractors_of_one_network() -> None:
    whole, x = network(), torch.rand(3, 2, 5, 6)
    early, late = FeatureExtractor(whole, "0.1"), FeatureExtractor(whole, "0.2")
    assert torch.equal(late(x), whole[0](x))
    assert torch.equal(early(x), whole[0][:2](x))


def test_unknown_layer_lists_the_names() -> None:
    with pytest.raises(ValueError, match=r"one of 0, 0\.0, 0\.1, 0\.2, 1, 2; got '0\.3'"):
        FeatureExtractor(network(), "0.3")
    with pytest.raises(ValueError, match="got ''"):  # the whole network is not a layer of itself
        FeatureExtractor(network(), "")
    with pytest.raises(ValueError, match="one of none; got 'features'"):
        FeatureExtractor(nn.Identity(), "features")


def test_gradient_reaches_the_images_as_in_the_manual_forward() -> None:
    whole, x = network().requires_grad_(False), torch.rand(3, 2, 5, 6).requires_grad_()
    (found,) = torch.autograd.grad(FeatureExtractor(whole, "0.1")(x).square().sum(), x)
    (expected,) = torch.autograd.grad(whole[0][:2](x).square().sum(), x)
    assert torch.equal(found, expected)
    assert found.count_nonzero() > 0


def test_the_network_is_neither_copied_nor_changed() -> None:
    whole = network()
    whole[0][0].weight.requires_grad_(False)
    extractor = FeatureExtractor(whole, "0")
    extractor(torch.rand(3, 2, 5, 6))
    assert extractor.network is whole
    assert [p.requires_grad for p in whole.parameters()] == [False, True, True, True, True, True]
    assert all(m.training for m in whole.modules())


def test_vgg16_is_normalised_frozen_and_cut_at_its_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Weights:
        IMAGENET1K_V1 = "these"

    class Vgg(nn.Module):
        def __init__(self, weights: str) -> None:
            super().__init__()
            assert weights == "these"
            self.features = nn.Sequential(nn.Identity(), nn.Conv2d(3, 2, 1), Failing())

    models = ModuleType("torchvision.models")
    models.vgg16, models.VGG16_Weights = Vgg, Weights  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    x = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1) + 0.5 * torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    torch.testing.assert_close(imagenet_vgg16(0)(x), torch.full((1, 3, 1, 1), 0.5))  # (mean + std / 2) -> 1 / 2
    extractor = imagenet_vgg16(1)
    assert extractor(x).shape == (1, 2, 1, 1)
    assert not any(p.requires_grad for p in extractor.parameters())
    assert not extractor.network[1].training  # type: ignore[index]


@pytest.mark.parametrize("how", ["missing", "of another torch"])
def test_vgg16_without_torchvision_says_what_to_install(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise RuntimeError("operator torchvision::nms does not exist")

    module = None if how == "missing" else Broken("torchvision.models")
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", module)
    with pytest.raises(ImportError, match="pip install torchvision"):
        imagenet_vgg16()
