"""What the paper measures of a CD-VAE, on cases small enough to work out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from art_ext.purifiers import CDVAE
from art_ext.purifiers.cdvae import (
    cosine,
    cross_classification,
    decompose,
    frechet_distance,
    latent_correlation,
    part_norms,
    reconstruction_accuracy,
    trade_off,
)


@pytest.fixture
def purifier() -> CDVAE:
    """G(x) is half of x, whatever its weights."""
    made = CDVAE(**CDVAE.small).eval().requires_grad_(False)
    made.redundant = lambda x: x / 2  # type: ignore[method-assign]
    return made


def test_decomposition_by_hand(purifier: CDVAE) -> None:
    x = torch.full((2, 3, 8, 12), 0.6)
    x_adv = torch.full((2, 3, 8, 12), 0.8)
    parts = decompose(purifier, x, x_adv)
    assert {k: round(v.mean().item(), 6) for k, v in parts.items()} == {
        "x": 0.6, "G(x)": 0.3, "R(x)": 0.3, "x'": 0.8, "G(x')": 0.4, "R(x')": 0.4,
        "delta": -0.2, "delta_G": -0.1, "delta_R": -0.1,
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"shape \(2, 3, 8, 12\), got \(1, 3, 8, 12\)"):
        decompose(purifier, x, x_adv[:1])


def test_the_parts_of_a_real_one_sum_to_the_whole() -> None:
    purifier, x = CDVAE(**CDVAE.small).eval(), torch.rand(3, 3, 8, 12)
    x_adv = (x + 0.1 * torch.randn_like(x)).clamp(0, 1)
    parts = decompose(purifier, x, x_adv)
    assert not any(v.requires_grad for v in parts.values())
    assert torch.equal(parts["R(x')"], x_adv - purifier.redundant(x_adv))
    assert torch.allclose(parts["delta_G"] + parts["delta_R"], parts["delta"], atol=1e-6)
    assert torch.equal(parts["delta"], x - x_adv)


def test_norms_of_each_image_by_hand() -> None:
    images = torch.zeros(2, 1, 2, 2)
    images[0, 0] = torch.tensor([[3.0, -4.0], [0.0, 0.0]])
    found = part_norms({"delta": images})["delta"]
    assert {k: v.tolist() for k, v in found.items()} == {"L1": [7, 0], "L2": [5, 0], "Linf": [4, 0]}


def test_cosine_by_hand() -> None:
    a = torch.tensor([[1.0, 0], [1, 1], [0, 0]]).view(3, 1, 1, 2)
    b = torch.tensor([[-2.0, 0], [1, 0], [1, 0]]).view(3, 1, 1, 2)
    assert cosine(a, b).tolist() == pytest.approx([-1, 1 / math.sqrt(2), 0])


def test_frechet_distance_by_hand() -> None:
    # Four points u, -u, v, -v have the covariance 2/3 (u u' + v v'): here 2/3 times diag(4, 1) and [[2, 1], [1, 2]].
    a = torch.tensor([[2.0, 0], [-2, 0], [0, 1], [0, -1]])
    root = math.sqrt(2)
    b = torch.tensor([[root, 1 / root], [-root, -1 / root], [0, math.sqrt(1.5)], [0, -math.sqrt(1.5)]])
    # The root of a 2 x 2 matrix M has the trace sqrt(tr M + 2 sqrt(det M)); of their product it is that of 10 and 12.
    apart = 2 / 3 * (5 + 4 - 2 * math.sqrt(10 + 2 * math.sqrt(12)))
    assert frechet_distance(a, b) == pytest.approx(apart, rel=1e-6)
    assert frechet_distance(b, a + torch.tensor([3.0, 4])) == pytest.approx(25 + apart, rel=1e-6)
    assert frechet_distance(a, a.repeat(2, 1) / math.sqrt(6 / 7)) == pytest.approx(0, abs=1e-9)  # the same covariance
    for bad in (a[:1], a[0], a[:, :1]):
        with pytest.raises(ValueError, match="at least 2 images each"):
            frechet_distance(bad, b)


def test_correlation_of_each_latent_by_hand() -> None:
    # The first grows with it, the second against it, the third is orthogonal to it after the means, the last is still.
    z = torch.tensor([[0.0, 0, 1, 5], [1, 1, 0, 5], [2, 2, 1, 5]])
    z_adv = torch.tensor([[10.0, 3, 0, 1], [30, 2, 7, 2], [50, 1, 14, 3]])
    assert latent_correlation(z, z_adv).tolist() == pytest.approx([1, -1, 0, 0], abs=1e-6)
    for bad in (z[:1], z[0]):
        with pytest.raises(ValueError, match="at least 2 images"):
            latent_correlation(bad, bad)


def test_cross_classification_by_hand() -> None:
    """One classifier reads the first pixel, the other always says 2."""

    def first(v: Tensor) -> Tensor:
        return torch.eye(3)[v[:, 0, 0, 0].long()] + torch.tensor([0.3, 0.2, 0.1])

    def two(v: Tensor) -> Tensor:
        return torch.tensor([0.0, 1.0, 2.0]).repeat(len(v), 1)

    y = torch.tensor([0, 1, 2, 1])
    right, zero = y.view(4, 1, 1, 1).float(), torch.zeros(4, 1, 1, 1)
    found = cross_classification({"x": first, "R": two}, {"x": right, "R": zero}, y, batch_size=3)
    assert found == {"x": {"x": 1.0, "R": 0.25}, "R": {"x": 0.25, "R": 0.25}}
    assert cross_classification({"R": two}, {"x": right}, y, top=2)["R"]["x"] == 0.75


def test_reconstruction_accuracy_by_hand() -> None:
    x = torch.tensor([[3.0, 4], [3, 4]]).view(2, 1, 1, 2)
    redundant = torch.tensor([[3.0, 3], [0, 0]]).view(2, 1, 1, 2)
    assert reconstruction_accuracy(x, redundant).tolist() == pytest.approx([0.8, 0])  # 1 - 1/5
    assert reconstruction_accuracy(x, redundant, squared=True).tolist() == pytest.approx([0.96, 0])


def test_trade_off_has_a_row_for_each_gamma(purifier: CDVAE) -> None:
    x, y = torch.rand(4, 3, 8, 12) / 2 + 0.1, torch.tensor([0, 0, 0, 1])
    x_adv = x + 0.3

    class Threshold(nn.Module):
        """Class 1 beyond a mean of pixels."""

        def __init__(self, at: float) -> None:
            super().__init__()
            self.at = at

        def forward(self, v: Tensor) -> Tensor:
            return torch.stack([torch.full((len(v),), self.at), v.mean((1, 2, 3))], 1)

    purifier.forward = lambda v: v / 2  # type: ignore[method-assign]
    purifier.residual_classifier = Threshold(-1.0)  # always 1: a quarter
    at = float(x_adv.mean() / 2)
    defence = float(((x_adv / 2).mean((1, 2, 3)) > at).eq(y).float().mean())
    rows = trade_off(
        {2.0: purifier, 0.2: purifier}, x, y, x_adv=x_adv, classifiers=dict.fromkeys((0.2, 2.0), Threshold(at)),
        detection=lambda p: 0.75,
    )  # fmt: skip
    assert [row.pop("gamma") for row in rows] == [0.2, 2.0]
    expected = {"classification": 0.25, "reconstruction": 0.5, "clean": 0.75, "defence": defence, "detection": 0.75}
    standardised = 1 - (x / 2).square().sum((1, 2, 3)) / (x - 0.5).square().sum((1, 2, 3))  # the std cancels
    expected["reconstruction, released"] = float(standardised.mean())
    assert rows == [pytest.approx(expected)] * 2
    fewer = {"gamma", "classification", "reconstruction", "reconstruction, released"}
    assert set(trade_off({2.0: purifier}, x, y)[0]) == fewer
    with pytest.raises(ValueError, match=r"got none for \[2.0\]"):
        trade_off({2.0: purifier}, x, y, classifiers={})
    purifier.residual_classifier = None
    with pytest.raises(ValueError, match="classifiers of residuals"):
        trade_off({2.0: purifier}, x, y)
