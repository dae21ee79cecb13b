"""Thresholds, curves and rates, counted by hand, ties among them."""

from __future__ import annotations

import numpy as np
import pytest

from art_ext.detectors import auc, roc, threshold_at, tnr_at_tpr

CLEAN, ADVERSARIAL = [1, 2, 3, 3], [3, 4, 0, 5, 3]


def test_the_area_counts_pairs_and_ties_half() -> None:
    # 3 beats 1 and 2 and ties with two: 2 + 1 = 3; 4 and 5 beat four each; 0 none; 3 again 3: 14 of 20.
    assert auc(CLEAN, ADVERSARIAL) == pytest.approx(14 / 20)
    assert auc([1, 1], [1]) == 0.5
    assert auc([0], [1]) == 1
    assert auc([1], [0]) == 0
    assert auc([0, np.inf], [np.inf]) == 0.75  # log densities may underflow


def test_the_curve_by_hand() -> None:
    found = roc(CLEAN, ADVERSARIAL)
    # Above 5: none; above 4: the 5; above 3: 4 and 5; above 2: all but the 0, and both clean 3s; ...
    assert found.thresholds.tolist() == [5, 4, 3, 2, 1, 0, -np.inf]
    assert found.false_positives.tolist() == [0, 0, 0, 0.5, 0.75, 1, 1]
    np.testing.assert_allclose(found.true_positives, [0, 0.2, 0.4, 0.8, 0.8, 0.8, 1])
    # Its area, by trapezia, is that of the pairs.
    heights = (found.true_positives[1:] + found.true_positives[:-1]) / 2
    assert np.diff(found.false_positives) @ heights == pytest.approx(auc(CLEAN, ADVERSARIAL))


def test_area_and_curve_are_scikit_learns() -> None:
    from sklearn.metrics import roc_auc_score, roc_curve

    random = np.random.default_rng(0)
    clean, adversarial = random.integers(0, 20, 50), random.integers(5, 25, 70)
    kinds, scores = [0] * 50 + [1] * 70, np.concatenate([clean, adversarial])
    assert auc(clean, adversarial) == pytest.approx(roc_auc_score(kinds, scores))
    theirs = {(a, b) for a, b, _ in zip(*roc_curve(kinds, scores, drop_intermediate=False), strict=True)}
    ours = set(zip(*roc(clean, adversarial)[:2], strict=True))
    np.testing.assert_allclose(sorted(theirs), sorted(ours))


def test_thresholds() -> None:
    scores = np.arange(1, 21)[::-1]  # 1 ... 20
    assert threshold_at(scores, 0.05) == 19  # 1 of 20 above it
    assert threshold_at(scores, 0.049) == 20
    assert threshold_at(scores, 0.10) == 18
    assert threshold_at(scores, 0.0) == 20
    assert threshold_at(range(1, 11), 0.7) == 3  # whatever (1 - 0.7) * 10 is in floating point
    assert threshold_at([7], 0.9) == 7
    assert threshold_at([1, 2, 2, 2], 0.25) == 2  # a tie is not flagged: none above it
    for n in range(1, 200):  # never more false alarms than said, and one more threshold down there would be
        ordered = np.arange(n)
        for share in (0.05, 0.1, 0.3):
            found = threshold_at(ordered, share)
            assert (ordered > found).sum() <= share * n + 1e-9
            assert found == 0 or (ordered > found - 1).sum() > share * n + 1e-9


def test_rates_by_hand() -> None:
    clean, adversarial = np.arange(20), np.array([25, 18, 18.5, 19, 3])
    # 95 % of the clean images pass at 18: 25, 18.5 and 19 are flagged, 18 is not.
    assert tnr_at_tpr(clean, adversarial) == pytest.approx(3 / 5)
    # With adversarial images positive, all five must be flagged to have 95 %: below 3 pass 0, 1, 2.
    assert tnr_at_tpr(clean, adversarial, positive="adversarial") == pytest.approx(3 / 20)
    # To have 80 %, from 18 on: 18 of 20 pass.
    assert tnr_at_tpr(clean, adversarial, 0.8, positive="adversarial") == pytest.approx(18 / 20)
    assert tnr_at_tpr([1, 1], [1, 1]) == 0
    assert tnr_at_tpr([1, 1], [1, 1], positive="adversarial") == 0


def test_refused() -> None:
    for clean, adversarial in (([], [1]), ([1], []), ([np.nan], [1]), ([1], [1, np.nan])):
        for function in (auc, roc, tnr_at_tpr):
            with pytest.raises(ValueError, match="at least one score and none of them NaN"):
                function(clean, adversarial)
    for share in (-0.1, 1.0):
        with pytest.raises(ValueError, match=r"in \[0, 1\)"):
            threshold_at([1], share)
    for options in ({"tpr": 0}, {"tpr": 1.1}, {"positive": "dirty"}):
        with pytest.raises(ValueError, match="expected tpr"):
            tnr_at_tpr([1], [1], **options)  # type: ignore[arg-type]
