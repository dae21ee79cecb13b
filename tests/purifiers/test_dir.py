"""DIR: masks, fusion, both objectives by hand, and the attacks that know its masks."""

from __future__ import annotations

import copy
import math
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from art_ext.attacks import L2, ascent, cross_entropy, straight_through_clamp
from art_ext.nn import seeded
from art_ext.objectives import DIRPretraining, DIRRestoration
from art_ext.objectives.dir import divergence
from art_ext.purifiers import DIR
from art_ext.purifiers.dir import per_mask_restorations, representation_attack, share_discarded, slopes
from art_ext.training import Batches, fit
from art_ext.training.identity import identity_of


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


@pytest.mark.parametrize("masking", ["tokens", "pixels"])
def test_an_odd_number_of_patches_is_complementary_too(masking: str) -> None:
    """28 x 28 in patches of 4 has 49: masks hide 24 and 25."""
    purifier, x = DIR(1, 4, 8, 2, 1, 1, masking=masking), torch.rand(3, 1, 28, 28)
    first, second = purifier.hidden(x)
    assert torch.equal(first, ~second)
    assert sorted((int(first[0].sum()), int(second[0].sum()))) == [24, 25]
    assert purifier(x).shape == x.shape


def test_masks_come_from_the_ambient_generator(purifier: DIR, x: Tensor) -> None:
    with seeded(3):
        first = purifier.hidden(x)
    with seeded(3):
        assert torch.equal(purifier.hidden(x), first)


@pytest.mark.parametrize("draws", [0, 1.5, "2"])
def test_draws_are_set_and_saved(purifier: DIR, tmp_path: Path, draws: object) -> None:
    purifier.set_draws(3).save_pretrained(tmp_path)
    assert DIR.from_pretrained(tmp_path).draws == 3
    with pytest.raises(ValueError, match=f"draws.*got {draws!r}"):
        purifier.set_draws(draws)
    assert purifier.draws == 3


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
    several = DIR(**DIR.small, draws=2).set_masks(4)
    assert not torch.equal(several.hidden(x, 0), several.hidden(x, 1))  # each draw its own, or there would be one
    assert torch.equal(several(x), several(x))


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


def test_pretraining_adversaries_are_made_against_the_target_alone(purifier: DIR, target: nn.Module, x: Tensor) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the purifier was run")

    purifier.network.register_forward_pre_hook(never)
    objective = DIRPretraining(purifier, target, eps=0.1, steps=3)
    with seeded(2):
        found = objective.perturb(x, Y)
    with seeded(2):
        # By hand: a uniform start, then 3 signs of 1.25 * 0.1 / 3, kept within 0.1 and [0, 1].
        x_adv = (x + torch.empty_like(x).uniform_(-0.1, 0.1)).clamp(0, 1)
    for _ in range(3):
        x_adv = x_adv.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(target(x_adv), Y, reduction="sum"), x_adv)
        x_adv = (x + (x_adv + 0.125 / 3 * gradient.sign() - x).clamp(-0.1, 0.1)).clamp(0, 1)
    assert torch.allclose(found, x_adv, atol=1e-6)


def test_pretraining_does_not_ask_the_target(purifier: DIR, x: Tensor) -> None:
    """Eq. 2 compares pixels: the loss is the same whatever the target, and reaches every weight of the network."""
    losses = []
    for _ in range(2):
        with seeded(1):
            losses.append(DIRPretraining(purifier, nn.Linear(1, 1)).terms("restorer", x, 0.9 * x, Y)["restoration"])
    assert torch.equal(losses[0], losses[1])
    gradients = torch.autograd.grad(losses[0], list(purifier.parameters()), allow_unused=True)
    assert all(g is not None and g.abs().max() > 0 for g in gradients)


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


def test_delta_in_another_norm(purifier: DIR, target: nn.Module, x: Tensor) -> None:
    objective = DIRRestoration(purifier, target, eps=1.5, radius=0.5, norm=L2())
    assert L2().size(objective.worst(x)).tolist() == pytest.approx([0.5] * 5, rel=1e-5)
    size = L2().size(objective.perturb(x, Y) - x)
    assert float(size.max()) <= 1.5 + 1e-5
    assert float(size.min()) > 0.5


def test_each_loss_reaches_the_restorer_and_delta_is_a_constant(purifier: DIR, target: nn.Module, x: Tensor) -> None:
    """By hand with a linear target: d KL(p || q) / d restoration has a part through p and a part through q."""
    objective = DIRRestoration(purifier, target, eps=0.1, radius=0.3, alpha=1.0)
    restored = torch.rand(5, 3, 8, 12).requires_grad_()
    purifier.parts = lambda *_: restored[None]  # type: ignore[method-assign]
    with seeded(1):
        found = objective.terms("restorer", x, x, Y)
    with seeded(1):
        purifier.hidden(x)
        delta = objective.worst(restored.detach())
    weight = target[1].weight.detach()
    p, q = (target(v).softmax(1).detach() for v in (restored, restored + delta))
    log_ratio = p.log() - q.log()
    # dKL/d logits of p: p * (log(p/q) - KL); of q: q - p
    kl = (p * log_ratio).sum(1, keepdim=True)
    expected = ((p * (log_ratio - kl) + q - p) @ weight / 5).view_as(x)
    (gradient,) = torch.autograd.grad(found["representation"], restored, retain_graph=True)
    assert torch.allclose(gradient, expected, atol=1e-7, rtol=1e-4)
    (gradient,) = torch.autograd.grad(found["adversarial"], restored)
    assert torch.allclose(gradient, ((p - F.one_hot(Y, 4)) @ weight / 5).view_as(x), atol=1e-7, rtol=1e-4)


def test_both_sides_of_the_divergence_reach_the_restorer(purifier: DIR, target: nn.Module, x: Tensor) -> None:
    objective = DIRRestoration(purifier, target, eps=0.1)
    seen: list[Tensor] = []
    target.register_forward_hook(lambda _, inputs, out: seen.append(inputs[0]))
    objective.terms("restorer", x, x, Y)
    assert [v.requires_grad for v in (seen[0], seen[-1])] == [True, True]
    (gradient,) = torch.autograd.grad(seen[-1].sum(), seen[0], allow_unused=True)
    assert torch.equal(gradient, torch.ones_like(x))  # delta itself carries none


@pytest.mark.parametrize("per_mask", [False, True])
def test_the_pixel_term_is_that_of_the_mean_or_of_each_mask(
    purifier: DIR, target: nn.Module, x: Tensor, per_mask: bool
) -> None:
    assert "restoration" not in DIRRestoration(purifier, target).terms("restorer", x, x, Y)
    objective = DIRRestoration(purifier, target, pixel=3.0, alpha=0.0, per_mask=per_mask)
    purifier.parts = lambda *_: torch.stack([x, torch.zeros_like(x)]).requires_grad_()  # type: ignore[method-assign]
    found = objective.terms("restorer", x, torch.rand_like(x), Y)
    square = float(x.square().mean())
    expected = 3 * (0 + square) / 2 if per_mask else 3 * square / 4  # the mean of x and 0 is x / 2
    assert found["restoration"].item() == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match=r"alpha, pixel >= 0 .* -1"):
        DIRRestoration(purifier, target, pixel=-1)


def test_the_target_sees_restorations_clamped_as_at_inference(purifier: DIR, target: nn.Module, x: Tensor) -> None:
    outside = (4 * x - 1.5).requires_grad_()
    purifier.parts = lambda *_: outside[None]  # type: ignore[method-assign]
    seen: list[Tensor] = []
    target.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    DIRRestoration(purifier, target, alpha=0.0).terms("restorer", x, x, Y)["adversarial"].backward()
    assert torch.equal(seen[0], outside.clamp(0, 1))
    assert outside.grad is not None
    held = (outside < 0) | (outside > 1)
    assert bool(held.any())
    assert bool((outside.grad == 0)[held].all())  # nothing pushes a pixel further out
    assert bool((outside.grad != 0)[~held].all())


@pytest.mark.parametrize("joint", [False, True])
def test_the_target_moves_only_when_asked_to(purifier: DIR, target: nn.Module, x: Tensor, joint: bool) -> None:
    before = copy.deepcopy(target.state_dict())
    objective = DIRRestoration(purifier, target, eps=0.1, steps=1, joint=joint)
    list(fit(objective, Batches(x, Y, batch_size=5), epochs=1))
    assert all(torch.equal(v, before[k]) for k, v in target.state_dict().items()) is not joint
    assert any(k.startswith("target") for k in objective.trained_state()) is joint


def test_joint_training_has_the_released_rates_and_attacks_in_eval_mode(purifier: DIR, x: Tensor) -> None:
    target = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(120, 4))
    objective = DIRRestoration(purifier, target, eps=0.1, steps=2, joint=True)
    (parameters,) = objective.players().values()
    groups = objective.optimizer("restorer", parameters).param_groups
    assert [(len(g["params"]), g["lr"]) for g in groups] == [(len(list(purifier.parameters())), 5e-5), (6, 0.1)]
    modes = []
    target.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    objective.train()
    x_adv = objective.perturb(x, Y)
    assert modes == [False, False]
    objective.terms("restorer", x, x_adv, Y)
    assert modes[2:] == [True, *[False] * 6, True]  # the losses' two passes; h(x~) and 5 steps between them
    assert all(m.training for m in objective.modules())
    assert int(target[1].num_batches_tracked) == 1  # not those at x~ + delta


def test_settings_reach_both_stages(purifier: DIR, target: nn.Module) -> None:
    first, second = purifier.stages(target, eps=0.2, steps=3, pretraining_rate=0.125, learning_rate=0.25)
    assert isinstance(first, DIRPretraining)
    assert isinstance(second, DIRRestoration)
    assert [(s.eps, s.steps) for s in (first, second)] == [(0.2, 3)] * 2
    assert (first.learning_rate, second.learning_rate) == (0.125, 0.25)
    assert second.radius == 0.2
    with pytest.raises(ValueError, match=r"eps in \(0, 1\]"):
        purifier.stages(target, eps=2)


def test_the_papers_optimisers(purifier: DIR, target: nn.Module) -> None:
    pretraining, restoration = purifier.stages(target)
    one = pretraining.optimizer("restorer", pretraining.players()["restorer"])
    assert isinstance(one, torch.optim.AdamW)
    assert one.defaults["lr"] == 1.5e-4
    restoration.learning_rate = 0.02
    two = restoration.optimizer("restorer", restoration.players()["restorer"])
    assert isinstance(two, torch.optim.SGD)
    assert [(g["lr"], g["momentum"], g["weight_decay"]) for g in two.param_groups] == [(0.02, 0.9, 2e-4)]
    assert DIRRestoration(purifier, target).learning_rate == 1e-2


@pytest.mark.parametrize(("shared", "different"), [(True, 1), (False, 4)])
def test_attack_and_losses_share_the_masks_of_a_step(
    purifier: DIR, target: nn.Module, x: Tensor, shared: bool, different: int
) -> None:
    """Algorithm 1 draws them once a step, the released code for each step of the attack and once more."""
    used: list[Tensor] = []
    purifier.network.register_forward_pre_hook(lambda _, given: used.append(given[1]))
    objective = DIRRestoration(purifier, target, eps=0.1, steps=3, alpha=0.0, shared_masks=shared)
    for copies in (1, 8):  # 40 images are more than one piece of a gradient
        used.clear()
        many, labels = x.repeat(copies, 1, 1, 1), Y.repeat(copies)
        x_adv = objective.perturb(many, labels)
        objective.terms("restorer", many, x_adv, labels)
        assert len(used) == 2 * 4  # 2 masks, 3 steps and the losses
        assert len({tuple(mask.flatten().tolist()) for mask in used[::2]}) == different
    with pytest.raises(ValueError, match="labels"):
        DIRRestoration(purifier, target).perturb(x, None)


def test_the_masks_of_a_step_are_no_setting_of_the_training(purifier: DIR, target: nn.Module, x: Tensor) -> None:
    objective = DIRRestoration(purifier, target, eps=0.1, steps=1)
    before = identity_of(objective, None, {}, [])
    objective.perturb(x, Y)
    assert objective.masks is not None
    assert identity_of(objective, None, {}, []) == before
    assert "shared_masks" in before


def test_losses_tell_a_restorer_that_is_worse_than_nothing(purifier: DIR, target: nn.Module, x: Tensor) -> None:
    objective = DIRRestoration(purifier, target, eps=0.1, steps=3)
    objective.perturb(x, Y)
    kept = objective.masks
    purifier.parts = lambda v, hidden: v[None]  # type: ignore[method-assign]
    with seeded(0):
        same = objective.adversarial_losses(x, Y)
    assert same["pipeline"] == pytest.approx(same["target alone"], rel=0.05)  # other random starts
    clean = float(F.cross_entropy(target(x), Y).detach())
    assert same["target alone"] > clean
    purifier.parts = lambda v, hidden: x[None] + 0 * v  # type: ignore[method-assign]
    perfect = objective.adversarial_losses(x, Y)
    assert perfect["pipeline"] == pytest.approx(clean, rel=1e-5)
    assert objective.masks is kept


def test_slopes_and_what_is_discarded_by_hand(purifier: DIR, x: Tensor) -> None:
    """The identity in two halves, twice what is seen and nothing for the rest; and half of each image, seen or not."""

    def seen_twice(v: Tensor, hidden: Tensor) -> Tensor:
        shown = (~hidden).view(2, 5, 1, 4, 6).repeat_interleave(2, 3).repeat_interleave(2, 4)
        return 2 * v * shown

    purifier.parts = seen_twice  # type: ignore[method-assign]
    assert slopes(purifier, x) == pytest.approx({"seen": 2.0, "hidden": 0.0}, abs=1e-5)
    x_adv = (x + 0.1 * torch.randn_like(x).sign()).clamp(0, 1)
    assert share_discarded(purifier, x, x_adv) == pytest.approx(0.0, abs=1e-5)
    purifier.parts = lambda v, _: (0.5 * v + 0.25).expand(2, *v.shape)  # type: ignore[method-assign]
    assert slopes(purifier, x) == pytest.approx({"seen": 0.5, "hidden": 0.5}, abs=1e-5)
    assert share_discarded(purifier, x, x_adv) == pytest.approx(0.5, abs=1e-5)


def test_eq_8_sums_the_losses_of_the_known_masks(purifier: DIR, target: nn.Module, x: Tensor) -> None:
    purifier.set_masks(1).requires_grad_(False)
    gradient = purifier.adaptive_attacks(target, x, Y)["eq8"]
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


def test_diagnostics_raise_the_loss_inside_their_ball(purifier: DIR, target: nn.Module, x: Tensor) -> None:
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


def test_each_mask_is_attacked_on_its_own_in_steps_of_the_given_size(
    purifier: DIR, target: nn.Module, x: Tensor
) -> None:
    seen: list[tuple[Tensor, Tensor]] = []
    purifier.set_masks(1).network.register_forward_pre_hook(lambda _, given: seen.append(given))
    per_mask_restorations(purifier, target, x, Y, eps=0.2, steps=2, step_size=0.01)
    first, second = purifier.hidden(x)
    # Two gradients and the restoration of each mask.
    assert [torch.equal(mask, first) for _, mask in seen] == [True] * 3 + [False] * 3
    assert all(torch.equal(mask, second) for _, mask in seen[3:])
    for at in (0, 1, 3, 4):
        assert float((seen[at + 1][0] - seen[at][0]).detach().abs().max()) == pytest.approx(0.01, rel=1e-4)


def test_eq_9_takes_steps_of_the_given_size(purifier: DIR, target: nn.Module, x: Tensor) -> None:
    purifier.set_masks(1).requires_grad_(False)
    seen: list[Tensor] = []
    target.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    found = representation_attack(purifier, target, x, Y, eps=0.2, steps=2, step_size=0.01)
    for one, two in pairwise([*seen, found]):
        assert float((two - one).abs().max()) == pytest.approx(0.01, rel=1e-4)


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
