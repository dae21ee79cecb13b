"""Gradients by hand: losses, BPDA, EOT, frozen noise, and the traces that they must not leave."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from art_ext.attacks import (
    Linf,
    Loss,
    ascent,
    bpda,
    cross_entropy,
    dlr,
    dlr_targeted,
    eot,
    feature,
    frozen_noise,
    logit_margin,
    margin,
    pgd,
    straight_through_clamp,
)

LOGITS = torch.tensor([[1.0, 3.0, -2.0], [-5.0, -1.0, -3.0]])
Y = torch.tensor([0, 1])
SHAPE = (2, 1, 3, 4)  # N, C, H, W


def fixed(x: Tensor) -> Tensor:
    """LOGITS, one row a sample."""
    return LOGITS.repeat(len(x) // 2, 1)


class Counter:
    """Logits (0, factor * x) of images (k * 2, 1, 1, 1); the factor of the n-th draw ever made is factors[n]."""

    def __init__(self, factors: Sequence[float]) -> None:
        self.factors, self.drawn, self.sizes = torch.tensor(factors), 0, []

    def __call__(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        copies = len(x) // 2
        factor = self.factors[self.drawn : self.drawn + copies].repeat_interleave(2)
        self.drawn += copies
        one = factor * x.flatten()
        return torch.stack([torch.zeros_like(one), one], 1)


def test_cross_entropy_by_hand() -> None:
    x = torch.zeros(SHAPE)
    # log(e^1 + e^3 + e^-2) - 1 = log(2.718282 + 20.085537 + 0.135335) - 1 = log(22.939154) - 1
    # log(e^-5 + e^-1 + e^-3) + 1 = log(0.006738 + 0.367879 + 0.049787) + 1 = log(0.424404) + 1
    first, second = math.log(22.939154) - 1, math.log(0.424404) + 1  # 2.13285, 0.14293
    assert cross_entropy(fixed, Y)(x).tolist() == pytest.approx([first, second], rel=1e-5)
    assert cross_entropy(fixed, Y, targeted=True)(x).tolist() == pytest.approx([-first, -second], rel=1e-5)


def test_margin_by_hand() -> None:
    x = torch.zeros(SHAPE)
    # Label 0: 3 - 1, misclassified, positive. Label 1: -3 - (-1), right, negative.
    assert margin(fixed, Y)(x).tolist() == [2, -2]
    assert margin(fixed, Y, targeted=True)(x).tolist() == [-2, 2]


def test_logit_margin_of_negative_logits() -> None:
    logits = torch.tensor([[-5.0, -1.0, -3.0]] * 3)
    # The largest other logit is -1, -3, -1; a mask by zero in place of -inf would win with 0.
    assert logit_margin(logits, torch.tensor([0, 1, 2])).tolist() == [-1 + 5, -3 + 1, -1 + 3]


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("loss", [cross_entropy, margin])
def test_the_ascent_leads_away_from_y_or_towards_the_target(loss: object, targeted: bool) -> None:
    def model(x: Tensor) -> Tensor:  # logits (0, x): the larger the image, the more class 1
        return torch.stack([torch.zeros(len(x)), x.flatten()], 1)

    x = torch.zeros(2, 1, 1, 1)
    signs = ascent(loss(model, Y, targeted=targeted))(x).sign().flatten().tolist()  # type: ignore[operator]
    assert signs == ([-1, 1] if targeted else [1, -1])


def test_gradients_by_hand() -> None:
    def model(x: Tensor) -> Tensor:
        return torch.stack([torch.zeros(len(x)), 3 * x.flatten()], 1)

    x = torch.zeros(2, 1, 1, 1)
    # Margins 3x - 0 and 0 - 3x. Cross-entropy at p = 1/2 each: 3 * (p - 0) and 3 * (p - 1). No 1 / N anywhere.
    assert ascent(margin(model, Y))(x).flatten().tolist() == [3, -3]
    assert ascent(cross_entropy(model, Y))(x).flatten().tolist() == pytest.approx([1.5, -1.5])


def test_feature_distance_by_hand() -> None:
    x = torch.tensor([[0.0, 1.0], [0.5, 0.5]]).view(2, 1, 1, 2)
    loss = feature(lambda v: 2 * v, x)
    # Twice the shift: (0.2, 0) squared, mean 0.02; (0.4, 0.4) squared, mean 0.16.
    moved = x + torch.tensor([[0.1, 0.0], [0.2, 0.2]]).view(2, 1, 1, 2)
    assert loss(moved).tolist() == pytest.approx([0.02, 0.16])
    assert loss(moved.repeat(3, 1, 1, 1)).tolist() == pytest.approx([0.02, 0.16] * 3)  # copies keep their original
    # d/dx mean((2 * shift)^2) = 8 * shift / 2: (0.4, 0), (0.8, 0.8); zero at the original itself.
    assert ascent(loss)(moved).flatten().tolist() == pytest.approx([0.4, 0, 0.8, 0.8])
    assert ascent(loss)(x).count_nonzero() == 0


def test_feature_distance_through_a_purifier_by_hand() -> None:
    x = torch.tensor([[0.0, 1.0], [0.5, 0.5]]).view(2, 1, 1, 2)
    loss = feature(lambda v: 2 * v, x, through=lambda v: v / 2)
    # 2 * (x / 2) - 2 * x = -x, squared (0, 1), (0.25, 0.25): mean 0.5, 0.25. The original is not purified (else 0).
    assert loss(x).tolist() == pytest.approx([0.5, 0.25])
    # d/dv mean((v - 2 x)^2) at v = x is (v - 2 x) = -x: through the purifier, whose slope 1/2 cancels F's 2.
    assert ascent(loss)(x).flatten().tolist() == pytest.approx([0, -1, -0.5, -0.5])


def test_each_image_follows_its_own_label_also_when_tiled() -> None:
    weight = torch.randn(3, 12)

    def model(x: Tensor) -> Tensor:
        return x.flatten(1) @ weight.T

    x, y = torch.rand(SHAPE), torch.tensor([2, 0])
    for loss in (cross_entropy, margin):
        alone = torch.cat([ascent(loss(model, y[i : i + 1]))(x[i : i + 1]) for i in range(2)])
        assert not torch.allclose(alone[0], alone[1])
        torch.testing.assert_close(ascent(loss(model, y))(x), alone)
        torch.testing.assert_close(ascent(loss(model, y))(x.repeat(3, 1, 1, 1)), alone.repeat(3, 1, 1, 1))


@pytest.mark.parametrize("n", [1, 3, 5])
def test_a_batch_that_is_no_multiple_of_the_labels_is_refused(n: int) -> None:
    x = torch.rand(2, 1, 3, 4)
    losses: list[Loss] = [cross_entropy(fixed, Y), margin(fixed, Y), feature(lambda v: v, x)]
    for loss in losses:
        with pytest.raises(ValueError, match=f"expected a multiple of the 2 images .*, got {n}"):
            loss(torch.rand(n, 1, 3, 4))


def test_no_images() -> None:
    x = torch.zeros(0, 1, 3, 4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    y = torch.zeros(0, dtype=torch.long)
    for loss in (cross_entropy(model, y), margin(model, y), feature(model, x), cross_entropy(model, Y)):
        for gradient in (ascent(loss), eot(ascent(loss), 3, at_once=2)):
            assert gradient(x).shape == x.shape


def test_bpda_has_the_value_of_one_and_the_gradient_of_the_other() -> None:
    def rounding(x: Tensor) -> Tensor:
        return (x * 4).round() / 4

    x = torch.rand(SHAPE).requires_grad_()
    for surrogate, slope in ((None, 1.0), (lambda v: 3 * v, 3.0), (lambda v: 1e6 * v, 1e6)):
        out = bpda(rounding, surrogate)(x)
        assert torch.equal(out, rounding(x))  # exact, however large the surrogate's values are
        assert torch.equal(torch.autograd.grad(out.sum(), x)[0], torch.full_like(x, slope))


def test_bpda_always_runs_the_real_forward_and_never_differentiates_it() -> None:
    calls: list[bool] = []

    def real(x: Tensor) -> Tensor:
        calls.append(torch.is_grad_enabled())
        return x * 0.5  # its slope would show

    surrogate: list[int] = []

    def stand_in(x: Tensor) -> Tensor:
        surrogate.append(len(x))
        return 2 * x

    gradient = ascent(lambda v: bpda(real, stand_in)(v).flatten(1).sum(1))
    assert torch.equal(gradient(torch.rand(SHAPE)), torch.full(SHAPE, 2.0))
    assert calls == [False]  # once, without a graph
    with torch.no_grad():
        bpda(real, stand_in)(torch.rand(SHAPE))
        bpda(real)(torch.rand(SHAPE))
    assert calls == [False] * 3
    assert surrogate == [2, 2]


@pytest.mark.parametrize(
    ("at_once", "sizes"),
    [
        (None, [10]),
        (4, [4, 4, 2]),  # two copies, two copies, the last one
        (5, [4, 4, 2]),  # half an image does not count
        (100, [10]),
        (1, [2] * 5),  # never less than the images themselves
    ],
)
def test_eot_is_the_mean_over_draws_each_with_its_own_label(at_once: int | None, sizes: list[int]) -> None:
    model = Counter([1, 2, 3, 4, 6])
    found = eot(ascent(margin(model, Y)), 5, at_once=at_once)(torch.rand(2, 1, 1, 1))
    # Slopes of the margin: + factor for label 0, - factor for label 1. Mean of 1, 2, 3, 4, 6: 16 / 5.
    assert found.flatten().tolist() == pytest.approx([3.2, -3.2])
    assert model.sizes == sizes
    assert model.drawn == 5


def test_eot_keeps_the_images_apart() -> None:
    x = torch.rand(3, 2, 4, 5)
    for at_once in (None, 6, 7, 1):  # the gradient here is the images themselves, so their mean over copies is they
        torch.testing.assert_close(eot(lambda v: v.clone(), 4, at_once=at_once)(x), x)


def test_eot_of_one_draw_is_the_gradient_itself() -> None:
    gradient = ascent(cross_entropy(fixed, Y))
    assert eot(gradient, 1) is gradient
    assert eot(gradient, 1, at_once=1) is gradient
    for samples in (0, -1):
        with pytest.raises(ValueError, match=f"expected eot_samples >= 1, got {samples}"):
            eot(gradient, samples)


def test_eot_averages_noise_away() -> None:
    x = torch.zeros(SHAPE)
    spread = [float(eot(torch.randn_like, draws)(x).std()) for draws in (1, 400)]
    assert spread[1] < spread[0] / 5  # 1 / sqrt(400) = 1 / 20 in expectation


def test_frozen_noise_repeats_itself_and_leaves_the_ambient_generator() -> None:
    x = torch.zeros(SHAPE)
    before = torch.get_rng_state()
    frozen = frozen_noise(torch.randn_like, 7)
    first = frozen(x)
    assert torch.equal(torch.get_rng_state(), before)
    torch.randn(3)  # the draw does not depend on the ambient state
    assert torch.equal(frozen(x), first)
    torch.manual_seed(7)
    assert torch.equal(torch.randn_like(x), first)  # the seed is used as it is
    assert not torch.equal(frozen_noise(torch.randn_like, 8)(x), first)
    # Frozen draws under EOT are still different draws: one seed for the batch of all copies.
    draws = []
    frozen_noise(eot(lambda v: draws.append(torch.randn_like(v)) or draws[-1], 2), 7)(x)
    assert not torch.equal(draws[0][:2], draws[0][2:])


def test_frozen_noise_leaves_the_ambient_generator_also_on_an_error() -> None:
    def broken(x: Tensor) -> Tensor:
        raise KeyError(float(torch.rand(1)))

    before = torch.get_rng_state()
    with pytest.raises(KeyError):
        frozen_noise(broken, 7)(torch.zeros(SHAPE))
    assert torch.equal(torch.get_rng_state(), before)


def test_straight_through_clamp() -> None:
    x = torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0]).requires_grad_()
    out = straight_through_clamp(x)
    assert out.tolist() == [0, 0, 0.5, 1, 1]
    assert torch.autograd.grad(out.sum(), x)[0].tolist() == [1] * 5


def test_no_trace_in_the_model() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(), nn.Flatten(), nn.Linear(24, 3))
    model[0].requires_grad_(False)
    model[1].eval()
    model[4].weight.grad = torch.full((3, 24), 7.0)  # a training step is half done
    state = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.rand(2, 1, 5, 6)
    for loss in (cross_entropy(model, Y), margin(model, Y), feature(model, x)):
        gradient = frozen_noise(eot(ascent(loss), 3, at_once=4), 1)
        with torch.no_grad():  # also where the caller switched gradients off
            found = gradient(x)
        assert not found.requires_grad
        assert found.count_nonzero() > 0
        pgd(gradient, x, norm=Linf(), eps=0.1, steps=2, score=loss)
    assert [p.grad is None for p in model.parameters()] == [True, True, True, True, False, True]
    assert model[4].weight.grad.unique().tolist() == [7]
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True, True, True]
    assert [m.training for m in model.modules()] == [True, True, False, True, True, True]
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not x.requires_grad
    assert x.grad is None


def test_dlr_by_hand() -> None:
    x = torch.zeros(SHAPE)
    # Label 0 of (1, 3, -2): (3 - 1) / (3 + 2). Label 1 of (-5, -1, -3): (-3 + 1) / (-1 + 5).
    assert dlr(fixed, Y)(x).tolist() == pytest.approx([0.4, -0.5])
    assert dlr(fixed, Y, targeted=True)(x).tolist() == pytest.approx([-0.4, 0.5])
    assert dlr(fixed, Y)(x.repeat(3, 1, 1, 1)).tolist() == pytest.approx([0.4, -0.5] * 3)
    assert dlr(lambda v: 100 * fixed(v) - 7, Y)(x).tolist() == pytest.approx([0.4, -0.5])  # neither scale nor shift


def test_targeted_dlr_by_hand() -> None:
    logits = torch.tensor([[4.0, 1.0, 3.0, -1.0, -9.0], [0.0, 8.0, 2.0, 6.0, -2.0]])

    def model(x: Tensor) -> Tensor:
        return logits.repeat(len(x) // 2, 1)

    x, y = torch.zeros(SHAPE), torch.tensor([0, 4])
    expected = [(3 - 4) / (4 - (1 - 1) / 2), (8 + 2) / (8 - (2 + 0) / 2)]  # -0.25, 10 / 7
    assert dlr_targeted(model, y, torch.tensor([2, 1]))(x).tolist() == pytest.approx(expected)
    copies = dlr_targeted(lambda v: 3 * model(v) + 1, y, torch.tensor([2, 1]))(x.repeat(2, 1, 1, 1))
    assert copies.tolist() == pytest.approx(expected * 2)


@pytest.mark.parametrize("label", [0, 3])
def test_dlr_stays_finite_at_ties(label: int) -> None:
    tied = torch.tensor([[2.0, 2.0, 2.0, 0.0, 2.0]])

    def model(x: Tensor) -> Tensor:
        return tied + x.flatten(1)

    x, y = torch.zeros(1, 1, 1, 5), torch.tensor([label])
    for loss in (dlr(model, y), dlr_targeted(model, y, torch.tensor([1]))):
        assert loss(x).tolist() == [pytest.approx(2e12) if label == 3 else 0]
        gradient = ascent(loss)(x)
        assert gradient.isfinite().all()
        assert gradient.flatten()[label] < 0  # the logit of the label shall fall


def test_dlr_refuses_too_few_classes_and_a_target_that_is_the_label() -> None:
    x = torch.zeros(SHAPE)
    with pytest.raises(ValueError, match="expected at least 3 classes for dlr, got 2"):
        dlr(lambda v: fixed(v)[:, :2], Y)(x)
    with pytest.raises(ValueError, match="expected at least 4 classes for dlr_targeted, got 3"):
        dlr_targeted(fixed, Y, 1 - Y)(x)
    for target in (torch.tensor([1, 1]), torch.tensor([1])):
        with pytest.raises(ValueError, match="expected a target other than the label for each of 2 labels, got"):
            dlr_targeted(fixed, Y, target)


def test_a_large_batch_passes_in_pieces_on_a_cpu_and_gives_the_same() -> None:
    seen: list[int] = []

    def model(v: Tensor) -> Tensor:
        seen.append(len(v))
        return torch.stack([v.square().flatten(1).sum(1), v.flatten(1).sum(1)], 1)

    x, y = torch.rand(70, 1, 3, 3), torch.randint(0, 2, (70,))
    whole = ascent(lambda v: cross_entropy(model, y)(v))(x)
    assert seen == [70]
    found = ascent(cross_entropy(model, y)).at(x)
    assert seen[1:] == [32, 32, 6]
    assert found.gradient is not None
    assert found.logits is not None
    torch.testing.assert_close(found.gradient, whole)
    torch.testing.assert_close(found.loss, cross_entropy(model, y)(x))
    torch.testing.assert_close(found.logits, model(x)[None])
    assert ascent(cross_entropy(model, y)).at(x, backward=False).gradient is None
    seen.clear()
    ascent(cross_entropy(model, y[:35]))(x)  # copies of 35 images
    assert seen == [70]
