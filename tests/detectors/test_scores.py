"""Scores by hand: densities, dimensionalities and distances on a handful of pixels."""

from __future__ import annotations

from math import exp, log, pi, sqrt

import numpy as np
import pytest
import torch
from torch import nn

from art_ext.detectors import LID, KernelDensity, Mahalanobis, Residual, on_residuals
from art_ext.detectors.kernel_density import GRID, likeliest_bandwidth, log_density, squared_distances
from art_ext.detectors.lid import LARGEST, local_dimensionality
from art_ext.detectors.mahalanobis import whitened
from art_ext.purifiers import Foreign

from .toys import Pixels, Small, images, two_classes

X = images((0.5, 0.1), (0.7, 0.1), (0.1, 0.6), (0.2, 0.9), (0.3, 0.9))
Y = torch.tensor([0, 0, 1, 1, 1])


def test_kernel_density_by_hand() -> None:
    # Width 0.2 in 2 dimensions: the kernel's volume is 2 pi 0.04, exponents are -d^2 / 0.08.
    # (0.6, 0.2) has logits (0.6, 0.2): class 0, at squared distances 0.01 + 0.01 = 0.02 from both of its images.
    # (0.2, 0.6) is of class 1: 0.01; 0 + 0.09 = 0.09; 0.01 + 0.09 = 0.1.
    detector = KernelDensity(two_classes(), ["first"], bandwidth=0.2).fit(X, Y)
    volume = log(2 * pi * 0.04)
    expected = [
        -(log((exp(-0.25) + exp(-0.25)) / 2) - volume),
        -(log((exp(-0.125) + exp(-1.125) + exp(-1.25)) / 3) - volume),
    ]
    found = detector.scores(images((0.6, 0.2), (0.2, 0.6)))
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-4)


def test_kernel_density_is_scikit_learns() -> None:
    from sklearn.neighbors import KernelDensity as Theirs

    rows, at = torch.rand(30, 5, dtype=torch.float64), torch.rand(4, 5, dtype=torch.float64)
    theirs = Theirs(bandwidth=0.3).fit(rows.numpy()).score_samples(at.numpy())
    np.testing.assert_allclose(log_density(squared_distances(at, rows), 0.3, 5), theirs, rtol=1e-9)


def test_the_bandwidth_is_the_likeliest_of_the_grid() -> None:
    # One class, points 0, 1 and 3 on a line: nearest distances 1, 1, 2, median 1, so the grid itself is tried.
    # Leave-one-out: log((k(1) + k(3)) / 2) + log((k(1) + k(2)) / 2) + log((k(3) + k(2)) / 2).
    def likelihood(h: float) -> float:
        k = {d: exp(-(d**2) / (2 * h**2)) / (h * sqrt(2 * pi)) for d in (1, 2, 3)}
        return log((k[1] + k[3]) / 2) + log((k[1] + k[2]) / 2) + log((k[3] + k[2]) / 2)

    found = likeliest_bandwidth(torch.tensor([[0.0], [1.0], [3.0]]), torch.zeros(3, dtype=torch.int64))
    assert found == pytest.approx(max(GRID, key=likelihood))
    assert GRID[0] < found < GRID[-1]


def test_bandwidth_and_references_of_a_fit() -> None:
    detector = KernelDensity(two_classes(), ["first", "second"], references=2).fit(X, Y)
    kept = detector.statistics()
    assert kept["labels"].tolist() == [0, 0, 1, 1]
    assert torch.equal(kept["references_0"], X[[0, 1, 2, 3]].flatten(1))
    assert kept["bandwidths"][1] == pytest.approx(2 * float(kept["bandwidths"][0]))  # features twice as large
    with pytest.raises(ValueError, match=r"expected 2 or more images of each of 2 classes, got \[1, 3\]"):
        KernelDensity(two_classes(), ["first"]).fit(X[1:], Y[1:])
    with pytest.raises(ValueError, match="median nearest distance of 0"):
        KernelDensity(two_classes(), ["first"]).fit(X[[0, 0, 2, 2]], Y[[0, 0, 2, 2]])


def test_local_dimensionality_by_hand() -> None:
    # k = 3. Distances 1, 2, 4 (and 9): logs of 1/4, 1/2, 1 are -3 log 2 in sum, so 1 / log 2.
    # With itself at 0: the same. All equal: infinite, so the largest.
    distances = torch.tensor([[4.0, 1.0, 9.0, 2.0], [0.0, 2.0, 1.0, 4.0], [3.0, 3.0, 3.0, 9.0]])
    found = local_dimensionality(distances, 3)
    torch.testing.assert_close(found, torch.tensor([1 / log(2), 1 / log(2), LARGEST]))


def test_local_dimensionality_where_neighbours_are_missing() -> None:
    # Three copies of itself: one neighbour is left, at distance 5, and it is the farthest; none: no neighbour at all.
    found = local_dimensionality(torch.tensor([[0.0, 0.0, 0.0, 5.0], [0.0, 0.0, 0.0, 0.0]]), 3)
    assert found.tolist() == pytest.approx([LARGEST, LARGEST])


def test_the_estimate_finds_the_dimension() -> None:
    generator = torch.Generator().manual_seed(0)
    for dimension in (2, 6):
        cloud = torch.randn(4000, dimension, generator=generator)
        distances = torch.cdist(torch.zeros(1, dimension), cloud)
        assert float(local_dimensionality(distances, 200)) == pytest.approx(dimension, rel=0.2)


def test_lid_against_its_minibatch() -> None:
    network = two_classes()
    x = torch.rand(12, 1, 1, 2)
    detector = LID(network, ["first", "second"], neighbours=2, size=4, seed=3).fit(x, torch.arange(12) % 2)
    held = detector.statistics()["references_0"]
    assert held.shape == (4, 2)
    assert all(bool((x.flatten(1) == row).all(1).any()) for row in held)
    probe = images((0.5, 0.5))
    a, b = (held - 0.5).norm(dim=1).sort().values[:2].tolist()
    by_hand = -1 / (log(a / b) / 2)  # log(b / b) is 0
    # LID does not change with the scale of a layer.
    torch.testing.assert_close(detector.layer_scores(probe), torch.tensor([[by_hand, by_hand]]), rtol=1e-3, atol=0)
    assert float(detector.scores(probe)) == pytest.approx(2 * by_hand, rel=1e-3)
    with pytest.raises(ValueError, match="expected 4 or more images"):
        LID(network, ["first"], neighbours=2, size=4).fit(x[:3], torch.zeros(3, dtype=torch.int64))


def test_mahalanobis_by_hand() -> None:
    # Class 0: (0.4, 0.1), (0.8, 0.1), mean (0.6, 0.1); class 1: (0.2, 0.5), (0.2, 0.9), mean (0.2, 0.7).
    # Deviations (-0.2, 0), (0.2, 0), (0, -0.2), (0, 0.2): the covariance, a mean over all four, is diag(0.02, 0.02).
    # (0.6, 0.5): squared distances 0 + 0.16 and 0.16 + 0.04, the nearer 0.16 / 0.02 = 8.
    x = images((0.4, 0.1), (0.8, 0.1), (0.2, 0.5), (0.2, 0.9))
    detector = Mahalanobis(two_classes(), ["first"]).fit(x, torch.tensor([0, 0, 1, 1]))
    found = detector.scores(images((0.6, 0.5), (0.2, 0.7), (0.3, 0.7)))
    torch.testing.assert_close(found, torch.tensor([8.0, 0.0, 0.5]), rtol=1e-4, atol=1e-4)


def test_the_covariance_is_tied_and_correlated() -> None:
    # One class, deviations +-(0.2, 0.1) and +-(0.1, -0.1) from (0.5, 0.5): covariance, the mean of outer products,
    # [[0.025, 0.005], [0.005, 0.01]], inverse [[0.01, -0.005], [-0.005, 0.025]] / 0.000225.
    # At (0.6, 0.5), deviation (0.1, 0): 0.01 * 0.01 / 0.000225 = 4 / 9.
    x = images((0.7, 0.6), (0.3, 0.4), (0.6, 0.4), (0.4, 0.6))
    detector = Mahalanobis(two_classes(), ["first", "second"]).fit(x, torch.zeros(4, dtype=torch.int64))
    scores = detector.layer_scores(images((0.6, 0.5)))
    torch.testing.assert_close(scores, torch.tensor([[4 / 9, 4 / 9]]), rtol=1e-4, atol=1e-4)


def test_directions_without_variance_have_no_say() -> None:
    # As the released code's pseudo-inverse has it: the second pixel is 0.5 in all clean images.
    x = images((0.4, 0.5), (0.6, 0.5))
    detector = Mahalanobis(two_classes(), ["first"]).fit(x, torch.zeros(2, dtype=torch.int64))
    # variance 0.01, deviation 0.2: 0.04 / 0.01
    torch.testing.assert_close(detector.scores(images((0.7, 0.9))), torch.tensor([4.0]), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="a covariance of zero"):
        whitened(torch.zeros(2, 2))


def test_the_step_of_the_input_by_hand() -> None:
    # As above, 1 class, variances 0.02 a pixel; the mean is (0.5, 0.5). From (0.8, 0.4) the step of 0.1 against the
    # sign of the gradient leads to (0.7, 0.5): 0.04 / 0.02 = 2, instead of (0.09 + 0.01) / 0.02 = 5.
    x = images((0.3, 0.5), (0.7, 0.5), (0.5, 0.3), (0.5, 0.7))
    detector = Mahalanobis(two_classes(), ["first"]).fit(x, torch.zeros(4, dtype=torch.int64))
    probe = images((0.8, 0.4))
    assert float(detector.scores(probe)) == pytest.approx(5, rel=1e-3)
    detector.set_noise(0.1)
    with torch.no_grad():  # needs a gradient all the same
        assert float(detector.scores(probe)) == pytest.approx(2, rel=1e-3)
    # Its gradient is that at the moved image: 2 (0.2, 0) / 0.02.
    gradient = torch.autograd.grad(detector.scores(probe.requires_grad_()).sum(), probe)[0]
    torch.testing.assert_close(gradient.flatten(), torch.tensor([20.0, 0.0]), rtol=1e-3, atol=1e-2)
    with pytest.raises(ValueError, match="noise >= 0"):
        detector.set_noise(-0.1)


def test_the_moved_image_stays_an_image() -> None:
    x = images((0.2, 0.5), (0.6, 0.5))  # mean 0.4, variance 0.04 in the first pixel
    detector = Mahalanobis(two_classes(), ["first"], noise=0.9).fit(x, torch.zeros(2, dtype=torch.int64))
    # From 0.8 the step leads to -0.1, clamped to 0: 0.16 / 0.04, not 0.25 / 0.04.
    assert float(detector.scores(images((0.8, 0.5)))) == pytest.approx(4, rel=1e-3)


def test_each_layer_steps_by_its_own_gradient() -> None:
    class Two(nn.Module):  # one layer sees the first pixel, the other the second
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False)
            self.a.weight.data, self.b.weight.data = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([self.a(x.flatten(1)), self.b(x.flatten(1))], 1)

    x = images((0.4, 0.4), (0.6, 0.6))  # mean 0.5, variance 0.01 each
    detector = Mahalanobis(Two(), ["a", "b"], noise=0.1).fit(x, torch.zeros(2, dtype=torch.int64))
    # From (0.8, 0.1): (0.7 - 0.5)^2 / 0.01 = 4 and (0.2 - 0.5)^2 / 0.01 = 9.
    found = detector.layer_scores(images((0.8, 0.1)))
    torch.testing.assert_close(found, torch.tensor([[4.0, 9.0]]), rtol=1e-3, atol=1e-3)


def test_residuals() -> None:
    x = images((0.5, 0.2))
    assert torch.allclose(Residual(nn.Threshold(0.3, 0.0))(x), images((0.0, 0.2)))  # G keeps 0.5 and drops 0.2
    network = on_residuals(nn.Threshold(0.3, 0.0), two_classes())
    detector = Mahalanobis(network, ["1.first"]).fit(
        images((0.9, 0.1), (0.8, 0.2), (0.1, 0.25), (0.05, 0.7)), torch.zeros(4, dtype=torch.int64)
    )
    # Residuals (0, 0.1), (0, 0.2), (0.1, 0.25), (0.05, 0): that of the probe is (0, 0.2), the second of them.
    same = Mahalanobis(two_classes(), ["first"]).fit(
        images((0.0, 0.1), (0.0, 0.2), (0.1, 0.25), (0.05, 0.0)), torch.zeros(4, dtype=torch.int64)
    )
    torch.testing.assert_close(detector.scores(x), same.scores(images((0.0, 0.2))), rtol=1e-4, atol=1e-5)


def test_the_gradient_passes_a_purifiers_clamp() -> None:
    def bright(x: torch.Tensor) -> torch.Tensor:
        return 3 * x

    x = images((0.5, 0.2)).requires_grad_()
    residual = Residual(Foreign(bright, differentiable=True))
    values = residual(x)
    torch.testing.assert_close(values.detach(), images((0.5 - 1.0, 0.2 - 0.6)))
    gradient = torch.autograd.grad(values.sum(), x)[0]
    torch.testing.assert_close(gradient, torch.full_like(x, -2.0))  # also where 3 * 0.5 is clamped


def test_a_network_in_train_mode_is_used_in_eval_mode() -> None:
    network, x = Small(), torch.rand(9, 2, 4, 4)
    detector = Mahalanobis(network.train(), ["conv", "norm"]).fit(x, torch.arange(9) % 3)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    assert torch.equal(detector.scores(x), detector.scores(x))
    torch.testing.assert_close(detector.scores(x)[:1], detector.scores(x[:1]))  # samples do not mix
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert all(m.training for m in network.modules())


def test_wrong_arguments() -> None:
    for options in ({"bandwidth": 0.0}, {"bandwidth": -1.0}, {"references": 0}):
        with pytest.raises(ValueError, match="bandwidth > 0 and references >= 1"):
            KernelDensity(two_classes(), ["first"], **options)
    for neighbours, size in ((1, 10), (10, 10)):
        with pytest.raises(ValueError, match="2 <= neighbours < size"):
            LID(Pixels(torch.eye(2)), ["first"], neighbours=neighbours, size=size)
