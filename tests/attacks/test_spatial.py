"""StAdv: flows by hand, within their bound, smooth if wanted, and enough to break a classifier of positions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from art_ext.attacks import spatial, stadv
from art_ext.attacks.search import Attempt, Update, roughness
from art_ext.attacks.spatial import flow_images


def constant_flow(x: Tensor, right: float, down: float) -> Tensor:
    """In pixels."""
    height, width = x.shape[2:]
    unit = torch.tensor([2 * right / width, 2 * down / height], dtype=x.dtype)
    return unit.view(1, 2, 1, 1).expand(len(x), 2, height, width)


def test_no_flow_gives_the_images_back() -> None:
    x = torch.rand(2, 3, 28, 31)
    torch.testing.assert_close(flow_images(x, torch.zeros(2, 2, 28, 31)), x, atol=1e-5, rtol=0)


def test_flow_by_whole_pixels_is_a_roll_inside() -> None:
    x = torch.rand(2, 3, 4, 6, dtype=torch.float64)
    right = flow_images(x, constant_flow(x, 1, 0))  # each pixel comes from its right neighbour
    torch.testing.assert_close(right[..., :-1], torch.roll(x, -1, 3)[..., :-1])
    torch.testing.assert_close(right[..., -1], x[..., -1])  # not black
    up = flow_images(x, constant_flow(x, 0, -2))
    torch.testing.assert_close(up[:, :, 2:], torch.roll(x, 2, 2)[:, :, 2:])
    torch.testing.assert_close(up[:, :, :2], x[:, :, :1].expand(-1, -1, 2, -1))


def test_flow_between_pixels_is_bilinear_and_per_pixel() -> None:
    x = torch.tensor([[0.0, 0.4, 0.2], [1.0, 0.6, 0.8]], dtype=torch.float64).view(1, 1, 2, 3)
    flow = torch.zeros(1, 2, 2, 3, dtype=torch.float64)
    flow[0, 0, 0, 0] = 0.25 * 2 / 3  # a quarter of a pixel to the right: 0.75 * 0.0 + 0.25 * 0.4
    flow[0, 1, 0, 1] = 0.5 * 2 / 2  # half a pixel down: the mean of 0.4 and 0.6
    flow[0, :, 1, 2] = torch.tensor([-2 / 3 / 2, -1 / 2])  # half a pixel left and up: the mean of four
    expected = [[0.1, 0.5, 0.2], [1.0, 0.6, 0.5]]
    torch.testing.assert_close(flow_images(x, flow)[0, 0], torch.tensor(expected, dtype=torch.float64))


def test_a_flow_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected a flow of shape \(1, 2, 3, 4\), got shape \(1, 3, 4, 2\)"):
        flow_images(torch.rand(1, 3, 3, 4), torch.zeros(1, 3, 4, 2))


def slope(v: Tensor) -> Tensor:
    """Two logits that tell where the light is."""
    place = torch.arange(v.shape[3], dtype=v.dtype) - (v.shape[3] - 1) / 2
    score = 100 * (v * place).flatten(1).sum(1)
    return torch.stack([-score, score], 1)


def spots() -> tuple[Tensor, Tensor]:
    """Blurred spots, 0.4 pixels left (0) or right (1) of the middle."""
    y = torch.arange(6) % 2
    columns = torch.arange(12.0) - 5.5 - 0.8 * (y[:, None] - 0.5)
    rows = torch.arange(10.0) - 4.5
    return (-(columns[:, None, :] ** 2 + rows[None, :, None] ** 2) / 4).exp()[:, None], y


@pytest.fixture
def flows(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    seen: list[Tensor] = []

    def recorded(x: Tensor, flow: Tensor) -> Tensor:
        seen.append(flow.detach().clone())
        return flow_images(x, flow)

    monkeypatch.setattr(spatial, "flow_images", recorded)
    return seen


def test_breaks_a_classifier_of_positions_within_the_bound(flows: list[Tensor]) -> None:
    x, y = spots()
    assert bool((slope(x).argmax(1) == y).all())
    bound = 2 / 12  # one pixel
    noise = torch.empty(6, 2, 10, 12).uniform_(-bound, bound)
    assert bool((slope(flow_images(x, noise)).argmax(1) == y).all())  # the budget alone does not do it
    x_adv = stadv(slope, x, y, bound=bound, steps=40, step_size=0.02)
    assert bool((slope(x_adv).argmax(1) != y).all())
    largest = [float(flow.abs().max()) for flow in flows]
    assert 0 < largest[0] <= bound / 10  # the random start
    assert max(largest) == pytest.approx(bound, rel=1e-6)
    small = stadv(slope, x, y, bound=0.01, steps=40, step_size=0.02)
    assert bool((slope(small).argmax(1) == y).all())


def test_targeted_helps_the_class_wanted() -> None:
    x, y = spots()
    towards = stadv(slope, x, 1 - y, bound=2 / 12, steps=40, step_size=0.02, targeted=True)
    assert bool((slope(towards).argmax(1) == 1 - y).all())


def test_smoothness_is_a_penalty_per_bound(flows: list[Tensor]) -> None:
    x, y = spots()
    found = []
    for smoothness in (0.0, 2.0, 1e6):
        stadv(slope, x, y, bound=0.1, steps=30, smoothness=smoothness)
        found.append(float(roughness(flows[-1]).mean()))
    assert found[1] < 0.8 * found[0]
    assert found[2] < 0.3 * found[0]


def test_the_penalty_is_divided_by_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    objectives: list[Tensor] = []

    def first(x: Tensor, variable: Tensor, attempt: Attempt, update: Update, steps: int) -> Tensor:
        with torch.no_grad():
            variable.zero_()
            variable[:, 0, 0, 0] = 0.01  # a corner: two neighbours, both ends
            _, margin, objective = attempt(variable)
        objectives.append(margin - objective)
        return x

    monkeypatch.setattr(spatial, "best_iterate", first)
    stadv(lambda v: v.new_zeros(len(v), 2), *spots(), bound=0.05, smoothness=0.5)
    # 0.5 / 0.05 times two pairs that differ by 0.01 and 10 * 11 + 9 * 12 - 2 = 216 that do not, each from both ends
    assert objectives[0].tolist() == pytest.approx([10 * (0.04 + 2 * 216 * 1e-5)] * 6, rel=1e-3)
