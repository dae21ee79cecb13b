"""shift_and_flip: each image gets its own shift and mirroring, and nothing but that."""

import pickle

import pytest
import torch
from torch.nn.functional import pad

from art_ext.data import shift_and_flip

N, C, H, W = 300, 3, 5, 7


@pytest.fixture
def x():
    return torch.rand(N, C, H, W, generator=torch.Generator().manual_seed(0))


def candidates(image, padding):
    """What may become of an image (C, H, W): {(top, left, mirrored): image}."""
    padded = pad(image, [padding] * 4)
    shifts = [(top, left) for top in range(2 * padding + 1) for left in range(2 * padding + 1)]
    crops = {(top, left): padded[:, top : top + H, left : left + W] for top, left in shifts}
    return {(*shift, flip): crop.flip(2) if flip else crop for shift, crop in crops.items() for flip in (False, True)}


@pytest.mark.parametrize("padding", [0, 1, 2])
def test_each_image_is_shifted_and_mirrored_by_its_own_draw(x, padding):
    torch.manual_seed(0)
    out = shift_and_flip(padding)(x)
    assert out.shape == x.shape
    assert out.is_contiguous()
    draws = []
    for image, result in zip(x, out, strict=True):
        matching = [draw for draw, crop in candidates(image, padding).items() if torch.equal(crop, result)]
        assert len(matching) == 1
        draws += matching
    tops, lefts, mirrored = zip(*draws, strict=True)
    assert set(tops) == set(lefts) == set(range(2 * padding + 1))
    assert 0.4 < sum(mirrored) / N < 0.6
    assert len(set(draws)) == 2 * (2 * padding + 1) ** 2


def test_draws_come_from_the_ambient_generator(x):
    augment = shift_and_flip()
    torch.manual_seed(1)
    first, second = augment(x), augment(x)
    torch.manual_seed(1)
    assert torch.equal(augment(x), first)
    assert not torch.equal(first, second)


def test_input_is_left_alone(x):
    before = x.clone()
    shift_and_flip()(x)
    assert torch.equal(x, before)


def test_it_can_be_pickled(x):
    augment = pickle.loads(pickle.dumps(shift_and_flip(1)))
    assert augment(x).shape == x.shape


def test_no_images_are_fine():
    assert shift_and_flip()(torch.zeros(0, C, H, W)).shape == (0, C, H, W)


def test_negative_padding_is_refused():
    with pytest.raises(ValueError, match="expected padding of at least 0, got -1"):
        shift_and_flip(-1)
