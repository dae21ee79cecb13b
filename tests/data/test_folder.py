"""A folder of images is read in balanced order, and a file that cannot be used is named."""

import numpy as np
import pytest
import torch
from PIL import Image

from art_ext.data import image_folder

H, W = 5, 7


def save(path, value, size=(H, W), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size[::-1], value).save(path)


@pytest.fixture
def folder(tmp_path):
    save(tmp_path / "dog" / "b.png", (0, 255, 0))
    save(tmp_path / "dog" / "a.PNG", (255, 0, 0))
    save(tmp_path / "cat" / "inside" / "c.bmp", (0, 0, 255))
    return tmp_path


def test_images_come_in_rounds_of_the_classes_and_by_name(folder):
    images = image_folder(folder)
    assert images.x.shape == (3, 3, H, W)
    files = torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])  # the cat, dog a, dog b
    assert sorted(images.order[:2].tolist()) == [0, 1]
    assert images.order[2] == 2
    assert torch.equal(images.x.mean((2, 3)), files[images.order])
    assert torch.equal(images.y, torch.tensor([0, 1, 1])[images.order])
    assert images.y.dtype == images.order.dtype == torch.int64
    assert images.classes == ("cat", "dog")


def test_the_classes_of_a_folder_alternate(folder):
    for name in "defg":
        save(folder / "cat" / f"{name}.png", 0)
    assert [sorted(part.tolist()) for part in image_folder(folder).y.split(2)] == [[0, 1], [0, 1], [0, 0], [0]]


def test_pixels_keep_their_places(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (2, H, W, 3), dtype=np.uint8)
    (tmp_path / "only").mkdir()
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "only" / f"{index}.png")
    assert np.array_equal(image_folder(str(tmp_path)).x.numpy(), pixels.transpose(0, 3, 1, 2) / np.float32(255))


def test_other_files_and_hidden_folders_are_passed_over(folder):
    (folder / "dog" / "notes.txt").write_text("no image")
    (folder / "labels.csv").write_text("no folder")
    save(folder / ".thumbnails" / "a.png", 0)
    assert image_folder(folder).classes == ("cat", "dog")
    assert len(image_folder(folder).x) == 3


def test_channels_of_grey_and_colour_are_converted(folder):
    save(folder / "cat" / "grey.png", 51, mode="L")
    colour = image_folder(folder)
    (place,) = (colour.order == 0).nonzero()[0]
    assert colour.x[place, :, 0, 0].tolist() == pytest.approx([0.2, 0.2, 0.2])
    grey = image_folder(folder, channels=1)
    assert grey.x.shape == (4, 1, H, W)
    levels = torch.tensor([0.2, 0.114, 0.299, 0.587])[grey.order]
    assert grey.x[:, 0, 0, 0].tolist() == pytest.approx(levels.tolist(), abs=1 / 255)


@pytest.mark.parametrize(("size", "shape"), [(4, (4, 4)), ((3, 6), (3, 6))])
def test_size_is_height_and_width(folder, size, shape):
    save(folder / "dog" / "large.png", (255, 0, 0), size=(9, 11))
    images = image_folder(folder, size=size)
    assert images.x.shape == (4, 3, *shape)
    assert images.x[3].mean((1, 2)).tolist() == [1, 0, 0]


def test_different_sizes_need_a_size(folder):
    save(folder / "dog" / "large.png", 0, size=(9, 11))
    with pytest.raises(ValueError, match=r"one size, got 5 x 7 in .*c\.bmp and 9 x 11 in .*large\.png: say size="):
        image_folder(folder)


def test_broken_file_is_named(folder):
    (folder / "dog" / "broken.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"decoded, got .*broken\.png"):
        image_folder(folder)


def test_truncated_file_is_named(folder):
    path = folder / "dog" / "b.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:80])
    with pytest.raises(ValueError, match=r"decoded, got .*b\.png"):
        image_folder(folder)


def test_deep_images_are_refused_rather_than_cut(folder):
    deep = np.full((H, W), 40_000, dtype=np.uint16)
    Image.fromarray(deep).save(folder / "dog" / "deep.png")
    with pytest.raises(ValueError, match=r"deep\.png: expected an image of 8 bits"):
        image_folder(folder)


def test_class_without_images_is_refused(folder):
    (folder / "bird").mkdir()
    with pytest.raises(ValueError, match=r"got none in .*bird"):
        image_folder(folder)


def test_folder_without_classes_is_refused(tmp_path):
    save(tmp_path / "a.png", 0)
    with pytest.raises(ValueError, match="got no subfolders"):
        image_folder(tmp_path)


def test_other_channel_counts_are_refused(folder):
    with pytest.raises(ValueError, match="expected channels 1 or 3, got 4"):
        image_folder(folder, channels=4)
