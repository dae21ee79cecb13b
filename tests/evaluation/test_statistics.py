"""Intervals and exact tests by hand, and properties that hold for all of them."""

from __future__ import annotations

from itertools import combinations, product
from math import comb, sqrt
from statistics import mean, stdev, variance

import numpy as np
import pytest

from art_ext.detectors import auc
from art_ext.evaluation import bootstrap
from art_ext.evaluation.statistics import (
    ENOUGH,
    Interval,
    above,
    below,
    double_sampling,
    gain_excluded,
    holm,
    least_shown,
    lower,
    mcnemar,
    mean_interval,
    paired_difference,
    plurality,
    right_in_all,
    upper,
)

T = {3: 3.182446, 5: 2.570582, 7: 2.364624, 13: 2.160369, 21: 2.079614}
"""Student's t, two-sided 95 %, by degrees of freedom, from a table."""


def at_most(k: int, n: int, share: float) -> float:
    """How probable it is that at most k of n images are found, by hand."""
    return sum(comb(n, i) * share**i * (1 - share) ** (n - i) for i in range(k + 1))


def test_a_mean_by_hand() -> None:
    """8 of 10, and 2 of 4 added ones: 10 of 14, of variance 10 / 14 * 4 / 14."""
    found = mean_interval([1.0] * 8 + [0.0] * 2)
    half = T[13] * sqrt(10 / 14 * 4 / 14 / 13)
    assert found == pytest.approx((0.8, 10 / 14 - half, 10 / 14 + half, 10, 1))
    assert str(found) == "80.0 % [44.4, 98.5] n=10"


def test_a_mean_over_repeats_by_hand() -> None:
    """An image is worth as many answers as their variance, 1/4 at a mean of 1/2, exceeds that of the images.

    Where it is 1/8 that is 2 of 4 repeats, and the four added images count as two: of 6 the mean square is 5/12. Where
    images do not vary it is all 2 of 2: the mean square is 1/3.
    """
    found = mean_interval([1.0, 0.5, 0.5, 0.0], repeats=4)
    half = T[5] * sqrt((5 / 12 - 1 / 4) / 5)
    assert found == pytest.approx((0.5, 0.5 - half, 0.5 + half, 4, 4))
    found = mean_interval([0.5] * 4, repeats=2)
    half = T[5] * sqrt((1 / 3 - 1 / 4) / 5)
    assert found == pytest.approx((0.5, 0.5 - half, 0.5 + half, 4, 2))
    assert str(found) == "50.0 % [16.8, 83.2] n=4 R=2"


def test_an_image_is_worth_at_most_ten_answers_and_a_boolean_one() -> None:
    widths = {r: (found := mean_interval([0.5] * 20, repeats=r)).high - found.low for r in (1, 2, 9, 10, 11, 1000)}
    assert widths[1] > widths[2] > widths[9] > widths[10] == widths[11] == widths[1000] > 0
    for flags in ([1.0, 1.0, 0.0], [1.0, 1.0, 1.0]):
        assert mean_interval(flags, repeats=5) == pytest.approx((*mean_interval(flags)[:4], 5))


@pytest.mark.parametrize("n", [1, 2, 64, 1000])
def test_a_mean_holds_itself_within_its_bounds_and_is_never_certain(n: int) -> None:
    every, none = mean_interval(np.ones(n)), mean_interval(np.zeros(n))
    assert (every.mean, every.high, none.mean, none.low) == (1, 1, 0, 0)
    assert every.low == pytest.approx(1 - none.high)
    assert 0 <= every.low < 1
    assert 1 / n < none.high or n == 1  # one more might have been seen


def test_a_mean_needs_shares() -> None:
    for wrong in ([], [1.5], [-0.1], [np.nan], [[1.0]]):
        with pytest.raises(ValueError, match=r"expected values in \[0, 1\] of at least one image"):
            mean_interval(wrong)


def test_a_paired_difference_by_hand() -> None:
    """Of 6 images 3 differ; with the added 1 and -1 the 8 have the mean 3 / 8 and the mean square 5 / 8."""
    found = paired_difference([1, 1, 1, 1, 0, 0], [0, 0, 0, 1, 0, 0])
    half = T[7] * sqrt((5 / 8 - (3 / 8) ** 2) / 7)
    assert found == pytest.approx((0.5, 3 / 8 - half, 3 / 8 + half, 6, 1))
    assert found.points == "50.0 points [-24.7, 99.7] n=6"


def test_a_paired_difference_of_shares_is_that_of_the_images() -> None:
    a, b = [1.0, 0.75, 0.5, 0.0], [0.5, 0.75, 0.0, 0.25]
    held = [0.5, 0.0, 0.5, -0.25, 1.0, -1.0]
    half = T[5] * stdev(held) / sqrt(6)
    expected = (0.1875, max(-1, mean(held) - half), min(1, mean(held) + half))
    assert paired_difference(a, b)[:3] == pytest.approx(expected)
    back = paired_difference(b, a)
    assert (back.mean, back.low, back.high) == pytest.approx((-expected[0], -expected[2], -expected[1]))


def test_a_difference_that_was_not_seen_is_not_known_to_be_zero() -> None:
    found = paired_difference([1.0] * 30, [1.0] * 30)
    assert found.mean == 0
    assert found.low == -found.high < -0.05
    with pytest.raises(ValueError, match="expected the same images twice, got 2 and 1"):
        paired_difference([1, 0], [1])
    with pytest.raises(ValueError, match="got 0 and 0"):
        paired_difference([], [])


def test_how_an_interval_is_said() -> None:
    assert str(Interval(0.5, np.nan, np.nan, 8)) == "50.0 % [undetermined] n=8"
    assert Interval(-0.125, -0.25, 0.0, 8).points == "-12.5 points [-25.0, 0.0] n=8"


def test_a_dear_attack_by_help_of_a_cheap_one() -> None:
    """The cheap attack leaves 60 of 100 and 14 of the first 20, of which the dear one leaves 8: 60 % - 30 %."""
    cheap = [i < 14 or 20 <= i < 66 for i in range(100)]
    dear = [i < 7 or i == 15 for i in range(20)]
    found = double_sampling(dear, cheap)
    apart = [float(d) - c for d, c in zip(dear, cheap, strict=False)]
    spread = variance([*apart, -1.0, 1.0]) * (1 / 20 - 1 / 100) + variance([*map(float, dear), 0, 0, 1, 1.0]) / 100
    half = T[21] * sqrt(spread)
    assert found == pytest.approx((0.3, 0.3 - half, 0.3 + half, 100, 1), abs=1e-6)


def test_a_dear_attack_that_saw_all_needs_no_help() -> None:
    dear, cheap = [1.0, 0.0, 0.0, 1.0, 0.0, 0.5], [1.0, 1.0, 0.0, 1.0, 1.0, 1.0]
    found = double_sampling(dear, cheap)
    half = T[7] * stdev([*dear, 0, 0, 1, 1]) / sqrt(6)
    assert found == pytest.approx((mean(dear), max(0, mean(dear) - half), min(1, mean(dear) + half), 6, 1))


def test_over_all_choices_of_images_the_estimate_is_the_dear_mean() -> None:
    dear, cheap = np.array([1, 0, 1, 0, 1, 1, 0, 1.0]), np.array([1, 1, 1, 0, 0, 1, 0, 1.0])
    found = []
    for chosen in combinations(range(8), 3):
        order = [*chosen, *(i for i in range(8) if i not in chosen)]
        found.append(double_sampling(dear[list(chosen)], cheap[order]).mean)
    assert min(found) > 0
    assert max(found) < 1  # none was cut off
    assert mean(found) == pytest.approx(dear.mean())


@pytest.mark.parametrize(("m", "n"), [(1, 4), (0, 4), (5, 4)])
def test_a_dear_attack_needs_two_images_that_the_cheap_one_saw(m: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"expected at least two values of the dear attack.*got {m}, {n}"):
        double_sampling([1.0] * m, [1.0] * n)


def test_the_exact_paired_test_by_hand() -> None:
    assert mcnemar(6, 0) == pytest.approx(1 / 64)
    assert mcnemar(13, 2) == pytest.approx((1 + 15 + 105) / 2**15)
    assert mcnemar(0, 5) == pytest.approx(1)
    assert mcnemar(0, 0) == 1
    for more, less in product(range(7), range(7)):
        if more or less:
            alike = comb(more + less, more) / 2 ** (more + less)
            assert mcnemar(more, less) + mcnemar(less, more) == pytest.approx(1 + alike)


@pytest.mark.parametrize(("count", "n", "share"), [(0, 5, 0.3), (2, 5, 0.3), (5, 5, 0.3), (3, 40, 0.05)])
def test_tails_by_hand(count: int, n: int, share: float) -> None:
    assert below(count, n, share) == pytest.approx(at_most(count, n, share))
    assert above(count, n, share) == pytest.approx(1 - at_most(count - 1, n, share))
    assert above(0, 0, share) == below(0, 0, share) == 1


def test_holm_by_hand() -> None:
    """Sorted: 0.01 three times, 0.03 twice, 0.04 once and no less than the one before."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.7, 0.6]) == [1, 1]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []
    assert holm([0.01, 0.01]) == pytest.approx([0.02, 0.02])


@pytest.mark.parametrize(("count", "n"), [(0, 64), (2, 10), (9, 10), (3, 128), (0, 1)])
@pytest.mark.parametrize("level", [0.05, 0.025])
def test_one_sided_limits_are_where_the_tail_is_the_level(count: int, n: int, level: float) -> None:
    assert at_most(count, n, upper(count, n, level)) == pytest.approx(level)
    assert 1 - at_most(n - count - 1, n, lower(n - count, n, level)) == pytest.approx(level)


def test_one_sided_limits_at_the_ends() -> None:
    assert upper(0, 64) == pytest.approx(1 - 0.05 ** (1 / 64))
    assert lower(8, 8) == pytest.approx(0.05 ** (1 / 8))
    assert (upper(8, 8), lower(0, 8), upper(0, 0)) == (1, 0, 1)


def test_what_gain_is_excluded() -> None:
    assert round(100 * gain_excluded(0, 0, 64), 2) == 4.57  # 1 - 0.05^(1/64)
    assert at_most(3, 128, gain_excluded(3, 0, 128)) == pytest.approx(0.05)
    assert at_most(3, 128, gain_excluded(3, 0, 128, 0.025)) == pytest.approx(0.025)
    # Against 3 on the other side: mean 0, mean square 8 / 130 with the two added images, one-sided t of 129 is 1.6568.
    assert gain_excluded(3, 3, 128) == pytest.approx(1.6568 * sqrt(8 / 130 / 129), abs=1e-5)
    assert gain_excluded(0, 1, 128) == pytest.approx(-1 / 130 + 1.6568 * sqrt((3 / 130 - 1 / 130**2) / 129), abs=1e-5)
    assert gain_excluded(1, 1, 2) == pytest.approx(sqrt(0.95))  # of both limits the smaller one: at t = 2.35, 1.36


@pytest.mark.parametrize(("n", "level", "tests", "images"), [
    (128, 0.025, 1, 6), (128, 0.005, 1, 8), (128, 0.025, 2, 7), (16, 0.025, 3, 7), (4, 0.025, 1, 6),
])  # fmt: skip
def test_what_could_have_been_shown(n: int, level: float, tests: int, images: int) -> None:
    assert least_shown(n, level, tests) == images / n
    assert tests * mcnemar(images, 0) <= level < tests * mcnemar(images - 1, 0)


@pytest.mark.parametrize("repeats", [1, 2, 5, 7])
def test_fewer_repeats_are_estimated_without_bias(repeats: int) -> None:
    """For each image, the mean over every choice of r of its R repeats."""
    for r in range(1, repeats + 1):
        for right in range(repeats + 1):
            answers = [k < right for k in range(repeats)]
            expected = mean(all(chosen) for chosen in combinations(answers, r))
            assert right_in_all([right], repeats, r) == pytest.approx([expected])
    assert right_in_all([0, repeats], repeats, 1) == [0, 1]


@pytest.mark.parametrize("r", [0, 4])
def test_more_repeats_than_were_made_are_refused(r: int) -> None:
    with pytest.raises(ValueError, match=f"expected 1 <= r <= 3 repeats, got {r}"):
        right_in_all([1, 2], 3, r)


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ([1, 1, 2], 1.0),
        ([1, 2, 2], 0.0),
        ([1, 2], 0.5),
        ([3, 2, 1], 1 / 3),
        ([1, 1, 2, 2, 3], 0.5),
        ([1, 2, 3, 4, 1], 1.0),
        ([-1, -1, 1], 1.0),
        ([-1, -1, 2], 0.0),
        ([-1, -1], 0.0),
    ],
)
def test_a_vote_needs_the_most_and_no_majority(classes: list[int], expected: float) -> None:
    assert plurality(classes, 1) == expected


def test_the_interval_of_a_mean_is_the_normal_one() -> None:
    flags = np.arange(400) % 4 == 0  # a quarter: the standard error is sqrt(0.25 * 0.75 / 400) = 0.02165
    found = bootstrap(np.mean, flags, resamples=4000)
    assert (found.mean, found.n) == (0.25, 400)
    assert found.low == pytest.approx(0.25 - 1.96 * 0.02165, abs=0.005)
    assert found.high == pytest.approx(0.25 + 1.96 * 0.02165, abs=0.005)
    assert found == bootstrap(np.mean, flags, resamples=4000)
    assert found != bootstrap(np.mean, flags, resamples=4000, seed=1)


def test_what_belongs_to_an_image_stays_together() -> None:
    """Differences of 0.24 and 0.26 have a standard error of 0.01 / sqrt(200); torn apart, of 0.29 sqrt(2 / 200)."""
    a = np.random.default_rng(0).random(200)
    shift = 0.25 + 0.01 * (-1) ** np.arange(200)

    def difference(first: np.ndarray, second: np.ndarray) -> float:
        return float((first[:, 0] - second).mean())

    found = bootstrap(difference, np.stack([a + shift, a], 1), a)
    assert found.mean == pytest.approx(0.25)
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.01 / sqrt(200), rel=0.1)


def test_the_area_over_resampled_images() -> None:
    clean, adversarial = np.arange(120.0), np.arange(120.0) + 40
    found = bootstrap(auc, clean, adversarial)
    assert found.mean == auc(clean, adversarial)
    assert 0.5 < found.low < found.mean < found.high < 1


def test_too_few_images_and_draws_that_never_differ_are_undetermined() -> None:
    for n, determined in ((99, False), (100, True)):
        found = bootstrap(np.mean, np.arange(n) % 2)
        assert np.isfinite([found.low, found.high]).tolist() == [determined] * 2
        assert ("[undetermined]" in str(found)) != determined
    apart = bootstrap(auc, np.arange(200.0), np.arange(200.0) + 1000)
    assert apart.mean == 1
    assert np.isnan([apart.low, apart.high]).all()
    assert ENOUGH == 100


def test_refused() -> None:
    for samples in ((), ([1, 2], [1]), ([], [])):
        with pytest.raises(ValueError, match="expected samples of the same images"):
            bootstrap(np.mean, *samples)
    with pytest.raises(ValueError, match="resamples >= 1"):
        bootstrap(np.mean, [1], resamples=0)
