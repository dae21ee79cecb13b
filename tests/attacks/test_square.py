"""Square: the schedule, pyramids and proposals by hand, the search, randomised models, the ball and the box."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.attacks.norms import L1, L2, Linf, Norm
from art_ext.attacks.square import pyramids, side, square
from art_ext.nn import predicted

ZERO = torch.zeros(1, dtype=torch.long)
NORMS = pytest.mark.parametrize("norm", [Linf(), L2()], ids=["Linf", "L2"])


def logits(margin: Tensor) -> Tensor:
    """Of class 0 and 1, so that this is the margin of images of class 0."""
    return torch.stack((torch.zeros_like(margin), margin), 1)


class Seen:
    """A model of this margin that remembers its images and answers."""

    def __init__(self, margin: Any) -> None:
        self.margin, self.calls, self.margins = margin, [], []

    def __call__(self, v: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        self.calls.append(v.clone())
        self.margins.append(self.margin(v))
        return logits(self.margins[-1])

    def sizes(self) -> list[int]:
        return [len(v) for v in self.calls]


class Script(Seen):
    """A model of one image whose margins come from a list, whatever the image; the last one serves for ever."""

    def __init__(self, *margins: float) -> None:
        self.left = [float(margin) for margin in margins]
        super().__init__(lambda v: torch.tensor([self.left.pop(0) if self.left[1:] else self.left[0] for _ in v]))


def never(v: Tensor) -> Tensor:
    return v.flatten(1).sum(1) * 0 - 1


def noise(v: Tensor) -> Tensor:
    return torch.rand(len(v)) - 2


@pytest.mark.parametrize(
    ("query", "queries", "expected"),
    [
        (0, 10000, 25),  # sqrt(0.8 * 784) = 25.04
        (10, 10000, 25),
        (11, 10000, 18),  # halved once: 17.71
        (50, 10000, 18),
        (51, 10000, 13),  # 12.52
        (500, 10000, 9),  # 8.85
        (501, 10000, 6),  # 6.26
        (8000, 10000, 2),  # 1.57
        (8001, 10000, 1),
        (1, 1000, 25),
        (2, 1000, 18),  # as the 20th of 10000
        (801, 1000, 1),
    ],
)
def test_side_by_hand(query: int, queries: int, expected: int) -> None:
    assert side(query, queries, 0.8, 28, 28) == expected


def test_side_fits_the_image() -> None:
    assert side(0, 100, 1.0, 4, 40) == 4
    assert side(0, 100, 1.0, 40, 4) == 4
    assert side(0, 100, 0.25, 8, 18) == 6
    assert side(100, 100, 0.01, 3, 3) == 1


def test_pyramids_by_hand() -> None:
    assert pyramids(1).tolist() == [[-1]]
    # One layer of 1 + 1/4 about the centre, 1/4 around it; squares add up to 2 * (1/16 + 25/16).
    torch.testing.assert_close(pyramids(2), torch.tensor([[0.25, 1.25], [-0.25, -1.25]]) / 3.25**0.5)
    # The lower pyramid of 5: 3 x 5, the centre 1 + 1/4 + 1/9, then 1/4 + 1/9, then 1/9; the upper one has 2 x 5.
    a, b, c = 1 + 1 / 4 + 1 / 9, 1 / 4 + 1 / 9, 1 / 9
    upper = [[c, b, b, b, c], [c, b, a, b, c]]
    lower = [[c, b, b, b, c], [c, b, a, b, c], [c, b, b, b, c]]
    both = torch.tensor(upper + [[-v for v in line] for line in lower])
    torch.testing.assert_close(pyramids(5), both / both.norm())


def test_linf_begins_with_stripes_and_changes_one_square() -> None:
    x = torch.rand(6, 2, 5, 8) * 0.6 + 0.2
    model = Seen(noise)
    square(model, x, torch.zeros(6, dtype=torch.long), norm=Linf(), eps=0.1, queries=40)
    start = model.calls[1] - x
    torch.testing.assert_close(start.abs(), torch.full_like(x, 0.1))
    torch.testing.assert_close(start, start[:, :, :1].expand_as(x))
    assert (start.flatten(1).amin(1) < 0).all()
    assert (start.flatten(1).amax(1) > 0).all()
    best, value = model.calls[1], model.margins[1]
    for query, (tried, margin) in enumerate(zip(model.calls[2:], model.margins[2:], strict=True), 1):
        size = side(query, 40, 0.8, 5, 8)
        torch.testing.assert_close((tried - x).abs(), torch.full_like(x, 0.1))
        changed = (tried != best).any(1)
        assert changed.flatten(1).any(1).all()  # none is wasted
        for i in range(6):
            rows, columns = changed[i].nonzero().unbind(1)
            assert int(rows.max() - rows.min()) < size
            assert int(columns.max() - columns.min()) < size
            square_at = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
            for channel in (tried - x)[i]:
                inside = channel[square_at].sign()
                assert (inside == inside[0, 0]).all() or not changed[i].all()
        better = margin > value
        best, value = torch.where(better.view(-1, 1, 1, 1), tried, best), torch.where(better, margin, value)


def test_every_place_is_tried_and_each_image_has_its_own() -> None:
    x = torch.full((64, 1, 4, 5), 0.5)
    for norm in (Linf(), L2()):
        seen = torch.zeros(4, 5, dtype=torch.bool)
        model = Seen(never)
        square(model, x, torch.zeros(64, dtype=torch.long), norm=norm, eps=0.1, queries=20, share=0.05)
        start = model.calls[1]
        for tried in model.calls[2:]:
            changed = ((tried - start).abs() > 1e-6).any(1)
            assert len(changed.unique(dim=0)) > 5
            seen |= changed.any(0)
        assert seen.all()


def test_l2_begins_with_a_grid_and_keeps_its_length() -> None:
    x, eps = torch.full((7, 3, 11, 13), 0.5), 0.4
    model = Seen(noise)
    square(model, x, torch.zeros(7, dtype=torch.long), norm=L2(), eps=eps, queries=60)
    start = model.calls[1] - x
    # Tiles of side 2, five down and six across; the rest of 1 row and 1 column lies at the end.
    assert not start[:, :, 10:].any()
    assert not start[..., 12:].any()
    tiles = start[:, :, :10, :12].unfold(2, 2, 2).unfold(3, 2, 2).reshape(-1, 2, 2)
    tiles = tiles / tiles.flatten(1).norm(dim=1).view(-1, 1, 1)
    kinds = torch.stack([sign * tile for sign in (1, -1) for tile in (pyramids(2), pyramids(2).T)])
    assert set((tiles[:, None] - kinds).abs().flatten(2).amax(2).min(1).indices.tolist()) == {0, 1, 2, 3}
    assert (tiles[:, None] - kinds).abs().flatten(2).amax(2).amin(1).max() < 1e-5
    for tried in model.calls[1:]:
        torch.testing.assert_close((tried - x).flatten(1).norm(dim=1), torch.full((7,), eps), rtol=1e-4, atol=0)


@pytest.mark.parametrize("grey", [0.5, 0.0])
def test_l2_moves_length_from_one_square_to_another(grey: float) -> None:
    x = torch.full((50, 1, 9, 9), grey)  # of black images the box cuts off what darkens; it is spent in the square
    model = Seen(never)
    square(model, x, torch.zeros(50, dtype=torch.long), norm=L2(), eps=0.4, queries=12, share=0.1)
    start = model.calls[1] - x
    for tried in model.calls[2:]:
        delta = tried - x
        emptied = ((start.abs() > 1e-6) & (delta.abs() < 1e-7)).flatten(1).sum(1)
        kept = ((delta - start).abs() < 1e-6).flatten(1).sum(1)
        assert (emptied <= (9 if grey else 18)).all()
        assert (emptied > 0).any()
        assert (kept >= 81 - 18).all()


@NORMS
def test_keeps_the_largest_margin_and_the_clean_image_where_that_is_largest(norm: Norm) -> None:
    weight = torch.randn(3, 4, 5)
    x, y = torch.rand(5, 3, 4, 5), torch.zeros(5, dtype=torch.long)
    model = Seen(lambda v: (v * weight).flatten(1).sum(1) - 100)
    found = square(model, x, y, norm=norm, eps=0.1, queries=30, restarts=2)
    best = torch.stack(model.margins).amax(0)
    torch.testing.assert_close((found * weight).flatten(1).sum(1) - 100, best)
    assert model.sizes() == [5] * 61  # the clean images and one pass a query
    clean = Seen(lambda v: -1 - (v - x).abs().flatten(1).sum(1))
    assert torch.equal(square(clean, x, y, norm=norm, eps=0.1, queries=30), x)


def test_reaches_the_corner_of_a_linear_model() -> None:
    weight = torch.randn(2, 4, 4)
    x = torch.full((10, 2, 4, 4), 0.5)
    found = square(
        lambda v: logits((v * weight).flatten(1).sum(1) - 100), x, ZERO.repeat(10), norm=Linf(), eps=0.1, queries=600
    )
    gain = ((found - x) * weight).flatten(1).sum(1)
    assert gain.min() > 0.97 * 0.1 * float(weight.abs().sum())


def test_l2_comes_near_the_best_direction_of_a_linear_model() -> None:
    weight = torch.zeros(1, 8, 8)
    weight[0, 1:4, 2:5] = pyramids(3)
    x = torch.full((10, 1, 8, 8), 0.5)
    found = square(
        lambda v: logits((v * weight).flatten(1).sum(1) - 100), x, ZERO.repeat(10), norm=L2(), eps=0.3, queries=600
    )
    share = ((found - x) * weight).flatten(1).sum(1) / 0.3
    assert share.min() > 0.8
    assert share.mean() > 0.9


def test_broken_images_leave_at_once() -> None:
    x, y = torch.tensor([0.9, 0.5, 0.1]).view(3, 1, 1, 1).expand(3, 1, 6, 6).clone(), torch.zeros(3, dtype=torch.long)
    x[1, 0, 0, 0] = 0.61
    model = Seen(lambda v: v.flatten(1).amax(1) - 0.65)
    found = square(model, x, y, norm=Linf(), eps=0.1, queries=50, restarts=2)
    assert model.margins[0].gt(0).tolist() == [True, False, False]
    assert torch.equal(found[0], x[0])
    assert float(found[1].max()) > 0.65
    sizes = model.sizes()
    assert sizes[:2] == [3, 2]
    assert sizes[-1] == 1
    assert len(sizes) == 101
    broken = [bool((m > 0).any()) for m in model.margins[1:]]
    after = broken.index(True) + 2
    assert set(sizes[1:after]) == {2}
    assert set(sizes[after:]) == {1}
    settled = Seen(lambda v: v.flatten(1).sum(1) * 0 + 1)
    assert torch.equal(square(settled, x, y, norm=L2(), eps=0.1), x)
    assert settled.sizes() == [3]


def test_logits_that_are_not_finite_are_wrong_answers() -> None:
    x, y = torch.full((2, 1, 4, 4), 0.5), torch.tensor([0, 0])
    found = square(lambda v: logits(never(v) + (v != 0.5).flatten(1).any(1) * torch.nan), x, y, norm=Linf(), eps=0.1)
    assert torch.equal(found, x)  # NaN everywhere: misclassified from the beginning
    model = Seen(lambda v: torch.where((v != 0.5).flatten(1).any(1), torch.nan, -1.0))
    found = square(model, x, y, norm=Linf(), eps=0.1)
    assert (found != x).flatten(1).any(1).all()
    assert model.sizes() == [2, 2]


IMAGE = torch.full((1, 1, 5, 5), 0.5)


def test_samples_are_averaged_and_the_image_kept_is_measured_anew() -> None:
    # Clean: mean -2. Start: mean -1. Then each call holds kept, tried, kept, tried.
    model = Script(-1, -3, -0.5, -1.5, -5, -4, -5, -4, -3, -6, -4, -2, -9, -7)
    found = square(model, IMAGE, ZERO, norm=Linf(), eps=0.1, queries=4, eot_samples=2)
    # The second beats the start, which was lucky at -1. The third loses: the means are -3.5 and -4. The fourth wins,
    # where the means are -8 and -7, though it is lower than all before; it is worth less than the clean image.
    assert model.sizes() == [2, 2, 4, 4, 4]
    assert torch.equal(found, IMAGE)
    assert torch.equal(model.calls[3][:1], model.calls[2][1:2])
    assert torch.equal(model.calls[4][:1], model.calls[2][1:2])


def test_a_randomised_model_is_broken_only_where_twenty_more_passes_are_wrong() -> None:
    # Start: 1 and 1, then -1: luck. Next: kept -1, tried 2 (mean of 1 and 3), then 2 for ever: broken.
    model = Script(-9, -9, 1, 1, -1, -1, 1, -1, 3, 2)
    found = square(model, IMAGE, ZERO, norm=Linf(), eps=0.1, queries=50, eot_samples=2)
    assert model.sizes() == [2, 2, 1, 4, *[1] * 20]
    assert torch.equal(found, model.calls[4])
    assert torch.equal(found, model.calls[3][1:2])
    almost = Script(-9, -9, 1, 1, *[1] * 19, -2)  # the twentieth is right
    square(almost, IMAGE, ZERO, norm=Linf(), eps=0.1, queries=2, eot_samples=2)
    assert almost.sizes() == [2, 2, *[1] * 20, 4]
    lucky = Script(1, 1, -1, -2)  # so is the clean image
    square(lucky, IMAGE, ZERO, norm=Linf(), eps=0.1, queries=2, eot_samples=2)
    assert lucky.sizes() == [2, 1, 2, 4]


def test_no_call_is_larger_than_at_once() -> None:
    x = torch.rand(3, 1, 5, 5)
    model = Seen(noise)
    square(model, x, ZERO.repeat(3), norm=L2(), eps=0.1, queries=3, eot_samples=5, at_once=12)
    # Clean and start: 4 copies, then 1; two queries: 2, 2 and 1 copies of three kept and three tried.
    assert model.sizes() == [12, 3] * 2 + [12, 12, 6] * 2


@NORMS
def test_stays_in_the_ball_and_the_box(norm: Norm) -> None:
    x, eps = torch.rand(5, 3, 7, 11).round(), {"Linf": 0.1, "L2": 0.8}[norm.name]
    model = Seen(noise)
    found = square(model, x, ZERO.repeat(5), norm=norm, eps=eps, queries=80, restarts=2)
    for v in (*model.calls, found):
        assert v.dtype == torch.float32
        assert v.shape == x.shape
        assert 0 <= v.min() <= v.max() <= 1
        assert norm.size(v - x).max() <= eps * (1 + 1e-5)


@NORMS
def test_each_image_gets_its_own_result_whenever_it_leaves(norm: Norm) -> None:
    weight, x = torch.randn(1, 6, 6), torch.rand(40, 1, 6, 6)
    eps = {"Linf": 0.1, "L2": 0.6}[norm.name]
    clean = (x * weight).flatten(1).sum(1)
    needed = torch.linspace(-0.2, 4, 40)  # from broken at the beginning to never

    def model(v: Tensor) -> Tensor:  # an image is known by the nearest clean one
        own = (v[:, None] - x[None]).abs().flatten(2).sum(2).argmin(1)
        return (v * weight).flatten(1).sum(1) - clean[own] - needed[own]

    seen = Seen(model)
    found = square(seen, x, torch.zeros(40, dtype=torch.long), norm=norm, eps=eps, queries=60)
    assert norm.size(found - x).max() <= eps * (1 + 1e-5)
    gain = model(found) + needed
    broken = gain > needed
    assert torch.equal(found[needed < 0], x[needed < 0])
    assert len(set(seen.sizes())) > 5
    assert int((seen.margins[-1] <= 0).sum()) == int((~broken).sum()) > 0


@NORMS
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 5), (3, 4, 1), (2, 6, 4)])
def test_small_images(norm: Norm, shape: tuple[int, ...]) -> None:
    x = torch.rand(2, *shape)
    found = square(Seen(noise), x, ZERO.repeat(2), norm=norm, eps=0.1, queries=30)
    assert found.isfinite().all()
    assert norm.size(found - x).max() <= 0.1001


@NORMS
def test_no_images_no_queries_no_radius(norm: Norm) -> None:
    x, y = torch.rand(2, 1, 5, 5), torch.zeros(2, dtype=torch.long)
    none = Seen(never)
    assert square(none, x[:0], y[:0], norm=norm, eps=0.1).shape == (0, 1, 5, 5)
    assert not none.calls
    assert torch.equal(square(none, x, y, norm=norm, eps=0.1, queries=0), x)
    assert none.sizes() == [2]
    assert torch.equal(square(Seen(noise), x, y, norm=norm, eps=0.0, queries=9), x)


def test_leaves_no_trace_and_draws_from_the_ambient_generator() -> None:
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(50, 4)), torch.rand(3, 2, 5, 5).requires_grad_()
    y, before = predicted(model(x)), x.detach().clone()
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(square(model, x, y, norm=Linf(), eps=0.05, queries=20))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(square(model, x, y, norm=Linf(), eps=0.05, queries=20), found[0])
    assert not torch.equal(found[0], before)
    assert not found[0].requires_grad
    assert torch.equal(x, before)
    assert torch.is_grad_enabled()
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert model.training


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"norm": L1()}, "expected norm Linf or L2, got L1"),
        ({"eps": -0.1}, "expected eps >= 0, queries >= 0 and restarts >= 1, got eps=-0.1"),
        ({"eps": float("inf")}, "got eps=inf"),
        ({"queries": -1}, "queries=-1"),
        ({"restarts": 0}, "restarts=0"),
        ({"share": 0.0}, r"expected share in \(0, 1\], got 0.0"),
        ({"eot_samples": 0}, "expected eot_samples >= 1 and at_once >= 1, got eot_samples=0"),
        ({"at_once": 0}, "at_once=0"),
        ({"y": torch.zeros(2, dtype=torch.long)}, r"expected labels of shape \(1,\)"),
    ],
)
def test_bad_arguments(bad: dict[str, Any], message: str) -> None:
    model = Seen(never)
    with pytest.raises(ValueError, match=message):
        square(model, **{"x": IMAGE, "y": ZERO, "norm": Linf(), "eps": 0.1, **bad})
    assert not model.calls
