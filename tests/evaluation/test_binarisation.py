"""The test of attacks: sound ones pass, planted broken ones fail, and the binary problems are what they claim."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.attacks import Linf, apgd, ascent, cross_entropy, dlr, margin, pgd
from art_ext.evaluation import Attack, Threat, mean_interval
from art_ext.evaluation.binarisation import LEAST, Binarisation, Binarised, binarisation_test
from art_ext.evaluation.threat import Cheated

THREAT = Threat("Linf", 0.1)
Function = Any


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 150))
    return nn.Sequential(*layers, nn.Tanh()).eval()


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.rand(12, 1, 10, 10, generator=torch.Generator().manual_seed(1))


def our_pgd(module: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    return pgd(ascent(cross_entropy(module, y)), x, norm=threat.ball, eps=threat.eps, steps=40, score=margin(module, y))


def our_apgd(module: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    return apgd(dlr(module, y), x, norm=threat.ball, eps=threat.eps, steps=30, score=margin(module, y))


def nothing(module: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    return x


def no_step(module: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    return pgd(ascent(cross_entropy(module, y)), x, norm=threat.ball, eps=threat.eps, steps=10, step_size=0.0)


def zero_gradient(module: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    return pgd(torch.zeros_like, x, norm=threat.ball, eps=threat.eps, steps=10)


def detached(module: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    def blocked(v: Tensor) -> Tensor:
        return module(v.detach()) + 0 * v.flatten(1).sum(1, keepdim=True)

    return our_pgd(blocked, x, y, threat)  # type: ignore[arg-type]


def wrong_way(module: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    return pgd(lambda v: -ascent(cross_entropy(module, y))(v), x, norm=threat.ball, eps=threat.eps, steps=10)


def tiny_steps(module: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    return pgd(
        ascent(cross_entropy(module, y)), x, norm=threat.ball, eps=threat.eps, steps=2, step_size=threat.eps / 50
    )


@pytest.mark.parametrize("attack", [our_pgd, our_apgd])
@pytest.mark.parametrize("threat", [THREAT, Threat("L2", 0.6)], ids=["Linf", "L2"])
def test_sound_attacks_pass(network: nn.Module, x: Tensor, attack: Function, threat: Threat) -> None:
    found = binarisation_test(network, attack, x, threat, samples=60)
    assert sum(found.usable) == 12
    assert found.share >= LEAST
    assert found.random_share < 0.2


def test_the_backends_attacks_pass(network: nn.Module, x: Tensor) -> None:
    for attack in (Attack("native", "PGD", {"steps": 40}), Attack("native", "APGD", {"steps": 30, "loss": "dlr"})):
        assert binarisation_test(network, attack, x[:8], THREAT, samples=60).share >= LEAST


@pytest.mark.parametrize("attack", [nothing, no_step, zero_gradient, detached, wrong_way, tiny_steps])
def test_broken_attacks_fail(network: nn.Module, x: Tensor, attack: Function) -> None:
    assert binarisation_test(network, attack, x, THREAT, samples=60).share < 0.5


class Rounded(nn.Module):
    """A purifier that nothing differentiates: 20 grey levels."""

    def __init__(self, network: nn.Module, straight_through: bool) -> None:
        super().__init__()
        self.network, self.straight_through = network, straight_through

    def forward(self, x: Tensor) -> Tensor:
        levels = (20 * x).round() / 20
        return self.network(x + (levels - x).detach() if self.straight_through else levels)


def test_a_masked_gradient_is_seen_and_bpda_mends_it(network: nn.Module, x: Tensor) -> None:
    masked = binarisation_test(Rounded(network, False), our_pgd, x, THREAT, samples=60)
    assert sum(masked.usable) == 12
    assert masked.share < 0.5
    assert binarisation_test(Rounded(network, True), our_pgd, x, THREAT, samples=60).share >= LEAST


def test_what_the_attack_is_given(network: nn.Module, x: Tensor) -> None:
    seen: list[int] = []

    def attack(module: nn.Module, some: Tensor, y: Tensor, threat: Threat) -> Tensor:
        logits = module(some)
        assert logits.shape == (len(some), 4)
        assert (logits.argmax(1) == 0).all()  # the clean image is of the clean class
        assert y.tolist() == [0] * len(some)
        # Two logits never win, and the other two are as far apart as the scale says.
        assert (logits[:, 2:].amax(1) <= logits[:, :2].amin(1) - 1).all()
        assert ((logits[:, 0] - logits[:, 1]) > 9.9).all()
        assert ((logits[:, 0] - logits[:, 1]) < 10).all()
        seen.append(len(some))
        # Each input knows its own readout, whatever the order and however many copies there are.
        order = torch.randperm(len(some))
        torch.testing.assert_close(module(some[order]), logits[order])
        torch.testing.assert_close(module(some.repeat(3, 1, 1, 1)), logits.repeat(3, 1))
        return some

    found = binarisation_test(network, attack, x, THREAT, samples=60, at_once=5)
    assert seen == [5, 5, 2]
    assert found.share == 0


def test_the_planted_point_is_a_solution_and_hardly_anything_else_is(network: nn.Module, x: Tensor) -> None:
    modules: list[Binarised] = []
    binarisation_test(network, lambda m, v, y, t: modules.append(m) or v, x[:1], THREAT, samples=60)  # type: ignore[arg-type, func-returns-value]
    torch.manual_seed(0)  # the points of the test, drawn again in its order
    many = x[:1].expand(60, -1, -1, -1)
    uniform = (many[:30] + torch.empty(30, 1, 10, 10).uniform_(-0.095, 0.095)).clamp(0, 1)
    border = (many[30:] + 0.095 * torch.randn(30, 1, 10, 10).sign()).clamp(0, 1)
    planted = (x[:1] + 0.1 * torch.randn(1, 1, 10, 10).sign()).clamp(0, 1)
    difference = modules[0](torch.cat([x[:1], uniform, border, planted]))[:, :2]
    difference = difference.detach().diff(dim=1).squeeze(1)
    assert (difference[:-1] < 0).all()
    assert float(difference[-1]) > 0
    assert float(difference[-1] - difference[0]) == pytest.approx(10, rel=1e-4)
    # The threshold is at 0.999 of the way from the largest inner value to the planted one.
    peak = float(difference[:-1].max())
    assert float(difference[-1]) / (float(difference[-1]) - peak) == pytest.approx(0.001, rel=0.05)


def test_an_easy_threshold_is_found_at_random(network: nn.Module, x: Tensor) -> None:
    hard, easy = (binarisation_test(network, nothing, x, THREAT, samples=50, closeness=c) for c in (0.999, 0.0))
    assert easy.random_share > hard.random_share


def test_features_too_poor_for_a_readout_are_not_usable(x: Tensor) -> None:
    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros(len(x), 2) + 0 * x.mean((1, 2, 3))[:, None]

    calls: list[int] = []
    found = binarisation_test(Mean(), lambda m, v, y, t: calls.append(1) or v, x[:3], THREAT, samples=20)  # type: ignore[arg-type, func-returns-value]
    assert found.usable == found.found == found.random == (False,) * 3
    assert calls == []
    with pytest.raises(ValueError, match="expected at least one usable image, got none of 3"):
        _ = found.share


def test_shares_count_usable_images_alone() -> None:
    found = Binarisation((True, True, True, False), (True, True, False, False), (False, True, False, True))
    assert found.share == pytest.approx(2 / 3)
    assert found.random_share == pytest.approx(1 / 3)
    assert found.interval == mean_interval([1, 1, 0])


def test_seed_and_batches_and_traces(network: nn.Module, x: Tensor) -> None:
    state = torch.get_rng_state()
    options: dict[str, Any] = {"samples": 40}
    with torch.no_grad():
        first = binarisation_test(network, tiny_steps, x[:6], THREAT, **options)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    assert not network.training
    assert binarisation_test(network, tiny_steps, x[:6], THREAT, **options) == first
    values = []

    def record(module: Binarised, v: Tensor, y: Tensor, threat: Threat) -> Tensor:
        values.append(module(v)[:, 1])
        return v

    for seed in (0, 0, 1):
        binarisation_test(network, record, x[:6], THREAT, seed=seed, **options)  # type: ignore[arg-type]
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])


def test_no_images(network: nn.Module, x: Tensor) -> None:
    assert binarisation_test(network, nothing, x[:0], THREAT).usable == ()


def test_an_attack_that_leaves_the_ball_is_refused(network: nn.Module, x: Tensor) -> None:
    with pytest.raises(Cheated, match="expected the attack to stay inside the threat"):
        binarisation_test(network, lambda m, v, y, t: (v + 0.2).clamp(0, 1), x[:2], THREAT, samples=50)


@pytest.mark.parametrize(
    "bad", [{"samples": 0}, {"at_once": 0}, {"inner": 0.0}, {"inner": 1.0}, {"closeness": 1.0}, {"closeness": -0.1}]
)
def test_bad_arguments(network: nn.Module, x: Tensor, bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        binarisation_test(network, nothing, x, THREAT, **bad)
    with pytest.raises(ValueError, match=r"eps=0\.0"):
        binarisation_test(network, nothing, x, Threat("Linf", 0.0))


def test_margin_agrees_with_the_library_on_the_binary_module(network: nn.Module, x: Tensor) -> None:
    module = Binarised(network, x[:1], torch.randn(1, 150), torch.zeros(1), Linf())
    logits = module(x[:1]).detach()
    assert float(margin(module, torch.tensor([0]))(x[:1]).detach()) == pytest.approx(
        float(logits[0, 1] - logits[0, 0]), rel=1e-4
    )
