"""Losses of half-precision logits, which tie often and end early."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from art_ext.attacks import cross_entropy, dlr, logit_margin, margin
from art_ext.attacks.losses import dlr_targeted
from art_ext.evaluation.targets import Guarded

HALVES = [torch.float16, torch.bfloat16]
Y = torch.tensor([0])


def given(logits: list[float], dtype: torch.dtype) -> Tensor:
    return torch.tensor([logits]).to(dtype)


def same(x: Tensor) -> Tensor:
    return x


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(
    ("logits", "expected_margin", "expected_dlr"),
    [
        ([2.0, 2.0, 1.0, 0.0], 0.0, 0.0),  # the label ties with another: not misclassified by a margin
        ([2.0, 1.0, 1.0, 0.0], -1.0, -1.0),  # a tie behind the label
        ([1.0, 2.0, 2.0, 0.0], 1.0, 1.0),  # of two other classes: z1 - z3 is 2 - 1
        ([1.0, 1.0, 1.0, 0.0], 0.0, 0.0),  # of three, the label among them
        ([40000.0, -40000.0, -40000.0, -40000.0], -80000.0, -1.0),  # the difference is beyond float16
        ([1.0, 1.0078125, 0.5, 0.0], 2.0**-7, 2.0**-7 / (0.5 + 2.0**-7)),  # the last place of bfloat16
    ],
)
def test_values_at_ties_and_ends(
    dtype: torch.dtype, logits: list[float], expected_margin: float, expected_dlr: float
) -> None:
    z = given(logits, dtype)
    wide = z.float()
    if z[0, 0] < 40000 * 0.9 or dtype is torch.float16:
        assert float(margin(same, Y)(z)) == expected_margin
    assert float(margin(same, Y)(z)) == float(wide[0, 1:].max() - wide[0, 0])
    assert float(dlr(same, Y)(z)) == pytest.approx(expected_dlr, rel=1e-6)
    assert logit_margin(z, Y).dtype == torch.float32


@pytest.mark.parametrize("dtype", HALVES)
def test_the_margin_of_half_precision_is_not_rounded_again(dtype: torch.dtype) -> None:
    """2049 - 1/16 has no place in float16; the loss is that of the same logits in float32."""
    z = given([0.0625, 2048.0, 3.0, 1.0], dtype)
    for loss in (margin(same, Y), dlr(same, Y), cross_entropy(same, Y), dlr_targeted(same, Y, torch.tensor([1]))):
        assert torch.equal(loss(z), loss(z.float()))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("logits", [[1.0, 1.0, 1.0, 0.0], [0.0] * 4, [1e-3, 1e-3, 0.000999, 0.0], [2.0, 1.0, 1.0, 0.0]])
def test_the_gradient_of_a_guarded_network_is_finite_and_points_as_in_float32(
    dtype: torch.dtype, logits: list[float]
) -> None:
    class Network(nn.Module):
        def __init__(self, dtype: torch.dtype) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.eye(4, dtype=dtype), requires_grad=False)

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) @ self.weight

    x = given(logits, dtype).float().view(1, 1, 2, 2).requires_grad_()
    for loss in (dlr, margin):
        gradients = [
            torch.autograd.grad(loss(Guarded(Network(d), "network"), Y)(x).sum(), x)[0].flatten()
            for d in (dtype, torch.float32)
        ]
        assert all(bool(torch.isfinite(g).all()) for g in gradients)
        torch.testing.assert_close(*(g / g.norm() for g in gradients), rtol=0.01, atol=0.01)
