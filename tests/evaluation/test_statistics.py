"""The bootstrap: the right width, images kept together, the same answer each time."""

from __future__ import annotations

import numpy as np
import pytest

from art_ext.detectors import auc
from art_ext.evaluation import bootstrap


def test_the_interval_of_a_mean_is_the_normal_one() -> None:
    flags = np.arange(400) % 4 == 0  # a quarter: the standard error is sqrt(0.25 * 0.75 / 400) = 0.02165
    found = bootstrap(np.mean, flags, resamples=4000)
    assert (found.mean, found.n) == (0.25, 400)
    assert found.low == pytest.approx(0.25 - 1.96 * 0.02165, abs=0.005)
    assert found.high == pytest.approx(0.25 + 1.96 * 0.02165, abs=0.005)
    assert found == bootstrap(np.mean, flags, resamples=4000)
    assert found != bootstrap(np.mean, flags, resamples=4000, seed=1)


def test_what_belongs_to_an_image_stays_together() -> None:
    a = np.random.default_rng(0).random(50)

    def difference(first: np.ndarray, second: np.ndarray) -> float:
        return float((first[:, 0] - second).mean())

    found = bootstrap(difference, np.stack([a + 0.25, a], 1), a)
    assert found[:3] == pytest.approx((0.25, 0.25, 0.25))


def test_the_area_over_resampled_images() -> None:
    clean, adversarial = np.arange(30.0), np.arange(30.0) + 10
    found = bootstrap(auc, clean, adversarial)
    assert found.mean == auc(clean, adversarial)
    assert 0.5 < found.low < found.mean < found.high < 1


def test_refused() -> None:
    for samples in ((), ([1, 2], [1]), ([], [])):
        with pytest.raises(ValueError, match="expected samples of the same images"):
            bootstrap(np.mean, *samples)
    with pytest.raises(ValueError, match="resamples >= 1"):
        bootstrap(np.mean, [1], resamples=0)
