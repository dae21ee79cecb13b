"""Other people's code as a purifier: values, gradients, refusals; and purifiers one after the other."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from art_ext.nn import seeded
from art_ext.purifiers import PURIFIERS, Chain, Foreign, Purifier
from art_ext.training import Batches, Objective, fit

N, C, H, W = 4, 3, 8, 12


class Rounding(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x * 8).round() / 8


class Squaring(Purifier):
    name = "squaring"
    paper = ""

    def purify(self, x: Tensor) -> Tensor:
        return x**2


class Noisy(Purifier):
    name = "noisy"
    paper = ""
    stochastic = True

    def purify(self, x: Tensor) -> Tensor:
        return x + 0.1 * torch.randn_like(x)


class Reconstruction(Objective):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"module": list(self.module.parameters())}

    def terms(self, player: str, x: Tensor, x_adv: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        return {"mse": ((self.module(x_adv) - x) ** 2).mean()}


@pytest.fixture
def x() -> Tensor:
    return torch.rand(N, C, H, W) * 0.8 + 0.1


def gradient(view: object, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(view(x).sum(), x)[0]  # type: ignore[operator]


def rounding(x: Tensor) -> Tensor:
    return (x * 8).round() / 8


# --- Foreign ---


def test_a_module_keeps_its_own_gradient_and_becomes_a_submodule(x: Tensor) -> None:
    module = nn.Conv2d(C, C, 3, padding=1).double().float()
    purifier = Foreign(nn.Sequential(module, nn.Sigmoid()))
    assert torch.equal(purifier(x), module(x).sigmoid())
    assert torch.equal(gradient(purifier, x), gradient(lambda v: module(v).sigmoid(), x))
    assert purifier.differentiable
    assert any(p is module.weight for p in purifier.parameters())
    purifier.to(torch.float64)
    assert module.weight.dtype == torch.float64
    assert not any(p.requires_grad for p in purifier.parameters())


def test_the_mode_is_the_callers() -> None:
    assert Foreign(nn.Dropout(0.5)).function.training
    assert not Foreign(nn.Dropout(0.5).eval()).function.training


def test_a_plain_function_gets_the_identity_backwards(x: Tensor) -> None:
    purifier = Foreign(rounding)
    assert (purifier.name, purifier.differentiable) == ("rounding", False)
    assert torch.allclose(purifier(x), rounding(x), atol=1e-6)
    assert torch.equal(gradient(purifier, x), torch.ones_like(x))


def test_a_module_without_a_gradient_says_so_and_gets_the_identity(x: Tensor) -> None:
    assert gradient(Foreign(Rounding()), x).abs().max() == 0  # what declaring it prevents
    assert torch.equal(gradient(Foreign(Rounding(), differentiable=False), x), torch.ones_like(x))


def test_the_surrogate_is_the_backward_pass(x: Tensor) -> None:
    for purifier in (
        Foreign(rounding, surrogate=lambda v: v**2),
        Foreign(Rounding(), differentiable=False, surrogate=lambda v: v**2),
    ):
        assert torch.allclose(purifier(x), rounding(x), atol=1e-6)
        for view in (purifier, purifier.relaxed, purifier.approximate):
            assert torch.allclose(gradient(view, x), 2 * x)
    exact = Foreign(nn.Tanh(), surrogate=lambda v: 3 * v)
    assert torch.allclose(gradient(exact, x), 1 - x.tanh() ** 2)
    assert torch.allclose(gradient(exact.approximate, x), torch.full_like(x, 3.0))


def test_a_differentiable_function(x: Tensor) -> None:
    assert torch.allclose(gradient(Foreign(lambda v: v**2, differentiable=True), x), 2 * x)


def test_a_gradient_that_is_not_there_is_no_silent_zero(x: Tensor) -> None:
    purifier = Foreign(lambda v: v.detach() ** 2, differentiable=True, name="cut")
    assert torch.allclose(purifier(x), x**2)
    with pytest.raises(ValueError, match=r"expected a differentiable 'cut'.*differentiable=False"):
        purifier(x.clone().requires_grad_())


def test_values_are_clamped(x: Tensor) -> None:
    out = Foreign(lambda v: 5 * v - 2)(x)
    assert (float(out.min()), float(out.max())) == (0, 1)


@pytest.mark.parametrize(
    ("function", "error", "got"),
    [
        (lambda v: v[:, :1], ValueError, r"expected images of 'f' of shape \(4, 3, 8, 12\), got \(4, 1, 8, 12\)"),
        (lambda v: v.mean((1, 2, 3)), ValueError, r"got \(4,\)"),
        (lambda v: v.numpy(), TypeError, "floating-point tensor, got ndarray"),
        (lambda v: None, TypeError, "got NoneType"),
        (lambda v: (255 * v).to(torch.uint8), TypeError, "got torch.uint8"),
    ],
)
def test_what_is_no_batch_of_images(function: object, error: type[Exception], got: str, x: Tensor) -> None:
    with pytest.raises(error, match=got):
        Foreign(function, name="f")(x)  # type: ignore[arg-type]


def test_a_surrogate_that_changes_the_shape(x: Tensor) -> None:
    with pytest.raises(ValueError, match="from the surrogate"):
        gradient(Foreign(rounding, surrogate=lambda v: v[:, :1]), x)


@pytest.mark.parametrize(("function", "options"), [(3, {}), (nn.ReLU, {}), (rounding, {"surrogate": 3})])
def test_what_cannot_be_called(function: object, options: dict[str, object]) -> None:
    with pytest.raises(TypeError, match=r"expected (function|surrogate) to be a module or a function"):
        Foreign(function, **options)  # type: ignore[arg-type]


def test_channels() -> None:
    with pytest.raises(ValueError, match=r"expected images with 1 channel\(s\)"):
        Foreign(rounding, channels=1)(torch.rand(2, 3, 4, 4))


def test_it_is_trained_by_its_stages(x: Tensor) -> None:
    module = nn.Conv2d(C, C, 1)
    purifier = Foreign(module, stages=lambda classifier: [Reconstruction(module)])
    before = module.weight.clone()
    for _ in fit(purifier.stages(None)[0], Batches(x, batch_size=2), epochs=1):
        pass
    assert not torch.equal(module.weight, before)
    assert not module.weight.requires_grad
    assert Foreign(module).stages(None) == []


def test_it_is_not_saved(tmp_path: object) -> None:
    for purifier in (Foreign(nn.Conv2d(C, C, 1)), Chain([Squaring()])):
        for method in (purifier.save_pretrained, purifier.push_to_hub):
            with pytest.raises(TypeError, match="holds code: keep the code"):
                method(tmp_path / "saved")  # type: ignore[operator]
    assert not (tmp_path / "saved").exists()  # type: ignore[operator]


def test_it_is_copied(x: Tensor) -> None:
    purifier = Foreign(nn.Conv2d(C, C, 1))
    twin = copy.deepcopy(purifier)
    assert torch.equal(twin(x), purifier(x))
    assert twin.function is not purifier.function


def test_it_is_no_registered_method() -> None:
    assert not {Foreign, Chain} & set(PURIFIERS.values())


# --- Chain ---


def test_a_chain_runs_forward_in_order_and_backward_through_the_surrogates(x: Tensor) -> None:
    chain = Chain([Foreign(rounding, surrogate=lambda v: 3 * v), Squaring()])
    seen = rounding(x)
    assert torch.allclose(chain(x), seen**2, atol=1e-6)
    for view in (chain, chain.relaxed):
        assert torch.allclose(view(x), seen**2, atol=1e-6)
        assert torch.allclose(gradient(view, x), 3 * 2 * seen, atol=1e-5)  # at what the second member saw
    assert torch.allclose(chain.approximate(x), seen**2, atol=1e-6)
    assert torch.allclose(gradient(chain.approximate, x), torch.full_like(x, 3.0))  # the second is the identity there
    tripled = Chain([Squaring(), Foreign(rounding, surrogate=lambda v: v**3)])
    assert torch.allclose(gradient(tripled.approximate, x), 3 * x**4, atol=1e-5)
    assert not chain.differentiable
    assert Chain([Squaring()]).differentiable
    assert chain.name == "rounding + squaring"


def test_the_last_clamp_of_a_chain_is_left_to_forward(x: Tensor) -> None:
    chain = Chain([Squaring(), Foreign(nn.Sequential(nn.Conv2d(C, C, 1)))])
    chain.purifiers[1].function[0].weight.data.fill_(2.0)
    assert float(chain.unclamped(x).max()) > 1
    assert float(chain(x).max()) == 1
    assert float(gradient(chain.relaxed, x).abs().min()) > 0


def test_a_stochastic_chain_draws_the_same_in_every_view(x: Tensor) -> None:
    chain = Chain([Noisy(), Squaring(), Noisy()])
    assert chain.stochastic
    outs = []
    for view in (chain, chain.relaxed, chain.approximate):
        with seeded(1):
            outs.append(view(x))
    assert torch.equal(outs[0], outs[1])
    assert torch.equal(outs[0], outs[2])
    assert not torch.equal(chain(x), chain(x))


def test_members_cut_their_own_batches(x: Tensor) -> None:
    sizes: list[int] = []
    last = Foreign(lambda v: (sizes.append(len(v)), v)[1])
    last.batch_size = math.ceil(N / 2)
    assert torch.equal(Chain([Squaring(), last])(x), x**2)
    assert sizes == [2, 2]


def test_what_makes_no_chain() -> None:
    with pytest.raises(ValueError, match="expected at least one purifier"):
        Chain([])
    with pytest.raises(TypeError, match="expected purifiers, got Conv2d"):
        Chain([Squaring(), nn.Conv2d(3, 3, 1)])  # type: ignore[list-item]
