"""Attacks that know the detector: losses and directions by hand, and a toy detector that falls to them alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from art_ext.attacks import L2, Linf, Loss, ascent, margin, pgd
from art_ext.detectors import (
    LayerFeatures,
    Mahalanobis,
    evades,
    feature_matching,
    joint,
    nearest_guides,
    orthogonal,
    threshold_at,
)

from .toys import Pixels, images, two_classes


def linear(*weights: float, bias: float = 0.0) -> Loss:
    """A loss whose gradient is known."""
    return lambda x: x.flatten(1) @ torch.tensor(weights, dtype=x.dtype) + bias


X = images((0.5, 0.5), (0.1, 0.2), (0.9, 0.4))


def test_the_joint_loss_by_hand() -> None:
    fooling, score = linear(1, 2), linear(3, 0)
    # 1.5 - 0.5 * 1.5; 0.5 - 0.5 * 0.3; 1.7 - 0.5 * 2.7
    torch.testing.assert_close(joint(fooling, score, 0.5)(X), torch.tensor([0.75, 0.35, 0.35]))
    # Scores 1.5, 0.3 and 2.7 are above 1 by 0.5, 0 and 1.7.
    assert torch.allclose(joint(fooling, score, 0.5, threshold=1.0)(X), torch.tensor([1.25, 0.5, 0.85]))
    gradient = ascent(joint(fooling, score, 0.5, threshold=1.0))(X).flatten(1)
    torch.testing.assert_close(gradient, torch.tensor([[-0.5, 2.0], [1.0, 2.0], [-0.5, 2.0]]))
    with pytest.raises(ValueError, match="weight >= 0"):
        joint(fooling, score, -1)


def test_the_orthogonal_direction_by_hand() -> None:
    # Gradients (1, 2) and (3, 4). The first image is not fooled (0.5 + 1 - 1.6 < 0), the third is.
    fooling, score = linear(1, 2, bias=-1.6), linear(3, 4)
    found = orthogonal(fooling, score)(X).flatten(1)
    # (1, 2) without its part along (3, 4) / 5: 11 / 25 (3, 4) = (1.32, 1.76).
    torch.testing.assert_close(found[0], torch.tensor([-0.32, 0.24]), atol=1e-6, rtol=0)
    # -(3, 4) without its part along (1, 2) / sqrt 5: -(3, 4) + 11 / 5 (1, 2).
    torch.testing.assert_close(found[2], torch.tensor([-0.8, 0.4]), atol=1e-6, rtol=0)
    torch.testing.assert_close(found[:2] @ torch.tensor([3.0, 4.0]), torch.zeros(2), atol=1e-5, rtol=0)
    assert float(found[2] @ torch.tensor([1.0, 2.0])) == pytest.approx(0, abs=1e-5)
    assert bool((found[:2] @ torch.tensor([1.0, 2.0]) > 0).all())  # the classifier's loss rises
    assert float(found[2] @ torch.tensor([3.0, 4.0])) < 0  # the score falls
    selective = orthogonal(fooling, score, project=False)(X).flatten(1)
    torch.testing.assert_close(selective, torch.tensor([[1.0, 2.0], [1.0, 2.0], [-3.0, -4.0]]))


def test_tiny_and_missing_gradients_are_projected_too() -> None:
    fooling, tiny, none = linear(1, 2, bias=-9), linear(3e-25, 4e-25), linear(0, 0)
    torch.testing.assert_close(orthogonal(fooling, tiny)(X[:1]).flatten(), torch.tensor([-0.32, 0.24]))
    torch.testing.assert_close(orthogonal(fooling, none)(X[:1]).flatten(), torch.tensor([1.0, 2.0]))


def test_one_step_in_l2_raises_the_loss_and_keeps_the_score() -> None:
    fooling, score = linear(1, 2, bias=-9), linear(3, 4)
    x = X[:1]
    x_adv = pgd(orthogonal(fooling, score), x, norm=L2(), eps=0.1, steps=1, step_size=0.1, random_start=False)
    assert float(score(x_adv) - score(x)) == pytest.approx(0, abs=1e-6)
    assert float(fooling(x_adv) - fooling(x)) == pytest.approx(0.1 * (-0.8 * 1 + 0.6 * 2), abs=1e-6)


def test_evades_is_positive_where_both_are_fooled() -> None:
    # Fooled by 0.1, -0.6 and 0.4; scores 0.5, 0.1 and 0.9, so (0.8 - score) / 2 is 0.15, 0.35 and -0.05.
    found = evades(linear(1, 1, bias=-0.9), linear(1, 0), 0.8, scale=2.0)(X)
    torch.testing.assert_close(found, torch.tensor([0.1, -0.6, -0.05]), atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="scale > 0"):
        evades(linear(1, 1), linear(1, 0), 0.0, scale=0.0)


def test_guides_are_the_nearest_of_another_class() -> None:
    x, y = images((0.5, 0.4), (0.0, 0.9)), torch.tensor([0, 1])
    pool = images((0.5, 0.45), (0.4, 0.5), (0.1, 0.9), (0.3, 0.2))
    pool_y = torch.tensor([0, 1, 1, 0])
    features = LayerFeatures(two_classes(), ["first"]).joined
    # Of class 1 the second is nearest; of class 0 (0.3, 0.2) at 0.76 from (0, 0.9), (0.5, 0.45) at 0.67.
    assert torch.equal(nearest_guides(features, x, y, pool, pool_y), pool[[1, 0]])
    # By twice the second pixel alone it is the same but for the distances along it.
    second = LayerFeatures(Pixels(torch.tensor([[1.0, 0.0], [0.0, 1.0]])), ["head"]).joined
    assert torch.equal(nearest_guides(second, x, y, pool, pool_y), pool[[1, 0]])
    with pytest.raises(ValueError, match="other classes than the labels"):
        nearest_guides(features, x, y, pool[:1], pool_y[:1])


def test_feature_matching_by_hand() -> None:
    features = LayerFeatures(two_classes(), ["first", "second"]).joined
    loss = feature_matching(features, images((0.7, 0.5)))
    # Features (0.5, 0.5, 1, 1) against (0.7, 0.5, 1.4, 1): squares 0.04 + 0.16 over 4.
    assert float(loss(X[:1])) == pytest.approx(-0.05)
    x_adv = pgd(ascent(loss), X[:1], norm=Linf(), eps=0.3, steps=40, step_size=0.01, random_start=False)
    torch.testing.assert_close(x_adv, images((0.7, 0.5)), atol=0.011, rtol=0)


def test_a_detector_that_stops_pgd_falls_to_those_who_know_it() -> None:
    """The third pixel hardly varies in clean images: PGD moves it with the others, and need not."""
    torch.manual_seed(0)
    network = Pixels(torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]))

    def clean(n: int) -> Tensor:
        pixels = torch.tensor([0.65, 0.3, 0.15]) + torch.randn(n, 3) * torch.tensor([0.08, 0.08, 0.005])
        return pixels[:, None, None]

    detector = Mahalanobis(network, ["first"]).fit(clean(500), torch.zeros(500, dtype=torch.int64))
    threshold = threshold_at(detector.scores(clean(500)), 0.05)
    y = torch.zeros(40, dtype=torch.int64)
    fooling, score, x = margin(network, y), detector.scores, clean(40)

    def broken(x_adv: Tensor) -> Tensor:
        return (fooling(x_adv) > 0) & (score(x_adv) <= threshold)

    steps: dict[str, Any] = {"steps": 100, "step_size": 0.004, "random_start": False}
    blind = pgd(ascent(fooling), x, norm=Linf(), eps=0.15, **steps)
    assert float((fooling(blind) > 0).float().mean()) > 0.9
    assert float(broken(x).float().mean()) <= 0.05
    assert not broken(blind).any()
    steps |= {"score": evades(fooling, score, threshold, scale=threshold)}
    # At weight w the first two pixels rest at 0.08^2 / 2 w from their means: an image falls to the weight that fits it.
    weights = (0.005, 0.01, 0.02, 0.03, 0.05)
    joints = [broken(pgd(ascent(joint(fooling, score, w)), x, norm=Linf(), eps=0.15, **steps)) for w in weights]
    found = {
        "joint": torch.stack(joints).any(0),
        "orthogonal": broken(pgd(orthogonal(fooling, score), x, norm=L2(), eps=0.25, **steps)),
        "selective": broken(pgd(orthogonal(fooling, score, project=False), x, norm=L2(), eps=0.25, **steps)),
    }
    assert all(float(flags.float().mean()) >= 0.8 for flags in found.values()), {
        k: float(v.float().mean()) for k, v in found.items()
    }
