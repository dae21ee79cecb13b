"""PGD that stops where an image is broken: the same iterates for what resists, none wasted on what does not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.attacks import Linf, always_wrong, ascent, cross_entropy, eot, pgd, pgd_until_broken

OPTIONS: dict[str, Any] = {"norm": Linf(), "eps": 0.2, "steps": 20, "step_size": 0.02, "random_start": False}


class Threshold(nn.Module):
    """Class 1 where the mean is above one half: logits (0, mean - 1/2); counts the images it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += len(x)
        value = x.flatten(1).mean(1) - 0.5
        return torch.stack([torch.zeros_like(value), value], 1)


def images(*levels: float) -> Tensor:
    return torch.tensor(levels).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).clone()


def test_a_broken_image_stays_and_another_gets_every_step() -> None:
    # Class 1 at 0.55: three steps of 0.02 lead below one half, and the look after the fourth sees that. 0.9 never.
    x, y = images(0.55, 0.9), torch.tensor([1, 1])
    found = pgd_until_broken(Threshold(), x, y, check_every=4, **OPTIONS)
    assert found[:, 0, 0, 0].tolist() == pytest.approx([0.55 - 4 * 0.02, 0.9 - 0.2])


def test_what_resists_is_plain_pgd() -> None:
    x, y = torch.rand(5, 1, 2, 2), torch.randint(2, (5,))
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    y = model(x).argmax(1)
    whole = {**OPTIONS, "eps": 0.01, "step_size": 0.001}
    expected = pgd(ascent(cross_entropy(model, y)), x, **whole)
    assert bool((model(expected).argmax(1) == y).any())
    found = pgd_until_broken(model, x, y, check_every=7, **whole)
    resists = model(expected).argmax(1) == y
    assert torch.equal(found[resists], expected[resists])


def test_the_random_start_and_the_default_step_are_those_of_pgd() -> None:
    x, y = images(0.9, 0.9), torch.tensor([1, 1])
    model = Threshold()
    options: dict[str, Any] = {"norm": Linf(), "eps": 0.1, "steps": 6}
    torch.manual_seed(0)
    expected = pgd(ascent(cross_entropy(model, y)), x, **options)
    torch.manual_seed(0)
    assert torch.equal(pgd_until_broken(model, x, y, check_every=4, **options), expected)


def test_no_pass_is_spent_on_what_is_broken() -> None:
    x, y = images(0.51, 0.9), torch.tensor([1, 1])
    model = Threshold()
    pgd_until_broken(model, x, y, check_every=5, **OPTIONS)
    # Both for five steps, then one for fifteen; both are looked at three times, not after the end.
    assert model.passes == 2 * 5 + 15 + 3 * 2


class Lucky(Threshold):
    """At the first look, and then alone, the first image counts as misclassified."""

    looks = 0

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        if torch.is_grad_enabled():
            return logits
        self.looks += 1
        return logits - torch.tensor([0.0, 9.0]) * (torch.arange(len(x)) == 0).view(-1, 1) * (self.looks == 1)


def test_a_lucky_look_is_found_out_at_the_next() -> None:
    options = {**OPTIONS, "step_size": 0.005}
    found = pgd_until_broken(Lucky(), images(0.9, 0.9), torch.tensor([1, 1]), check_every=5, **options)
    # The first image rests for five of the twenty steps.
    assert found[:, 0, 0, 0].tolist() == pytest.approx([0.9 - 15 * 0.005, 0.9 - 20 * 0.005])


class Coin(Threshold):
    """Answers wrongly for one copy in three, whatever the image: labels are 1."""

    def forward(self, x: Tensor) -> Tensor:
        self.passes += len(x)
        right = torch.arange(len(x)) % 3 != 0
        return torch.stack([(~right).float(), right.float()], 1) + 0 * x.flatten(1).sum(1, keepdim=True)


def test_an_image_counts_as_broken_only_if_every_draw_is_wrong() -> None:
    # One image, six samples as one batch: two of them are wrong.
    assert always_wrong(Coin(), images(0.5), torch.tensor([1]), 6).tolist() == [False]
    # Two at a time: the first of each pair is wrong.
    assert always_wrong(Coin(), images(0.5), torch.tensor([1]), 6, at_once=2).tolist() == [False]
    assert always_wrong(Coin(), images(0.5), torch.tensor([1]), 6, at_once=1).tolist() == [True]
    # Three and one: the last piece is wrong throughout, the first is not.
    assert always_wrong(Coin(), images(0.5), torch.tensor([1]), 4, at_once=3).tolist() == [False]


class Sometimes(Threshold):
    """Without gradients each image of each pass is right with probability 1/11, whatever it is: labels are 1."""

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        if torch.is_grad_enabled():
            return logits
        right = torch.rand(len(x)) < 1 / 11
        return torch.stack([(~right).float(), right.float()], 1)


def test_as_many_images_rest_by_chance_as_the_docstring_bounds() -> None:
    # One check, after the first of two steps. The image rests with probability (10/11)^10, at the worst p.
    count, p = 20_000, 1 / 11
    x, y = torch.full((count, 1, 1, 1), 0.9), torch.ones(count, dtype=torch.long)
    torch.manual_seed(0)
    found = pgd_until_broken(Sometimes(), x, y, check_every=1, eot_samples=10, **{**OPTIONS, "steps": 2})
    rests = float((found > 0.9 - 0.03).float().mean())
    expected = (1 - p) ** 10
    assert rests == pytest.approx(expected, abs=4 * (expected * (1 - expected) / count) ** 0.5)
    assert p * rests == pytest.approx(0.035, abs=0.002)  # 3.5 points


def test_gradients_are_averaged_over_the_draws() -> None:
    # The gradient is that of the mean over copies, so ten samples of a model without randomness change nothing.
    x, y = images(0.9), torch.tensor([1])
    one = pgd_until_broken(Threshold(), x, y, check_every=5, **OPTIONS)
    model = Threshold()
    assert torch.equal(pgd_until_broken(model, x, y, check_every=5, eot_samples=10, at_once=4, **OPTIONS), one)
    assert model.passes == 10 * (20 + 3)
    expected = pgd(eot(ascent(cross_entropy(Threshold(), y)), 10), x, **OPTIONS)
    assert torch.equal(one, expected)


def test_other_images_and_the_input_stay_as_they_are() -> None:
    x = images(0.51, 0.9)
    before = x.clone()
    pgd_until_broken(Threshold(), x, torch.tensor([1, 1]), check_every=5, **OPTIONS)
    assert torch.equal(x, before)
    assert pgd_until_broken(Threshold(), x[:0], torch.tensor([], dtype=torch.long), check_every=5, **OPTIONS).shape == (
        0, 1, 2, 2,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"check_every": 0}, "check_every >= 1, got 0"),
        ({"eot_samples": 0}, "eot_samples >= 1"),
        ({"steps": -1}, "steps=-1"),
    ],
)
def test_what_is_refused(change: dict[str, int], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        pgd_until_broken(Threshold(), images(0.9), torch.tensor([1]), **{**OPTIONS, "check_every": 5, **change})


@pytest.mark.parametrize(("samples", "points"), [(2, "14.8"), (5, "6.7"), (9, "3.9")])
def test_few_samples_are_said_to_leave_too_much(samples: int, points: str) -> None:
    # The most of p (1 - p)^k on a fine grid of p.
    p = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    assert float(points) == pytest.approx(float(100 * (p * (1 - p) ** samples).max()), abs=0.05)
    with pytest.warns(UserWarning, match=f"expected eot_samples >= 10 .* got {samples}: .* up to {points} points"):
        pgd_until_broken(
            Threshold(), images(0.9), torch.tensor([1]), **{**OPTIONS, "check_every": 5, "eot_samples": samples}
        )
