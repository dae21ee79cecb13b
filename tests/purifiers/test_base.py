"""What the base class of purifiers does whatever the method: names, configuration, the border."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from art_ext.attacks import Gradient
from art_ext.images import OutsideRangeWarning
from art_ext.purifiers import CDVAE, DIR, RDP, Chain, Foreign, Purifier
from tests.allocated import Allocated

X, Y = torch.rand(2, 3, 8, 12), torch.tensor([0, 1])
CLASSIFIER = nn.Flatten()


class Nothing(Purifier):
    name = "nothing"
    paper = ""

    def purify(self, x: Tensor) -> Tensor:
        return x


def marked(name: str) -> dict[str, Gradient]:
    return {name: lambda v: v}


class Old(Nothing):
    def own_attacks(self, classifier: nn.Module, x: Tensor, y: Tensor) -> dict[str, Gradient]:
        return marked("old")


class OldRDP(RDP):
    def own_attacks(self, classifier: nn.Module, x: Tensor, y: Tensor) -> dict[str, Gradient]:
        with pytest.warns(DeprecationWarning, match="adaptive_attacks"):
            inherited = super().own_attacks(classifier, x, y)
        return {**inherited, **marked("old")}


class NewOnOld(Old):
    def adaptive_attacks(self, classifier: nn.Module, x: Tensor, y: Tensor) -> dict[str, Gradient]:
        return {**super().adaptive_attacks(classifier, x, y), **marked("new")}


class Mixin:
    def own_attacks(self, classifier: nn.Module, x: Tensor, y: Tensor) -> dict[str, Gradient]:
        return marked("mixin")


class Mixed(Mixin, RDP):
    pass


@pytest.mark.parametrize(
    ("purifier", "names"),
    [
        (Nothing(), []),
        (Old(), ["old"]),
        (NewOnOld(), ["old", "new"]),
        (OldRDP(**RDP.small), ["feature", "old"]),
        (Mixed(**RDP.small), ["mixin"]),
        (RDP(**RDP.small), ["feature"]),
    ],
)
def test_adaptive_attacks_by_either_spelling(purifier: Purifier, names: list[str]) -> None:
    assert list(purifier.adaptive_attacks(CLASSIFIER, X, Y)) == names


@pytest.mark.parametrize("purifier", [Nothing(), NewOnOld(), RDP(**RDP.small)])
def test_the_old_spelling_warns(purifier: Purifier) -> None:
    with pytest.warns(DeprecationWarning, match="own_attacks is called adaptive_attacks now"):
        attacks = purifier.own_attacks(CLASSIFIER, X, Y)
    assert list(attacks) == list(purifier.adaptive_attacks(CLASSIFIER, X, Y))


def test_whether_there_are_any_shows_in_the_class() -> None:
    assert Nothing.adaptive_attacks is Purifier.adaptive_attacks
    for kind in (Old, OldRDP, NewOnOld, Mixed, RDP):
        assert kind.adaptive_attacks is not Purifier.adaptive_attacks


class Writing(Nothing):
    """Writes into what it is given, in both directions."""

    def purify(self, x: Tensor) -> Tensor:
        return x.mul_(0.5)

    def surrogate(self, x: Tensor) -> Tensor:
        return x.mul_(0.5).square()


@pytest.mark.parametrize("differentiable", [True, False])
@pytest.mark.parametrize("batch_size", [1, 256])
@pytest.mark.parametrize("needs_grad", [True, False])
def test_writing_into_the_input_changes_nothing_for_the_caller(
    differentiable: bool, batch_size: int, needs_grad: bool
) -> None:
    purifier = Writing()
    purifier.differentiable, purifier.batch_size = differentiable, batch_size
    for view in (purifier, purifier.relaxed, purifier.approximate, purifier.unclamped):
        x = X.clone().requires_grad_(needs_grad)
        out = view(x)
        assert torch.equal(x, X)
        assert torch.equal(out, 0.5 * X)
        if needs_grad:
            (gradient,) = torch.autograd.grad(out.sum(), x)
            exact = differentiable and view != purifier.approximate
            assert torch.allclose(gradient, torch.full_like(X, 0.5) if exact else 0.5 * X)


def test_members_of_a_chain_that_write_change_nothing_either() -> None:
    chain = Chain([Writing(), Foreign(lambda v: v.add_(0.25)), Writing()])
    for view in (chain, chain.relaxed, chain.approximate, chain.unclamped):
        x = X.clone().requires_grad_()
        assert torch.allclose(view(x), 0.5 * (0.5 * X + 0.25))
        assert torch.equal(x, X)


def test_copies_and_others_have_their_own_warning() -> None:
    first = Nothing()
    with pytest.warns(OutsideRangeWarning):
        first(X + 1)
    first(X + 1)
    for other in (Nothing(), copy.deepcopy(first)):
        with pytest.warns(OutsideRangeWarning, match=r"got values in \[1.* for 'nothing', said once"):
            other(X + 1)


class Configured(Nothing):
    def __init__(self, scale: Any = 1.0, *, options: Any = None, around: Any = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))


def saved(purifier: Purifier, folder: Path) -> dict[str, Any]:
    purifier.save_pretrained(folder)
    return cast(dict[str, Any], json.loads((folder / "config.json").read_text()))


def test_numbers_of_numpy_and_torch_are_saved_as_numbers(tmp_path: Path) -> None:
    purifier = Configured(np.float32(0.75), options={"steps": np.int64(4), "std": torch.tensor([0.5, 0.25])})
    expected = {"scale": 0.75, "options": {"steps": 4, "std": [0.5, 0.25]}, "around": None}
    assert saved(purifier, tmp_path) == expected
    loaded = Configured.from_pretrained(tmp_path, scale=np.float64(0.5))
    assert saved(loaded, tmp_path) == {**expected, "scale": 0.5}


def test_what_is_set_later_is_saved_as_a_number_too(tmp_path: Path) -> None:
    small = {**DIR.small, "ratio": np.float32(0.75), "masks": np.int64(4), "draws": np.int64(2)}
    config = saved(DIR(**small).set_draws(np.int64(3)), tmp_path)  # type: ignore[arg-type]
    assert (config["ratio"], config["masks"], config["draws"]) == (0.75, 4, 3)
    config = saved(RDP(**RDP.small).set_noise(np.float32(0.25)), tmp_path)  # type: ignore[arg-type]
    assert config["noise_std"] == 0.25
    config = saved(CDVAE(**{**CDVAE.small, "size": np.array([8, 12]), "mean": np.full(3, 0.5)}), tmp_path)
    assert (config["size"], config["mean"]) == ([8, 12], [0.5] * 3)


@pytest.mark.parametrize("value", [nn.Identity(), [torch.float32], {0.5: 1}])
def test_an_argument_without_a_plain_value_is_refused_and_nothing_written(value: Any, tmp_path: Path) -> None:
    saved(Configured(), tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(TypeError, match=r"expected .*around.* as "):
        Configured(around=value).save_pretrained(tmp_path)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
    Configured(around=value).save_pretrained(tmp_path, config={"scale": 2.0})  # the caller knows how to make it


class Drift(Purifier):
    """Twenty noisy steps towards the mean image, of two evaluations each."""

    name = "drift"
    paper = ""
    stochastic = True
    evaluations_a_step = 2

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Conv2d(3, 3, 3, padding=1)
        self.requires_grad_(False)

    def steps(self, x: Tensor) -> list[Callable[[Tensor], Tensor]]:
        start = torch.randn_like(x)
        return [lambda v: v + 0.01 * self.net(v).tanh() + 0.01 * torch.randn_like(v) + 0.01 * start * x] * 20


def test_a_purifier_may_write_steps_alone() -> None:
    drift, x = Drift(), X.clone().requires_grad_()
    torch.manual_seed(0)
    purified = drift(x)
    (gradient,) = torch.autograd.grad((purified**2).sum(), x)
    torch.manual_seed(0)
    state = x
    for step in drift.steps(x):
        state = step(state)
    assert torch.equal(purified, state.clamp(0, 1))
    torch.testing.assert_close(gradient, torch.autograd.grad((state.clamp(0, 1) ** 2).sum(), x)[0])
    torch.manual_seed(0)
    assert torch.equal(drift.approximate(X), purified)


def test_evaluations_are_counted_without_drawing() -> None:
    drift, state = Drift(), torch.get_rng_state()
    assert drift.network_evaluations(X) == 40
    assert Nothing().network_evaluations(X) == 1
    assert torch.equal(torch.get_rng_state(), state)


def test_a_purifier_writes_purify_or_steps() -> None:
    class Neither(Purifier):
        name = "neither"
        paper = ""

    class NoSteps(Neither):
        def steps(self, x: Tensor) -> None:
            return None

    with pytest.raises(TypeError, match="Neither to write purify"):
        Neither()
    with pytest.raises(ValueError, match="got None"):
        NoSteps()(X)


def test_a_large_batch_takes_one_piece_beside_what_it_gives() -> None:
    purifier, x = Nothing(), torch.rand(64, 3, 8, 8)
    purifier.batch_size = 2
    with torch.no_grad(), Allocated() as memory:
        out = purifier(x)
    assert torch.equal(out, x)
    assert memory.most < 1.3 * x.nbytes


def test_large_images_pass_few_at_once_and_a_gradient_takes_no_more_memory_for_many() -> None:
    seen: list[int] = []

    class Deep(Nothing):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(*(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Tanh()) for _ in range(6)))

        def purify(self, x: Tensor) -> Tensor:
            seen.append(len(x))
            noisy = x + 0.01 * torch.randn_like(x)
            return cast(Tensor, self.layers(noisy))

    purifier = Deep().requires_grad_(False)
    purifier.batch_size = 9
    purifier(torch.rand(9, 3, 64, 64))
    purifier(torch.rand(9, 3, 96, 96))  # 2.25 times as large
    purifier(torch.rand(2, 3, 224, 320))
    assert seen == [9, 4, 4, 1, 1, 1]

    def most(n: int) -> tuple[int, Tensor]:
        torch.manual_seed(0)
        x = torch.linspace(0.1, 0.9, n * 3 * 128 * 128).view(n, 3, 128, 128).requires_grad_()
        with Allocated() as memory:
            (gradient,) = torch.autograd.grad(purifier(x).square().sum(), x)
        return memory.most // (4 * 3 * 128 * 128), gradient

    (few, first), (many, gradient) = most(2), most(12)
    assert many - few <= 4 * 10  # images and their gradients, of which ten are more; no activations
    torch.manual_seed(0)
    x = torch.linspace(0.1, 0.9, 12 * 3 * 128 * 128).view(12, 3, 128, 128).requires_grad_()
    parts = [purifier.layers(piece + 0.01 * torch.randn_like(piece)).clamp(0, 1) for piece in x.split(2)]
    (expected,) = torch.autograd.grad(torch.cat(parts).square().sum(), x)
    assert torch.allclose(gradient, expected, atol=1e-7)
    assert len(first) == 2
