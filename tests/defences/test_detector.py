"""A detector through ART's door: fit, detect, parameters, any range and layout."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from art.defences.detector.evasion import EvasionDetector
from torch import Tensor, nn

from art_ext.defences import CDVAEDetector
from art_ext.detectors import Detector, Mahalanobis, auc, on_residuals, tnr_at_tpr

X = np.random.default_rng(0).random((40, 3, 4, 5), dtype=np.float32)
Y = np.arange(40) % 2


class Brightness(Detector):
    """The mean pixel; keeps what it was fitted on."""

    name, paper = "brightness", "none"

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def learn(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {"x": x, "y": y}

    def measure(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        return x.flatten(1).mean(1)

    def expected(self) -> set[str]:
        return {"x", "y"}


def wrapped(**options: object) -> CDVAEDetector:
    return CDVAEDetector(Brightness(), device_type="cpu", **options)  # type: ignore[arg-type]


def means(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1).mean(1)


def test_learns_from_one_part_and_takes_its_threshold_from_the_other() -> None:
    detector = wrapped(holdout=0.25, false_positive_rate=0.1)
    detector.fit(X, Y)
    learned = detector.detector.statistics()
    assert len(learned["x"]) == 30
    both = np.concatenate([means(learned["x"].numpy()), detector.clean_scores])
    np.testing.assert_allclose(np.sort(both), np.sort(means(X)), rtol=1e-5)  # each image once
    rows = [int(np.flatnonzero((row == X).all((1, 2, 3)))[0]) for row in learned["x"].numpy()]
    assert learned["y"].tolist() == Y[rows].tolist()
    assert rows != sorted(rows)  # drawn, not the last ones
    # 10 held out: at a rate of 0.1 the second largest.
    assert detector.threshold == pytest.approx(np.sort(detector.clean_scores)[-2])
    again = wrapped(holdout=0.25)
    again.fit(X, np.eye(2)[Y])
    assert torch.equal(again.detector.statistics()["y"], learned["y"])
    np.testing.assert_array_equal(again.clean_scores, detector.clean_scores)


def test_detects_by_arts_contract() -> None:
    detector = wrapped()
    assert isinstance(detector, EvasionDetector)
    detector.fit(X, Y, batch_size=7, nb_epochs=1)
    report, flags = detector.detect(X, batch_size=7)
    assert flags.shape == (40,)
    assert flags.dtype == bool
    np.testing.assert_allclose(report["scores"], means(X), rtol=1e-5)
    np.testing.assert_array_equal(flags, report["scores"] > detector.threshold)
    assert 0 < flags.sum() < 40
    assert max(detector.detector.seen) == 7
    assert (report["threshold"], report["false_positive_rate"]) == (detector.threshold, 0.05)
    assert "roc" not in report
    assert detector.detect(X[:0])[1].shape == (0,)


def test_p_values_by_hand() -> None:
    detector = wrapped()
    detector.fit(X, Y)
    detector._clean_scores = np.array([0.3, 0.1, 0.5])
    x = np.stack([np.full((3, 4, 5), v, dtype=np.float32) for v in (0.5, 0.4, 0.0, 0.6)])
    # As high: the 0.5; the 0.5; all three; none. One more above and below, for the image itself.
    np.testing.assert_allclose(detector.detect(x)[0]["p_values"], [2 / 4, 2 / 4, 4 / 4, 1 / 4])


def test_report_where_the_truth_is_known() -> None:
    detector = wrapped()
    detector.fit(X, Y)
    truth = np.arange(40) >= 30
    report, _ = detector.detect(X, truth=truth)
    low, high = report["scores"][~truth], report["scores"][truth]
    assert report["auc"] == auc(low, high)
    assert report["tnr_at_95_tpr"] == tnr_at_tpr(low, high)
    assert report["roc"].true_positives[[0, -1]].tolist() == [0, 1]
    for wrong in (truth[:5], np.zeros(40), np.arange(40)):
        with pytest.raises(ValueError, match="expected truth as 40 booleans"):
            detector.detect(X, truth=wrong)


@pytest.mark.parametrize(("clip_values", "channels_first"), [((0, 255), False), ((-1, 1), True)])
def test_any_range_and_layout(clip_values: tuple[int, int], channels_first: bool) -> None:
    low, high = clip_values
    user = (X if channels_first else X.transpose(0, 2, 3, 1)) * (high - low) + low
    detector = wrapped(clip_values=clip_values, channels_first=channels_first)
    detector.fit(user, Y)
    assert detector.detector.statistics()["x"].shape[1:] == (3, 4, 5)
    plain = wrapped()
    plain.fit(X, Y)
    np.testing.assert_allclose(detector.detect(user)[0]["scores"], plain.detect(X)[0]["scores"], atol=1e-5)


def test_parameters() -> None:
    detector = wrapped()
    detector.fit(X, Y)
    before = detector.threshold
    assert detector.get_params() == {"clip_values": (0.0, 1.0), "channels_first": True, "false_positive_rate": 0.05}
    detector.set_params(false_positive_rate=0.5)
    assert detector.threshold < before
    assert detector.detect(X)[1].sum() > (detector.detect(X)[0]["scores"] > before).sum()
    for wrong in ({"false_positive_rate": 1.0}, {"clip_values": (1, 0)}, {"channels_first": 1}, {"other": 1}):
        with pytest.raises(ValueError, match="expected"):
            detector.set_params(**{"false_positive_rate": 0.2, **wrong})
        assert detector.get_params()["false_positive_rate"] == 0.5
        assert detector.get_params()["clip_values"] == (0.0, 1.0)


def test_refused() -> None:
    with pytest.raises(TypeError, match="expected an art_ext Detector, got Linear"):
        CDVAEDetector(nn.Linear(1, 1))  # type: ignore[arg-type]
    for options in ({"holdout": 0.0}, {"holdout": 1.0}, {"false_positive_rate": -0.1}):
        with pytest.raises(ValueError, match="expected"):
            wrapped(**options)
    detector = wrapped()
    with pytest.raises(RuntimeError, match="before fit"):
        detector.detect(X)
    for arguments, kind, message in (
        ((X * 255, Y), ValueError, "divide by 255"),
        ((X, Y[:3]), ValueError, "expected 40 labels"),
        ((X, Y - 1), ValueError, "whole numbers"),
        ((X[:1], Y[:1]), ValueError, "enough images"),
        ((X.tolist(), Y), TypeError, "numpy array"),
    ):
        with pytest.raises(kind, match=message):
            detector.fit(*arguments)
    with pytest.raises(TypeError, match=r"got \['verbose'\]"):
        detector.fit(X, Y, verbose=True)
    with pytest.raises(ValueError, match="batch_size"):
        detector.fit(X, Y, batch_size=0)
    assert detector.clean_scores is None
    assert not detector.detector.fitted


def test_on_residuals_it_finds_what_a_blurring_purifier_removes() -> None:
    torch.manual_seed(0)
    network = on_residuals(nn.AvgPool2d(3, 1, 1), nn.Sequential(nn.Conv2d(3, 6, 3), nn.Flatten(), nn.Linear(36, 2)))
    detector = CDVAEDetector(Mahalanobis(network, ["1.0"]), device_type="cpu")
    smooth = np.ones((80, 3, 4, 5), dtype=np.float32) * np.random.default_rng(1).uniform(0.3, 0.7, (80, 1, 1, 1))
    clean = (smooth + np.random.default_rng(2).normal(0, 0.01, smooth.shape)).astype(np.float32)
    detector.fit(clean[:60], np.arange(60) % 2)
    noisy = (clean[60:] + 0.1 * np.sign(np.random.default_rng(3).normal(size=clean[60:].shape))).astype(np.float32)
    x, truth = np.concatenate([clean[60:], noisy]), np.arange(40) >= 20
    report, flags = detector.detect(x, truth=truth)
    assert report["auc"] > 0.95
    assert flags[truth].mean() > 0.9
    again = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(again.detect(x)[1], flags)


def test_a_calibrated_detector_gets_another_threshold() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(60, 6), nn.Linear(6, 2))
    mahalanobis = Mahalanobis(network, ["1", "2"])
    detector = CDVAEDetector(mahalanobis, false_positive_rate=0.2, device_type="cpu")
    detector.fit(X, Y)
    sums = detector.threshold
    noisy = np.clip(X + 0.3 * np.sign(np.random.default_rng(1).normal(size=X.shape)), 0, 1).astype(np.float32)
    mahalanobis.calibrate(torch.from_numpy(X[:20]), torch.from_numpy(noisy[:20]))
    assert detector.threshold != pytest.approx(sums)
    _, flagged = detector.detect(X)
    assert 0 < flagged.mean() < 0.6
    calibrated = detector.threshold
    mahalanobis.set_noise(0.05)
    assert detector.threshold != pytest.approx(calibrated)
