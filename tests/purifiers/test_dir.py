"""DIR: masks, fusion, both objectives by hand, and the attacks that know its masks."""

from __future__ import annotations

import copy
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from art_ext.attacks import ascent, cross_entropy, straight_through_clamp
from art_ext.nn import seeded
from art_ext.purifiers import DIR
from art_ext.purifiers.dir import DIRPretraining, DIRRestoration, per_mask_restorations, representation_attack
from art_ext.purifiers.dir.objective import divergence
from art_ext.training import Batches, fit


@pytest.fixture
def purifier() -> DIR:
    return DIR(**DIR.small)


@pytest.fixture
def target() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(288, 4)).eval()


@pytest.fixture
def x() -> Tensor:
    return torch.rand(5, 3, 8, 12)


Y = torch.arange(5) % 4


@pytest.mark.parametrize("masking", ["tokens", "pixels"])
def test_what_is_hidden_changes_nothing(masking: str, x: Tensor) -> None:
    purifier = DIR(**DIR.small, masking=masking)
    hidden = purifier.hidden(x)[0]
    other = x.clone()
    # Patches of 2 x 2 in 4 rows of 6: overwrite those that are hidden.
    where = hidden.view(5, 1, 4, 6).repeat_interleave(2, 2).repeat_interleave(2, 3).expand_as(x)
    other[where] = torch.rand(int(where.sum()))
    with torch.no_grad():
        assert torch.allclose(purifier.network(x, hidden), purifier.network(other, hidden), atol=1e-6)
        other[~where] = 0.5
        assert not torch.allclose(purifier.network(x, hidden), purifier.network(other, hidden), atol=1e-3)


def test_masks_are_complementary_and_new_for_every_image_and_call(purifier: DIR, x: Tensor) -> None:
    first, second = purifier.hidden(x)
    assert torch.equal(first, ~second)
    assert len({tuple(row) for row in first.tolist()}) == 5
    assert not torch.equal(purifier.hidden(x)[0], first)


def test_fusion_is_the_mean_of_the_restorations(purifier: DIR, x: Tensor) -> None:
    with torch.no_grad(), seeded(3):
        purified = purifier(x)
    with torch.no_grad(), seeded(3):
        one, two = (purifier.network(x, mask) for mask in purifier.hidden(x))
    assert torch.allclose(purified, ((one + two) / 2).clamp(0, 1), atol=1e-6)
    with seeded(3):
        restored, hidden = purifier.restorations(x)
    assert torch.allclose(restored[1], two.clamp(0, 1), atol=1e-6)
    assert hidden.shape == (2, 5, 24)


def test_more_draws_vary_less(x: Tensor) -> None:
    torch.manual_seed(2)
    single, many = DIR(**DIR.small), DIR(**DIR.small, draws=16)
    many.load_state_dict(single.state_dict())
    with torch.no_grad():
        spreads = [torch.stack([p.purify(x) for _ in range(20)]).std(0).mean() for p in (single, many)]
    assert float(spreads[1] / spreads[0]) == pytest.approx(0.25, rel=0.25)


def test_frozen_masks_are_the_same_for_every_image_call_and_batch(purifier: DIR, x: Tensor) -> None:
    purifier.set_masks(4)
    assert not purifier.stochastic
    state = torch.get_rng_state()
    with torch.no_grad():
        whole = purifier(x)
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.allclose(purifier(x[2:3]), whole[2:3], atol=1e-6)
        assert not torch.allclose(purifier.set_masks(5)(x), whole)
    assert purifier.set_masks(None).stochastic


def test_pretraining_by_hand(purifier: DIR, target: nn.Module, x: Tensor) -> None:
    objective = DIRPretraining(purifier, target, eps=0.1, steps=2)
    x_adv = objective.perturb(x, Y)
    assert float((x_adv - x).abs().max()) <= 0.1 + 1e-6
    before, after = (float(F.cross_entropy(target(v), Y).detach()) for v in (x, x_adv))
    assert after > before
    with seeded(1):
        found = objective.terms("restorer", x, x_adv, Y)["restoration"]
    with torch.no_grad(), seeded(1):
        masks = purifier.hidden(x_adv)
        expected = sum((purifier.network(x_adv, mask) - x).square().mean() for mask in masks)
    assert found.item() == pytest.approx(float(expected), rel=1e-5)
    assert objective.perturb(x, None).shape == x.shape  # the target's own answers


def test_restoration_by_hand(purifier: DIR, target: nn.Module, x: Tensor) -> None:
    objective = DIRRestoration(purifier, target, eps=0.1, steps=2, alpha=3.0)
    with seeded(1):
        found = objective.terms("restorer", x, x, Y)
    with torch.no_grad(), seeded(1):
        restored = purifier.fused(x, purifier.hidden(x)).clamp(0, 1)
        logits = target(restored)
    with seeded(1):
        purifier.hidden(x)
        delta = objective.worst(restored)
    ours, theirs = logits.log_softmax(1), target(restored + delta).log_softmax(1).detach()
    assert found["adversarial"].item() == pytest.approx(float(F.cross_entropy(logits, Y)), rel=1e-5)
    kl = (ours.exp() * (ours - theirs)).sum(1).mean()
    assert found["representation"].item() == pytest.approx(3 * float(kl), rel=1e-4)
    assert set(DIRRestoration(purifier, target, alpha=0).terms("restorer", x, x, Y)) == {"adversarial"}


def test_divergence_by_hand() -> None:
    # p = (3/4, 1/4), q = (1/2, 1/2): 3/4 log 3/2 + 1/4 log 1/2
    p, q = torch.tensor([[3.0, 1.0]]).log(), torch.zeros(1, 2)
    expected = 0.75 * math.log(1.5) - 0.25 * math.log(2)
    assert float(divergence(p, q)) == pytest.approx(expected, rel=1e-5)


def test_delta_is_projected_and_worse_than_chance(purifier: DIR, target: nn.Module, x: Tensor) -> None:
    objective = DIRRestoration(purifier, target, radius=0.05, radius_steps=3)
    delta = objective.worst(x)
    assert float(delta.abs().max()) == pytest.approx(0.05)
    by_chance = 0.05 * torch.randn_like(x).sign()
    with torch.no_grad():
        found, chance = (divergence(target(x), target(x + d)).mean() for d in (delta, by_chance))
    assert float(found) > 5 * float(chance)


def test_both_sides_of_the_divergence_reach_the_restorer(purifier: DIR, target: nn.Module, x: Tensor) -> None:
    objective = DIRRestoration(purifier, target, eps=0.1)
    seen: list[Tensor] = []
    target.register_forward_hook(lambda _, inputs, out: seen.append(inputs[0]))
    objective.terms("restorer", x, x, Y)
    assert [v.requires_grad for v in (seen[0], seen[-1])] == [True, True]
    (gradient,) = torch.autograd.grad(seen[-1].sum(), seen[0], allow_unused=True)
    assert torch.equal(gradient, torch.ones_like(x))  # delta itself carries none


@pytest.mark.parametrize("joint", [False, True])
def test_the_target_moves_only_when_asked_to(purifier: DIR, target: nn.Module, x: Tensor, joint: bool) -> None:
    before = copy.deepcopy(target.state_dict())
    objective = DIRRestoration(purifier, target, eps=0.1, steps=1, joint=joint)
    list(fit(objective, Batches(x, Y, batch_size=5), epochs=1))
    assert all(torch.equal(v, before[k]) for k, v in target.state_dict().items()) is not joint
    assert any(k.startswith("target") for k in objective.trained_state()) is joint


def test_training_attacks_the_whole_pipeline(purifier: DIR, target: nn.Module, x: Tensor) -> None:
    calls: list[int] = []
    purifier.register_forward_hook(lambda *_: calls.append(1))
    DIRRestoration(purifier, target, eps=0.1, steps=3).perturb(x, Y)
    assert len(calls) == 3
    with pytest.raises(ValueError, match="labels"):
        DIRRestoration(purifier, target).perturb(x, None)


def test_eq_8_sums_the_losses_of_the_known_masks(purifier: DIR, target: nn.Module, x: Tensor) -> None:
    purifier.set_masks(1).requires_grad_(False)
    gradient = purifier.own_attacks(target, x, Y)["eq8"]
    masks = purifier.hidden(x)

    def model(v: Tensor, mask: Tensor) -> Tensor:
        return target(straight_through_clamp(purifier.network(v, mask)))

    parts = [ascent(cross_entropy(partial(model, mask=mask), Y))(x) for mask in masks]
    found = gradient(x)
    assert not torch.allclose(parts[0], parts[1], atol=1e-6)
    assert torch.allclose(found, sum(parts), atol=1e-6)
    again = gradient(x.repeat(2, 1, 1, 1))
    assert torch.allclose(again[:5], found, atol=1e-6)
    assert torch.allclose(again[5:], found, atol=1e-6)


def test_diagnostics_are_at_least_as_strong_as_what_they_bound(purifier: DIR, target: nn.Module, x: Tensor) -> None:
    purifier.set_masks(1).requires_grad_(False)
    with torch.no_grad():
        restored = purifier(x)
        y = target(restored).argmax(1)
    loss = F.cross_entropy(target(restored), y).item()
    for found in (
        per_mask_restorations(purifier, target, x, y, eps=0.2, steps=10),
        representation_attack(purifier, target, x, y, eps=0.2, steps=10),
    ):
        assert found.shape == x.shape
        assert float(found.min()) >= 0
        assert float(found.max()) <= 1
        assert F.cross_entropy(target(found), y).item() > loss
    assert float((representation_attack(purifier, target, x, y, eps=0.2) - restored).abs().max()) <= 0.2 + 1e-6


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"width": 10, "heads": 2}, "multiple of 4"),
        ({"width": 12, "heads": 5}, "heads"),
        ({"ratio": 1.0}, "ratio"),
        ({"masking": "rows"}, "rows"),
        ({"masks": 0}, "masks"),
        ({"depth": -1}, "depth"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        DIR(**{**DIR.small, **arguments})


def test_bad_objectives_and_sizes(purifier: DIR, target: nn.Module) -> None:
    for options in ({"eps": 0.0}, {"steps": 0}, {"alpha": -1.0}, {"radius_steps": 0}):
        with pytest.raises(ValueError, match="expected"):
            DIRRestoration(purifier, target, **options)
    with pytest.raises(ValueError, match="multiples of the patch"):
        purifier(torch.rand(1, 3, 9, 12))
    with pytest.raises(ValueError, match="target classifier"):
        purifier.stages(None)
