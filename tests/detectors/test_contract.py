"""What holds for every detector: fit, scores, gradients, calibration, state."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from art_ext.detectors import DETECTORS, LID, Detector, KernelDensity, LayerDetector, Mahalanobis
from art_ext.detectors.layered import logistic_regression

from .toys import Small, images, two_classes

X = torch.rand(12, 2, 4, 5, generator=torch.Generator().manual_seed(1))
Y = torch.arange(12) % 3
OPTIONS = {"kernel density": {}, "LID": {"neighbours": 3, "size": 8}, "Mahalanobis": {"noise": 0.01}}


def made(name: str) -> LayerDetector:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return DETECTORS[name](Small(), ["conv", "norm"], **OPTIONS[name])  # type: ignore[arg-type]


@pytest.fixture(params=list(DETECTORS))
def detector(request: pytest.FixtureRequest) -> LayerDetector:
    return made(request.param).fit(X, Y)


def test_one_finite_score_an_image_whatever_the_batch(detector: LayerDetector) -> None:
    probe = torch.rand(5, 2, 4, 5)
    scores = detector.scores(probe)
    assert scores.shape == (5,)
    assert bool(scores.isfinite().all())
    assert detector.layer_scores(probe).shape == (5, 2)
    torch.testing.assert_close(detector.layer_scores(probe).sum(1), scores)
    seen: list[int] = []
    detector.features.register_forward_hook(lambda module, args, output: seen.append(len(args[0])))
    detector.batch_size = 2
    torch.testing.assert_close(detector(probe), scores, rtol=1e-4, atol=1e-4)
    assert max(seen) == 2
    assert detector.scores(probe[:0]).shape == (0,)


def test_the_gradient_is_that_of_finite_differences(detector: LayerDetector) -> None:
    if isinstance(detector, Mahalanobis):
        detector.set_noise(0.0)  # its step is taken as given, which finite differences do not do
    detector = detector.double()
    probe = torch.rand(2, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    direction = torch.randn(2, 2, 4, 5, dtype=torch.float64)
    slope = (torch.autograd.grad(detector.scores(probe).sum(), probe)[0] * direction).flatten(1).sum(1)
    with torch.no_grad():
        ahead, behind = (detector.scores((probe + s * direction).clamp(0, 1)) for s in (1e-6, -1e-6))
    assert bool((slope != 0).all())
    torch.testing.assert_close((ahead - behind) / 2e-6, slope, rtol=1e-3, atol=1e-5)


def test_fitting_leaves_the_network_alone(detector: LayerDetector) -> None:
    network, twin = detector.features.network, made(detector.name).features.network
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), twin.state_dict().values(), strict=True)
    )
    detector.calibrate(X[:4], X[4:8])
    detector.scores(X)
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    assert all(m.training for m in network.modules())


def test_state_goes_to_another_instance(detector: LayerDetector, tmp_path: Path) -> None:
    probe = torch.rand(5, 2, 4, 5)
    for calibrated in (False, True):
        if calibrated:
            detector.calibrate(X[:6], 1 - X[6:])
        detector.save(tmp_path / "state.safetensors")
        other = made(detector.name)
        assert not other.fitted
        assert torch.equal(other.load(tmp_path / "state.safetensors").scores(probe), detector.scores(probe))
    assert [p.name for p in tmp_path.iterdir()] == ["state.safetensors"]
    assert not any(name.startswith("features") for name in detector.statistics())
    again = pickle.loads(pickle.dumps(detector))
    assert torch.equal(again.scores(probe), detector.scores(probe))
    before = detector.scores(probe)
    with pytest.raises(ValueError, match="expected statistics"):
        detector.load_statistics({"other": torch.zeros(1)})
    assert torch.equal(detector.scores(probe), before)
    with pytest.raises(ValueError, match="expected a file that save"):
        detector.load(tmp_path / "nothing")


def test_a_new_fit_forgets_the_old_one_and_its_calibration(detector: LayerDetector) -> None:
    probe = torch.rand(5, 2, 4, 5)
    fresh = detector.scores(probe)
    detector.calibrate(X[:6], 1 - X[6:])
    assert not torch.allclose(detector.scores(probe), fresh)
    assert torch.equal(detector.fit(X, Y).scores(probe), fresh)


def test_refused_before_anything_changes(detector: LayerDetector) -> None:
    with pytest.raises(RuntimeError, match="expected a fitted detector"):
        made(detector.name).scores(X)
    with pytest.raises(RuntimeError, match="expected a fitted detector"):
        made(detector.name).save("nowhere")
    before = detector.scores(X)
    for x, y, message in (
        (255 * X, Y, "divide by 255"),
        (X, Y[:5], r"one int64 label each, got 12 and \(5,\)"),
        (X, Y.float(), "float32"),
        (X[:0], Y[:0], "got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            detector.fit(x, y)
    with pytest.raises(ValueError, match="divide by 255"):
        detector.scores(255 * X)
    with pytest.raises(ValueError, match="expected clean and adversarial examples, got 12 and 0"):
        detector.calibrate(X, X[:0])
    assert torch.equal(detector.scores(X), before)


def test_logistic_regression_solves_its_problem() -> None:
    # At the optimum of sum_i log(1 + exp(-s_i z_i)) + |v|^2 / 2, v on standardised scores, the gradient is zero:
    # sum_i (p_i - t_i) u_i + v = 0 and sum_i (p_i - t_i) = 0.
    clean, adversarial = torch.randn(40, 2), torch.randn(30, 2) * torch.tensor([1.0, 50.0]) + torch.tensor([1.0, 9.0])
    weights, bias = logistic_regression(clean, adversarial)
    both = torch.cat([clean, adversarial])
    unit, spread = (both - both.mean(0)) / both.std(0, correction=0), both.std(0, correction=0)
    wrong = torch.sigmoid(both @ weights + bias) - torch.cat([torch.zeros(40), torch.ones(30)])
    assert float(wrong.sum()) == pytest.approx(0, abs=0.02)
    torch.testing.assert_close(wrong @ unit + weights * spread, torch.zeros(2), rtol=0, atol=0.02)
    assert float(weights[0]) > 0
    with pytest.raises(ValueError, match="expected finite layer scores"):
        logistic_regression(clean / 0, adversarial)


def test_calibration_weighs_the_layers() -> None:
    detector = Mahalanobis(two_classes(), ["first", "second"])
    detector.fit(images((0.4, 0.5), (0.6, 0.5), (0.5, 0.4), (0.5, 0.6)), torch.zeros(4, dtype=torch.int64))
    detector.register_buffer("weights", torch.tensor([2.0, -1.0]))
    detector.register_buffer("bias", torch.tensor(0.5))
    # Layer scores are equal here, 0.01 / 0.005 = 2 each: 2 * 2 - 2 + 0.5.
    assert float(detector.scores(images((0.6, 0.5)))) == pytest.approx(2.5, rel=1e-3)
    # A layer that says nothing gets no weight, one that tells the kinds apart a positive one.
    clean = torch.tensor([[1.0, 3.0], [2.0, 3.0], [1.5, 3.0]])
    found = detector.calibrate_on(clean, clean + torch.tensor([5.0, 0.0])).statistics()["weights"]
    assert found[0] > 0.1
    assert float(found[1]) == pytest.approx(0, abs=1e-6)


def test_a_detector_of_ones_own_needs_three_methods() -> None:
    class Brightness(Detector):
        name, paper = "brightness", "none"

        def learn(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
            return {"mean": x.mean()}

        def measure(self, x: Tensor) -> Tensor:
            return (x.flatten(1).mean(1) - self.get_buffer("mean")).abs()

        def expected(self) -> set[str]:
            return {"mean"}

    detector = Brightness().fit(images((0.2, 0.4), (0.6, 0.8)), torch.tensor([0, 1]))
    np.testing.assert_allclose(detector(images((0.9, 0.7), (0.0, 0.0))), [0.3, 0.5], rtol=1e-6)
    assert detector.fitted


def test_the_table_of_detectors() -> None:
    assert {"kernel density": KernelDensity, "LID": LID, "Mahalanobis": Mahalanobis} == DETECTORS
