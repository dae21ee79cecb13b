"""AToP: transforms, networks and both objectives by hand, its adversaries, and the attack that knows the draw."""

from __future__ import annotations

import copy
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from art_ext.attacks import L2, ascent, cross_entropy, straight_through_clamp
from art_ext.nn import evaluating, seeded, trainable
from art_ext.objectives import AToPFineTuning, AToPPretraining
from art_ext.objectives.atop import hinge
from art_ext.purifiers import AToP
from art_ext.purifiers.atop import (
    AutoEncoder,
    Draw,
    GatedConv,
    Generator,
    PatchDiscriminator,
    RandomTransform,
)
from art_ext.purifiers.atop.network import FOLDS, SeenAttention
from art_ext.training import Batches, fit

Y = torch.arange(5) % 4


@pytest.fixture
def purifier() -> AToP:
    return AToP(**AToP.small)


@pytest.fixture
def classifier() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(288, 4)).eval()


@pytest.fixture
def x() -> Tensor:
    return torch.rand(5, 3, 8, 12)


class Painter(nn.Module):
    """A generator that paints one grey; it keeps what it was given."""

    def __init__(self, coarse: float, refined: float) -> None:
        super().__init__()
        self.greys = nn.Parameter(torch.tensor([coarse, refined]))
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        self.seen.append((x, mask))
        coarse, refined = (grey.expand_as(x) for grey in self.greys)
        return coarse, refined


class Critic(nn.Module):
    """A discriminator whose score is a multiple of the mean of the image; it keeps what it was given."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope))
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        self.seen.append((x, mask))
        return self.slope * x.mean((1, 2, 3))


# Transforms


@pytest.mark.parametrize("size", [(32, 32), (28, 28), (256, 256), (8, 12), (9, 31)])
@pytest.mark.parametrize("kind", ["RT1", "RT2", "RT3"])
def test_a_quarter_of_the_blocks_is_hidden_in_each_mask(kind: str, size: tuple[int, int]) -> None:
    transform = RandomTransform(kind)
    masks = transform.draw(torch.rand(3, 1, *size)).masks
    assert masks.shape == (4 if kind == "RT3" else 1, 3, 1, *size)
    # The first pixel of block b is the first i with 8 * i >= b * side.
    first = [[-(-b * side // 8) for b in range(8)] for side in size]
    blocks = masks[..., first[0], :][..., first[1]]
    assert blocks.flatten(2).sum(2).eq(16).all()
    sides = [torch.tensor([*f[1:], side]) - torch.tensor(f) for f, side in zip(first, size, strict=True)]
    assert all(set(s.tolist()) <= {side // 8, side // 8 + 1} for s, side in zip(sides, size, strict=True))
    assert torch.equal(masks, blocks.repeat_interleave(sides[0], 3).repeat_interleave(sides[1], 4))


def test_blocks_of_28_pixels_by_hand() -> None:
    mask = RandomTransform("RT1").draw(torch.zeros(1, 1, 28, 28)).masks[0, 0, 0].int()
    # Every 3.5 pixels a block begins: 0, 4, 7, 11, 14, 18, 21, 25.
    edges = {i for i in range(1, 28) if not torch.equal(mask[i], mask[i - 1])}
    assert edges <= {4, 7, 11, 14, 18, 21, 25}
    assert edges & {4, 11, 18, 25}


@pytest.mark.parametrize(("grid", "share"), [(8, 0.25), (7, 0.25), (5, 1 / 3), (4, 0.5)])
def test_masks_of_rt3_are_disjoint_and_cover_the_image(grid: int, share: float) -> None:
    masks = RandomTransform("RT3", grid, share).draw(torch.rand(6, 1, 28, 30)).masks
    assert len(masks) == round(1 / share)
    assert masks.int().sum(0).eq(1).all()


@pytest.mark.parametrize("kind", ["RT1", "RT2", "RT3"])
def test_every_image_and_call_has_its_own_draw_from_the_ambient_generator(kind: str) -> None:
    transform, x = RandomTransform(kind), torch.rand(5, 1, 16, 16)
    with seeded(3):
        masks, noise = transform.draw(x)
    with seeded(3):
        again = transform.draw(x)
    assert torch.equal(again.masks, masks)
    assert len({tuple(row) for row in masks[0].flatten(1).tolist()}) == 5
    assert not torch.equal(transform.draw(x).masks, masks)
    assert (noise is None) is (kind == "RT1")
    if noise is not None:
        assert torch.equal(again.noise, noise)
        assert noise.flatten(1).unique(dim=0).shape == (5, 256)


def test_rt1_by_hand() -> None:
    mask = torch.tensor([[[[[True, False], [False, True]]]]])
    x = torch.tensor([0.1, 0.2, 0.3, 0.4]).view(1, 1, 2, 2)
    transform = RandomTransform("RT1", 2)
    assert transform(x, Draw(mask, None)).flatten().tolist() == pytest.approx([0.5, 0.2, 0.3, 0.5])


def test_noise_is_added_and_clipped_before_the_holes_and_passes_gradients_inside_the_box() -> None:
    mask = torch.tensor([True, False, False, False, False]).view(1, 1, 1, 1, 5)
    noise = torch.tensor([0.9, 0.9, -0.9, 0.2, -0.2]).view(1, 1, 1, 5)
    x = torch.tensor([0.5, 0.5, 0.5, 0.5, 0.5]).view(1, 1, 1, 5).requires_grad_()
    seen = RandomTransform("RT2", 2)(x, Draw(mask, noise))
    assert seen.flatten().tolist() == pytest.approx([0.5, 1, 0, 0.7, 0.3])
    (gradient,) = torch.autograd.grad(seen.sum(), x)
    assert gradient.flatten().tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("seed", [None, 4])
def test_noise_is_a_quarter_unless_told_otherwise(seed: int | None) -> None:
    x = torch.full((1, 1, 200, 200), 0.5)
    for transform, std in ((RandomTransform("RT2"), 0.25), (RandomTransform("RT3", noise=0.1), 0.1)):
        noise = transform.draw(x, seed).noise
        assert noise is not None
        assert float(noise.std()) == pytest.approx(std, rel=0.02)
        assert abs(float(noise.mean())) < 0.01 * 3


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"kind": "RT4"}, "RT4"),
        ({"grid": 1}, "grid"),
        ({"share": 1.0}, "share"),
        ({"noise": -0.1}, "noise"),
        ({"kind": "RT3", "share": 0.3}, "one over a whole number"),
    ],
)
def test_bad_transforms(arguments: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=f"expected .*{what}"):
        RandomTransform(**arguments)
    with pytest.raises(ValueError, match="at least 8 pixels"):
        RandomTransform().draw(torch.rand(1, 1, 7, 8))


# Networks


def test_a_gated_convolution_by_hand() -> None:
    conv = GatedConv(1, 1, 1)
    with torch.no_grad():
        conv.conv.weight.copy_(torch.tensor([2.0, 3.0]).view(2, 1, 1, 1))
        conv.conv.bias.copy_(torch.tensor([-1.0, 0.5]))
    out = conv(torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)).flatten().tolist()
    # ELU(2 - 1) sigmoid(3 + 0.5), ELU(-1) sigmoid(0.5)
    expected = [1 / (1 + math.exp(-3.5)), (math.exp(-1) - 1) / (1 + math.exp(-0.5))]
    assert out == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dilation", [1, 2, 4])
def test_convolutions_keep_the_size(dilation: int) -> None:
    assert GatedConv(2, 3, 5, dilation=dilation)(torch.rand(1, 2, 9, 7)).shape == (1, 3, 9, 7)
    assert GatedConv(2, 3, stride=2)(torch.rand(1, 2, 8, 6)).shape == (1, 3, 4, 3)


@pytest.mark.parametrize("fold", FOLDS)
@pytest.mark.parametrize("size", [(28, 28), (32, 32), (8, 12), (9, 14)])
def test_both_stages_at_any_size_bit_for_bit_whether_gradients_are_wanted(size: tuple[int, int], fold: int) -> None:
    network = Generator(1, 8, [2], fold)
    x, mask = 2 * torch.rand(3, 1, *size) - 1, torch.rand(3, 1, *size) < 0.25
    with torch.no_grad():
        plain = network(x, mask)
    wanted = network(x.requires_grad_(), mask)
    for one, two in zip(plain, wanted, strict=True):
        assert one.shape == x.shape
        assert torch.equal(one, two)
        assert float(one.abs().max()) < 1
    exact, x = network.double(), x.detach().double()  # in float32 a kernel may round by the number of images
    singles = [exact(x[i : i + 1], mask[i : i + 1])[1] for i in range(3)]
    assert torch.allclose(torch.cat(singles), exact(x, mask)[1], atol=1e-12)


@pytest.mark.parametrize("restorer", ["gan", "autoencoder"])
@pytest.mark.parametrize(("fold", "finest"), [(1, 28), (2, 14), (4, 7)])
def test_a_fold_leaves_no_convolution_at_a_finer_resolution(restorer: str, fold: int, finest: int) -> None:
    network = AToP(1, width=8, dilations=[1], fold=fold, restorer=restorer).network
    sides: list[int] = []
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            part.register_forward_hook(lambda _, given, out: sides.append(max(given[0].shape[2], out.shape[2])))
    network(*[torch.zeros(1, 1, 28, 28)] * (2 if restorer == "gan" else 1))
    assert max(sides) == finest


@pytest.mark.parametrize("fold", FOLDS)
def test_a_fold_puts_blocks_back_where_they_were(fold: int) -> None:
    x = torch.rand(1, 1, 32, 32, requires_grad=True)
    (seen,) = torch.autograd.grad(AutoEncoder(1, 2, [], fold)(x)[0, 0, 12:16, 16:20].sum(), x)
    rows, columns = seen[0, 0].nonzero().T
    # It sees as far up as down and as far left as right, but for the grid of 4 pixels.
    assert abs(int(rows.float().mean()) - 14) <= 2
    assert abs(int(columns.float().mean()) - 18) <= 2


@pytest.mark.parametrize("fold", FOLDS)
def test_the_refining_stage_sees_the_coarse_image_in_the_hole_alone(fold: int) -> None:
    network = Generator(1, 8, [2], fold)
    x, mask = torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8)
    mask[1, :, :4] = 1
    seen: list[Tensor] = []
    shares: list[Tensor] = []
    network.attention.register_forward_pre_hook(lambda _, given: shares.append(given[1]))
    network.encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    raw: list[Tensor] = []
    network.coarse.register_forward_hook(lambda *given: raw.append(given[2]))
    coarse, _ = network(x, mask)
    # The planes: image, ones, mask.
    assert torch.equal(seen[0][:, 1:2], torch.ones_like(mask))
    assert torch.equal(seen[0][:, 2:], mask)
    assert torch.equal(seen[0][0, 0], x[0, 0])
    assert torch.equal(seen[0][1, 0, :4], coarse[1, 0, :4])
    assert torch.equal(seen[0][1, 0, 4:], x[1, 0, 4:])
    (gradient,) = torch.autograd.grad(seen[0].sum(), raw[0])
    assert torch.equal(gradient != 0, mask.bool())
    assert shares[0].flatten(1).tolist() == [[0, 0, 0, 0], [1, 1, 0, 0]]


@pytest.mark.parametrize("fold", FOLDS)
def test_untrained_generators_keep_the_mean_square_and_tell_images_apart(fold: int) -> None:
    conv, x = GatedConv(64, 64), torch.randn(1, 64, 64, 64)
    assert float(conv(x).detach().square().mean()) == pytest.approx(1, rel=0.3)
    images, mask = 2 * torch.rand(8, 1, 32, 32) - 1, torch.zeros(8, 1, 32, 32)
    with torch.no_grad():
        assert float(Generator(1, 16, [1, 2, 1], fold)(images, mask)[1].std(0).mean()) > 0.01
    encoder = AutoEncoder(1, 16, [1, 2, 1], fold)
    with torch.no_grad():
        assert float(encoder(images / 2 + 0.5).std(0).mean()) > 0.01


def test_attention_weighs_places_by_what_was_seen() -> None:
    attention = SeenAttention(2)
    with torch.no_grad():
        for linear in (attention.mix, attention.merge):
            nn.init.zeros_(linear.weight)
        attention.mix.weight[4:].copy_(torch.eye(2))  # values are the features; all queries and keys are 0
        attention.merge.weight.copy_(torch.eye(2))
        nn.init.zeros_(attention.merge.bias)
    features = torch.tensor([[1.0, 2, 4], [10, 20, 40]]).view(1, 2, 1, 3)
    hidden = torch.tensor([0.0, 0.5, 1]).view(1, 1, 1, 3)
    # Weights 1, 1/2, 0, scaled to 2/3, 1/3, 0: 4/3 and 40/3 at every place.
    out = attention(features, hidden).detach()
    assert torch.allclose(out, torch.tensor([4 / 3, 40 / 3]).view(1, 2, 1, 1).expand(1, 2, 1, 3), rtol=1e-4)
    assert torch.isfinite(attention(features, torch.ones_like(hidden))).all()


def test_the_discriminator_is_normalised_and_sees_the_mask() -> None:
    network = PatchDiscriminator(3, 8, 3)
    x, mask = torch.rand(2, 3, 32, 32), torch.zeros(2, 1, 32, 32)
    for _ in range(50):
        scores = network(x, mask)
    assert scores.shape == (2, 32 * 4 * 4)
    for conv in list(network.layers)[::2]:
        assert float(torch.linalg.matrix_norm(conv.weight.detach().flatten(1), 2)) == pytest.approx(1, abs=0.02)
    network.eval()
    assert torch.allclose(network(x, mask)[:1], network(x[:1], mask[:1]), atol=1e-6)
    assert not torch.allclose(network(x, mask), network(x, 1 - mask), atol=1e-3)
    seen: list[Tensor] = []
    network.layers.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    network(torch.tensor([0, 0.5, 1]).view(1, 3, 1, 1).expand(1, 3, 8, 8), torch.ones(1, 1, 8, 8))
    assert seen[0][0, :, 0, 0].tolist() == [-1, 0, 1, 1]
    with pytest.raises(ValueError, match="layers=0"):
        PatchDiscriminator(3, 8, 0)


def test_the_discriminator_of_the_released_size() -> None:
    purifier = AToP.around(nn.Identity(), width=48, size=256)
    purifier.restorer = "gan"
    discriminator = AToPPretraining(purifier).discriminator
    widths = [conv.weight.shape[0] for conv in list(discriminator.layers)[::2]]  # type: ignore[union-attr]
    assert widths == [64, 128, 256, 256, 256, 256]
    small = AToPPretraining(AToP(**AToP.small)).discriminator
    assert len(small.layers) == 2 * 3  # type: ignore[union-attr, arg-type]


# The purifier


@pytest.mark.parametrize("kind", ["RT1", "RT2"])
@pytest.mark.parametrize("paste", [False, True])
def test_the_whole_refined_image_or_the_holes_alone(x: Tensor, kind: str, paste: bool) -> None:
    painter = Painter(-1.0, 0.5)
    purifier = AToP.around(painter, restorer="gan", transform=kind, paste=paste)
    with seeded(3):
        purified = purifier(x)
    with seeded(3):
        parts, masks = purifier.transformed(x)
    expected = torch.full_like(x, 0.75)
    assert torch.equal(purified, torch.where(masks[0], expected, parts[0]) if paste else expected)
    ((seen, mask),) = painter.seen
    assert torch.allclose(seen, 2 * parts[0] - 1)
    assert seen[mask.bool().expand_as(seen)].eq(0).all()
    assert float(seen.min()) < -0.5
    assert torch.equal(mask, masks[0].to(x.dtype))
    if kind == "RT1":
        assert torch.equal(parts[0][~masks[0].expand_as(x)], x[~masks[0].expand_as(x)])


def test_rt3_pastes_what_fills_each_hole(x: Tensor) -> None:
    class Counter(nn.Module):
        calls = 0

        def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
            self.calls += 1
            return torch.full_like(x, -0.5), torch.full_like(x, self.calls / 5 - 1)  # k / 10 in [0, 1]

    purifier = AToP.around(Counter(), restorer="gan", transform="RT3")
    draw = purifier.draw(x)
    coarse, refined = purifier.restorations(x, draw)
    expected = sum((k + 1) / 10 * mask for k, mask in enumerate(draw.masks))
    assert torch.allclose(refined, expected.expand_as(x))
    assert torch.allclose(coarse, torch.full_like(x, 0.25))
    assert purifier.transformed(x)[0].shape == (4, *x.shape)


def test_what_is_hidden_changes_nothing(purifier: AToP, x: Tensor) -> None:
    purifier.set_transform(2)
    mask = purifier.draw(x).masks[0]
    with torch.no_grad():
        expected = purifier(x)
        assert torch.equal(purifier(torch.where(mask, torch.rand_like(x), x)), expected)
        assert not torch.allclose(purifier(torch.where(mask, x, torch.rand_like(x))), expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["RT1", "RT2", "RT3"])
@pytest.mark.parametrize("size", [None, 16])
def test_a_frozen_transform_is_the_same_for_every_image_call_and_batch(x: Tensor, kind: str, size: int | None) -> None:
    purifier = AToP(**AToP.small, transform=kind, size=size)
    assert purifier.stochastic
    assert purifier.set_transform(4) is purifier
    assert not purifier.stochastic
    state = torch.get_rng_state()
    with torch.no_grad():
        whole = purifier(x)
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(purifier(x), whole)
        assert torch.allclose(purifier(x[2:3]), whole[2:3], atol=1e-6)
        assert not torch.allclose(purifier.set_transform(5)(x), whole, atol=1e-4)
        masks, noise = purifier.draw(purifier.resized(x))
        assert masks.eq(masks[:, :1]).all()
        assert noise is None or noise.eq(noise[:1]).all()
        purifier.set_transform(None)
        assert purifier.stochastic
        assert not torch.equal(purifier(x), purifier(x))
        assert not purifier.draw(x).masks.eq(purifier.draw(x).masks[:, :1]).all()


def test_the_size_is_inside_and_the_gradient_arrives_at_native_resolution(x: Tensor, classifier: nn.Module) -> None:
    purifier = AToP(**AToP.small, size=16)
    seen: list[Tensor] = []
    purifier.network.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    assert purifier(x).shape == x.shape
    assert seen[0].shape == (5, 3, 16, 16)
    gradient = ascent(cross_entropy(lambda v: classifier(purifier(v)), Y))(x)
    assert gradient.shape == x.shape
    assert gradient.flatten(1).ne(0).float().mean(1).min() > 0.5
    for name, own in purifier.adaptive_attacks(classifier, x, Y).items():
        assert own(x).shape == x.shape, name
    # Bilinear from 2 to 4 pixels: 0, 1/4, 3/4, 1; back from 4 to 2, over 4 pixels each: 1/7 and 6/7 for these.
    line = torch.tensor([0.0, 1.0]).expand(1, 1, 2, 2)
    up = AToP(**{**AToP.small, "channels": 1, "size": 4}).resized(line)
    assert up[0, 0, 0].tolist() == pytest.approx([0, 0.25, 0.75, 1])
    back = purifier.native(up, line)[0, 0, 0]
    # Triangles of half-width 2 around 1 and 3: weights 3/4, 3/4, 1/4 at pixels 0.5, 1.5, 2.5.
    assert back.tolist() == pytest.approx([0.375 / 1.75, 1 - 0.375 / 1.75], abs=1e-5)
    constant = torch.full((1, 3, 8, 12), 0.3)
    assert torch.allclose(purifier.native(purifier.resized(constant), constant), constant)


def test_arguments_are_saved(tmp_path: Path) -> None:
    given = {"transform": "RT3", "grid": 2, "share": 0.5, "noise": 0.1, "size": 12, "paste": True, "fold": 2}
    purifier = AToP(**{**AToP.small, **given}).set_transform(3)
    purifier.save_pretrained(tmp_path)
    loaded = AToP.from_pretrained(tmp_path)
    assert loaded.transform == RandomTransform("RT3", 2, 0.5, 0.1)
    assert (loaded.size, loaded.paste, loaded.restorer, loaded.stochastic) == (12, True, "gan", True)
    other = AToP.from_pretrained(tmp_path, transform="RT1")
    assert other.transform.kind == "RT1"
    assert torch.equal(other.network.join.conv.weight, purifier.network.join.conv.weight)
    AToP(**AToP.small, restorer="autoencoder").save_pretrained(tmp_path / "other")
    assert isinstance(AToP.from_pretrained(tmp_path / "other").network, AutoEncoder)


@pytest.mark.parametrize("size", [(8, 12), (9, 14)])
def test_the_auto_encoder_is_not_told_the_mask(size: tuple[int, int]) -> None:
    purifier = AToP(**AToP.small, restorer="autoencoder")
    x = torch.rand(3, 3, *size)
    seen: list[tuple[Tensor, ...]] = []
    purifier.network.register_forward_pre_hook(lambda _, given: seen.append(given))
    with seeded(1):
        out = purifier(x)
    with seeded(1):
        parts, _ = purifier.transformed(x)
    assert torch.equal(out, purifier.network(parts[0]))
    assert out.shape == x.shape
    assert [len(given) for given in seen] == [1, 1]


def test_another_network_is_held_and_cannot_be_saved(x: Tensor, tmp_path: Path) -> None:
    network = nn.Conv2d(3, 3, 1)
    state = torch.get_rng_state()
    purifier = AToP.around(network, transform="RT1", grid=4)
    assert torch.equal(torch.get_rng_state(), state)
    assert purifier.network is network
    assert purifier.restorer == "autoencoder"
    with seeded(1):
        out = purifier(x)
    with seeded(1):
        parts, _ = purifier.transformed(x)
    assert torch.equal(out, network(parts[0]).clamp(0, 1))
    with pytest.raises(TypeError, match="handed in"):
        purifier.save_pretrained(tmp_path)
    with pytest.raises(TypeError, match="handed in"):
        purifier.push_to_hub("nobody/nothing")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"expected images of shape \(5, 3, 8, 12\) from the network, got"):
        AToP.around(nn.MaxPool2d(2))(x)
    with pytest.raises(TypeError, match="module"):
        AToP.around(lambda v: v)  # type: ignore[arg-type]
    twin = copy.deepcopy(purifier.set_transform(1))
    assert torch.equal(twin(x), purifier(x))


@pytest.mark.parametrize("kind", ["RT1", "RT2", "RT3"])
def test_the_known_transform_is_one_draw(x: Tensor, classifier: nn.Module, kind: str) -> None:
    purifier = AToP(**AToP.small, transform=kind).requires_grad_(False)
    with seeded(2):
        (gradient,) = purifier.adaptive_attacks(classifier, x, Y).values()
    found = gradient(x)
    assert torch.equal(gradient(x), found)
    again = gradient(x.repeat(2, 1, 1, 1))
    assert torch.allclose(again, found.repeat(2, 1, 1, 1), atol=1e-6)
    with seeded(2):
        draw = purifier.draw(x)

    def model(v: Tensor) -> Tensor:
        return classifier(straight_through_clamp(purifier.restorations(v, draw)[-1]))

    assert torch.allclose(found, ascent(cross_entropy(model, Y))(x), atol=1e-7)
    purifier.set_transform(4)
    frozen = purifier.adaptive_attacks(classifier, x, Y)["known transform"](x)
    assert torch.allclose(frozen, ascent(cross_entropy(nn.Sequential(purifier, classifier), Y))(x), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"transform": "RT0"}, "RT0"),
        ({"width": 7}, "even width"),
        ({"width": 0}, "width"),
        ({"channels": 0}, "channels"),
        ({"dilations": [0]}, "dilations"),
        ({"fold": 3}, "fold .* 1, 2, 4; got 3"),
        ({"grid": 0}, "grid"),
        ({"share": 0.0}, "share"),
        ({"noise": -1.0}, "noise"),
        ({"size": 3}, "size"),
        ({"restorer": "vae"}, "vae"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=f"expected .*{what}"):
        AToP(**{**AToP.small, **arguments})


# Objectives


def test_the_hinge_by_hand() -> None:
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-2.0, 0.0, 1.0])
    # relu(1 - real) = 0, 0.5, 2; relu(1 + fake) = 0, 1, 2
    assert float(hinge(real, fake)) == pytest.approx((2.5 / 3 + 3 / 3) / 2)


@pytest.mark.parametrize("kind", ["RT2", "RT3"])
def test_pretraining_by_hand(kind: str) -> None:
    """Images of 0.2, coarse 0.25, refined 0.75, scores 3 times the mean."""
    painter, critic = Painter(-0.5, 0.5), Critic(3.0)
    purifier = AToP.around(painter, restorer="gan", transform=kind)
    objective = AToPPretraining(purifier, critic, adversarial=2.0)
    assert list(objective.players()) == ["discriminator", "generator"]
    x = torch.full((5, 3, 8, 8), 0.2)
    found = {k: v.item() for k, v in objective.terms("generator", x, x, None).items()}
    assert found == pytest.approx({"coarse": 0.05, "refined": 0.55, "adversarial": -2 * 3 * 0.75})
    # Real 0.6, fake 2.25: relu(0.4) / 2 + relu(3.25) / 2
    found = {k: v.item() for k, v in objective.terms("discriminator", x, x, None).items()}
    assert found == pytest.approx({"hinge": 0.2 + 1.625})
    images, masks = critic.seen[-1]
    assert torch.equal(images[:5], x)
    assert torch.equal(masks[:5], masks[5:])
    # What any mask hid: a quarter, and everything under RT3.
    assert float(masks.float().mean()) == pytest.approx(1 if kind == "RT3" else 0.25)


def test_the_gan_term_reaches_the_generator_and_no_player_moves_the_other(purifier: AToP, x: Tensor) -> None:
    objective = AToPPretraining(purifier)
    players = objective.players()
    for player, term in (("generator", "adversarial"), ("discriminator", "hinge")):
        with trainable(players[player], objective.parameters()):
            loss = objective.terms(player, x, x, None)[term]
            loss.backward()
        given = {name: [p.grad for p in parameters] for name, parameters in players.items()}
        other = next(name for name in players if name != player)
        assert all(g is None for g in given[other])
        if player == "discriminator":
            assert all(g is not None and g.abs().max() > 0 for g in given[player])
        else:
            # The coarse stage gets it too, through its hole.
            assert all(g is not None for g in given[player])
            assert sum(bool(g.abs().max() > 0) for g in given[player]) > 0.9 * len(given[player])
        objective.zero_grad()


def test_the_gan_gradient_by_hand() -> None:
    """d(-3 * mean((1 + grey) / 2)) / d grey = -1.5."""
    painter = Painter(-0.5, 0.5)
    objective = AToPPretraining(AToP.around(painter, restorer="gan"), Critic(3.0), adversarial=1.0)
    loss = objective.terms("generator", *[torch.full((2, 3, 8, 8), 0.2)] * 2, None)["adversarial"]
    (gradient,) = torch.autograd.grad(loss, painter.greys)
    assert gradient.tolist() == pytest.approx([0, -1.5])


def test_an_auto_encoder_or_no_weight_has_no_discriminator(purifier: AToP, x: Tensor) -> None:
    encoder = AToP(**AToP.small, restorer="autoencoder")
    for objective, terms in (
        (AToPPretraining(encoder), {"refined"}),
        (AToPPretraining(encoder, Critic(1.0)), {"refined"}),
        (AToPPretraining(purifier, adversarial=0.0), {"coarse", "refined"}),
    ):
        assert list(objective.players()) == ["generator"]
        assert objective.discriminator is None
        with seeded(1):
            found = objective.terms("generator", x, x, None)
        assert set(found) == terms
        with seeded(1):
            restored = objective.purifier(x)
        assert found["refined"].item() == pytest.approx((restored - x).abs().mean().item())


def test_pretraining_needs_neither_labels_nor_classifier(purifier: AToP, x: Tensor) -> None:
    (objective,) = purifier.stages()
    assert torch.equal(objective.perturb(x, None), x)
    before = copy.deepcopy(objective.state_dict())
    steps = list(fit(objective, Batches(x, batch_size=5), epochs=2))
    assert set(steps[0].terms) == {
        "discriminator/hinge",
        "generator/coarse",
        "generator/refined",
        "generator/adversarial",
    }
    moved = {k.split(".")[0] for k, v in objective.state_dict().items() if not torch.equal(v, before[k])}
    assert moved == {"purifier", "discriminator"}


def test_both_stages_share_their_discriminator(purifier: AToP, classifier: nn.Module) -> None:
    one, two = purifier.stages(classifier)
    assert isinstance(one, AToPPretraining)
    assert isinstance(two, AToPFineTuning)
    assert one.discriminator is two.discriminator is not None
    assert (two.data, two.weight, two.attack, two.eps) == ("adversarial", 0.025, "fgsm", 8 / 255)
    one, two = purifier.stages(classifier, eps=0.2, steps=3, attack="pgd", learning_rate=0.5)
    assert isinstance(two, AToPFineTuning)
    assert (two.eps, two.steps, two.attack, two.learning_rate, one.learning_rate) == (0.2, 3, "pgd", 0.5, 0.5)
    one, two = AToP(**AToP.small, restorer="autoencoder").stages(classifier)
    assert one.discriminator is two.discriminator is None


@pytest.mark.parametrize("data", ["adversarial", "clean"])
def test_fine_tuning_restores_the_adversary_itself(classifier: nn.Module, data: str) -> None:
    """Adversaries of 0.2 +- 0.1, coarse 0.25: a distance of 0.05 to x, and of 0.05 or 0.15 to x'."""
    painter = Painter(-0.5, 0.5)
    purifier = AToP.around(painter, restorer="gan")
    objective = AToPFineTuning(purifier, classifier, data=data, eps=0.1, weight=0.3, discriminator=Critic(3.0))
    x = torch.full((5, 3, 8, 12), 0.2)
    x_adv = objective.perturb(x, Y)
    assert torch.equal(x_adv, x) is (data == "clean")
    found = objective.terms("generator", x, x_adv, Y)
    assert found["refined"].item() == pytest.approx(float((0.75 - x_adv).abs().mean()), rel=1e-5)
    assert found["coarse"].item() == pytest.approx(float((0.25 - x_adv).abs().mean()), rel=1e-5)
    assert (abs(found["coarse"].item() - 0.05) > 0.01) is (data == "adversarial")
    logits = classifier(torch.full_like(x, 0.75))
    assert found["classification"].item() == pytest.approx(0.3 * F.cross_entropy(logits, Y).item(), rel=1e-5)
    # The real images of the discriminator are the adversaries too.
    found = objective.terms("discriminator", x, x_adv, Y)
    means = x_adv.mean((1, 2, 3))
    expected = (1 - 3 * means).relu().mean() / 2 + (1 + 2.25) / 2
    assert found["hinge"].item() == pytest.approx(expected.item(), rel=1e-5)
    none = AToPFineTuning(purifier, classifier, weight=0.0)
    assert "classification" not in none.terms("generator", x, x, Y)


def test_the_network_sees_the_adversary(classifier: nn.Module, x: Tensor) -> None:
    painter = Painter(-0.5, 0.5)
    purifier = AToP.around(painter, restorer="gan", transform="RT1")
    objective = AToPFineTuning(purifier, classifier, eps=0.1)
    x_adv = objective.perturb(x, Y)
    for player in objective.players():
        painter.seen.clear()
        objective.terms(player, x, x_adv, Y)
        ((seen, mask),) = painter.seen
        kept = ~mask.bool().expand_as(x)
        assert torch.allclose(seen[kept], (2 * x_adv - 1)[kept])


def test_restorations_are_clamped_before_the_classifier_with_a_straight_through_gradient(
    classifier: nn.Module, x: Tensor
) -> None:
    network = nn.Conv2d(3, 3, 1)
    nn.init.constant_(network.bias, 5.0)
    purifier = AToP.around(network)
    objective = AToPFineTuning(purifier, classifier, weight=1.0)
    loss = objective.terms("generator", x, x, Y)["classification"]
    expected = F.cross_entropy(classifier(torch.ones_like(x)), Y)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, network.bias)
    assert gradient.abs().max() > 0


def test_the_classifier_sees_the_native_resolution(classifier: nn.Module, x: Tensor) -> None:
    objective = AToPFineTuning(AToP(**AToP.small, size=16), classifier)
    seen: list[Tensor] = []
    objective.discriminator.register_forward_pre_hook(  # type: ignore[union-attr]
        lambda _, given: seen.append(given[0])
    )
    found = objective.terms("generator", x, x, Y)
    assert set(found) == {"coarse", "refined", "adversarial", "classification"}
    assert seen[0].shape == (5, 3, 16, 16)


@pytest.mark.parametrize("attack", ["fgsm", "pgd", "purifier"])
@pytest.mark.parametrize("restorer", ["gan", "autoencoder"])
def test_the_classifier_comes_back_bit_identical(x: Tensor, attack: str, restorer: str) -> None:
    classifier = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Dropout(), nn.Linear(120, 4))
    purifier = AToP(**AToP.small, restorer=restorer)
    objective = AToPFineTuning(purifier, classifier, attack=attack, eps=0.1, steps=2)
    given, before = copy.deepcopy(classifier.state_dict()), copy.deepcopy(purifier.state_dict())
    modes: set[bool] = set()
    classifier[1].register_forward_pre_hook(lambda module, _: modes.add(module.training))
    for _ in fit(objective, Batches(x, Y, batch_size=3), epochs=2):
        assert all(m.training for m in classifier.modules())
    assert modes == {False}
    assert all(torch.equal(v, given[k]) for k, v in classifier.state_dict().items())
    assert all(not torch.equal(v, before[k]) for k, v in purifier.state_dict().items() if k.endswith("conv.weight"))
    assert not any(k.startswith("classifier") for k in objective.trained_state())
    assert all(p.grad is None for p in classifier.parameters())


def test_fgsm_by_hand_and_whatever_the_generator(purifier: AToP, classifier: nn.Module, x: Tensor) -> None:
    """Softmax minus the label, through the weights: the gradient of a linear classifier."""
    objective = AToPFineTuning(purifier, classifier, eps=0.1)
    weight = classifier[1].weight
    gradient = ((classifier(x).softmax(1) - F.one_hot(Y, 4)) @ weight).view_as(x).detach()
    expected = (x + 0.1 * gradient.sign()).clamp(0, 1)
    state = torch.get_rng_state()
    assert torch.allclose(objective.perturb(x, Y), expected, atol=1e-6)
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        for p in purifier.parameters():
            p.add_(torch.randn_like(p))
    assert torch.allclose(objective.perturb(x, Y), expected, atol=1e-6)
    objective.step_size = 1e-3  # not FGSM's
    assert torch.allclose(objective.perturb(x, Y), expected, atol=1e-6)


def test_attacks_differ_in_what_they_look_at(purifier: AToP, classifier: nn.Module, x: Tensor) -> None:
    calls = {"purifier": 0, "classifier": 0}

    def count(name: str, *_: object) -> None:
        calls[name] += 1

    purifier.register_forward_hook(partial(count, "purifier"))
    classifier.register_forward_hook(partial(count, "classifier"))
    objectives = {a: AToPFineTuning(purifier, classifier, attack=a, eps=0.1, steps=3) for a in ("pgd", "purifier")}
    found: dict[str, list[Tensor]] = {name: [] for name in objectives}
    for _ in range(2):
        for name, objective in objectives.items():
            calls.update(purifier=0, classifier=0)
            with seeded(1):
                found[name].append(objective.perturb(x, Y))
            assert calls == {"purifier": 3 if name == "purifier" else 0, "classifier": 3}
        with torch.no_grad():
            for p in purifier.parameters():
                p.add_(0.1 * torch.randn_like(p))
    assert torch.equal(*found["pgd"])
    assert not torch.equal(*found["purifier"])
    for images in found.values():
        assert float((images[0] - x).abs().max()) == pytest.approx(0.1, abs=1e-5)
    # From a random start, unlike FGSM.
    one = AToPFineTuning(purifier, classifier, attack="pgd", eps=0.1, steps=1, step_size=1e-3)
    assert 0.02 < float((one.perturb(x, Y) - x).abs().mean()) < 0.08


def test_adversaries_in_another_norm_and_in_eval_mode(purifier: AToP, classifier: nn.Module, x: Tensor) -> None:
    for attack in ("fgsm", "purifier"):
        objective = AToPFineTuning(purifier, classifier, attack=attack, eps=1.5, steps=2, norm=L2())
        objective.train()
        modes: list[bool] = []
        hook = classifier.register_forward_pre_hook(lambda module, _, modes=modes: modes.append(module.training))
        size = L2().size(objective.perturb(x, Y) - x)
        hook.remove()
        assert float(size.max()) <= 1.5 + 1e-5
        assert float(size.min()) > 0.5
        assert not any(modes)
        assert all(m.training for m in objective.modules())


def test_the_released_optimisers(purifier: AToP, classifier: nn.Module) -> None:
    for objective in purifier.stages(classifier):
        objective.learning_rate = 3e-4
        for player, parameters in objective.players().items():
            found = objective.optimizer(player, parameters)
            assert isinstance(found, torch.optim.Adam)
            assert [(g["lr"], g["betas"]) for g in found.param_groups] == [(3e-4, (0.5, 0.999))]
    assert AToPFineTuning(purifier, classifier).learning_rate == 1e-4


def test_bad_objectives(purifier: AToP, classifier: nn.Module, x: Tensor) -> None:
    for options in (
        {"eps": 0.0},
        {"eps": 2.0},
        {"steps": 0},
        {"weight": -1.0},
        {"data": "both"},
        {"attack": "cw"},
        {"adversarial": -1.0},
    ):
        with pytest.raises(ValueError, match=r"expected .*, got"):
            AToPFineTuning(purifier, classifier, **options)
    objective = AToPFineTuning(purifier, classifier)
    with pytest.raises(ValueError, match="expected labels"):
        objective.perturb(x, None)
    clean = AToPFineTuning(purifier, classifier, data="clean")
    assert clean.perturb(x, None) is x
    with pytest.raises(ValueError, match="expected labels"):
        clean.terms("generator", x, x, None)


def test_train_and_eval_mode_purify_alike(purifier: AToP, x: Tensor) -> None:
    purifier.train()
    with evaluating(purifier), seeded(1):
        expected = purifier(x)
    with seeded(1):
        assert torch.equal(purifier(x), expected)
