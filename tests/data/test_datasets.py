"""Data set objects of other libraries are read through what they promise: pairs, rows or columns."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from art_ext.data import from_hugging_face, from_torchvision

N, C, H, W = 2, 3, 5, 7
BYTES = np.random.default_rng(0).integers(0, 256, (N, H, W, C), dtype=np.uint8)
EXPECTED = torch.tensor(BYTES.transpose(0, 3, 1, 2) / np.float32(255))

FORMS = {
    "pillow": [Image.fromarray(image) for image in BYTES],
    "numpy": list(BYTES),
    "uint8 tensor": [torch.tensor(image).permute(2, 0, 1) for image in BYTES],
    "float tensor": list(EXPECTED),
}
forms = pytest.mark.parametrize("images", FORMS.values(), ids=FORMS)


class Endless:
    """A map-style data set in torch's sense: its length ends it, not an IndexError."""

    classes = ("cat", "dog")

    def __len__(self):
        return 5

    def __getitem__(self, index):
        return EXPECTED[index % N], index % N


class Table:
    """A Hugging Face split: rows by iteration, columns by name, class names in its features."""

    def __init__(self, rows, names):
        self.rows = rows
        self.features = {"label": type("ClassLabel", (), {"names": names})(), "image": object()}

    def __iter__(self):
        return iter(self.rows)


@forms
def test_pairs_of_every_form(images):
    read = from_torchvision([(image, label) for image, label in zip(images, [4, 4], strict=True)])
    torch.testing.assert_close(read.x, EXPECTED, atol=0, rtol=0)
    assert read.y.tolist() == [4, 4]
    assert read.classes is None


@forms
def test_rows_and_columns_of_every_form(images):
    rows = [{"image": image, "label": label} for image, label in zip(images, [4, 4], strict=True)]
    for dataset in (rows, iter(rows), {"image": images, "label": [4, 4]}):
        read = from_hugging_face(dataset)
        assert torch.equal(read.x, EXPECTED)
        assert read.y.tolist() == [4, 4]


@pytest.mark.parametrize("labelled", [from_torchvision, from_hugging_face])
def test_images_come_in_balanced_order_with_their_places(labelled):
    images, labels = [EXPECTED[0] * level / 8 for level in range(8)], [5, 5, 5, 5, 5, 2, 2, 0]
    pairs = list(zip(images, labels, strict=True))
    read = labelled(pairs if labelled is from_torchvision else [{"image": x, "label": y} for x, y in pairs])
    assert [sorted(part.tolist()) for part in read.y.split([3, 2, 3])] == [[0, 2, 5], [2, 5], [5] * 3]
    assert sorted(read.order.tolist()) == list(range(8))
    for x, y, place in zip(read.x, read.y, read.order, strict=True):
        assert torch.equal(x, images[place])
        assert y == labels[place]


def test_images_without_labels_keep_their_order():
    read = from_hugging_face([{"image": image} for image in EXPECTED], label=None)
    assert torch.equal(read.x, EXPECTED)
    assert read.order is None


def test_length_ends_a_data_set():
    read = from_torchvision(Endless())
    assert sorted(read.y.tolist()) == [0, 0, 0, 1, 1]
    assert read.classes == ("cat", "dog")


def test_torch_data_set_of_tensors():
    labels = torch.tensor([4, 2])
    read = from_torchvision(torch.utils.data.TensorDataset(EXPECTED, labels))
    assert sorted(read.y.tolist()) == [2, 4]


def test_class_names_that_are_no_strings_are_left_out():
    dataset = Endless()
    dataset.classes = [("tench", "Tinca tinca"), ("goldfish",)]
    assert from_torchvision(dataset).classes is None


def test_columns_by_name_and_class_names():
    rows = [{"img": image, "fine": 1, "label": 0} for image in FORMS["pillow"]]
    assert from_hugging_face(rows, "img", "fine").y.tolist() == [1, 1]
    assert from_hugging_face(rows, image="img", label=None).labels is None
    table = Table([{"image": row["img"], "label": 0} for row in rows], ["cat", "dog"])
    assert from_hugging_face(table).classes == ("cat", "dog")


def test_small_pillow_images_are_not_ambiguous():
    images = [(Image.new("RGB", (6, 4), value), 0) for value in ((255, 0, 0), (0, 255, 0))]
    read = from_torchvision(images)
    assert read.x.shape == (2, 3, 4, 6)
    assert read.x.mean((2, 3)).tolist() == [[1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("L", 255, [1]),
        ("1", 1, [1]),
        ("RGBA", (255, 0, 0, 0), [1, 0, 0, 0]),
        ("CMYK", (0, 0, 0, 0), [1, 1, 1]),
    ],
)
def test_pillow_modes(mode, value, expected):
    x = from_torchvision([(Image.new(mode, (W, H), value), 0)] * N).x
    assert x.shape == (N, len(expected), H, W)
    assert x[1, :, 2, 3].tolist() == expected


def test_palette_becomes_its_colours():
    image = Image.new("RGB", (W, H), (255, 0, 255)).convert("P")
    assert from_torchvision([(image, 0)]).x[0, :, 1, 1].tolist() == [1, 0, 1]


def test_deep_pillow_image_is_refused():
    with pytest.raises(ValueError, match="8 bits"):
        from_torchvision([(Image.new("I", (W, H), 40_000), 0)])


@pytest.mark.parametrize("label", [1.5, -1, None, "cat"])
def test_wrong_label_is_refused(label):
    image = FORMS["pillow"][0]
    with pytest.raises((TypeError, ValueError), match="expected labels"):
        from_torchvision([(image, label)])
    with pytest.raises((TypeError, ValueError), match="expected labels"):
        from_hugging_face([{"image": image, "label": label}])


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"expected images of one shape, got \(5, 7, 3\) and \(5, 7\)"):
        from_torchvision([(FORMS["pillow"][0], 0), (FORMS["pillow"][0].convert("L"), 0)])


def test_normalised_tensors_are_refused():
    with pytest.raises(ValueError, match=r"expected images in \[0, 1\], got"):
        from_torchvision([(EXPECTED[0] * 2 - 1, 0), (EXPECTED[1], 0)])


@pytest.mark.parametrize("items", [[EXPECTED[0]], [(EXPECTED[0], 0, 0)], [{"image": EXPECTED[0], "label": 0}]])
def test_items_that_are_no_pairs_are_refused(items):
    with pytest.raises(TypeError, match=r"expected .*pairs, got"):
        from_torchvision(items)


def test_rows_that_are_no_dicts_are_refused():
    with pytest.raises(TypeError, match="expected a data set of dicts, got items of tuple"):
        from_hugging_face([(EXPECTED[0], 0)])


def test_undecoded_image_is_refused():
    with pytest.raises(TypeError, match=r"expected a Pillow image.*got dict"):
        from_hugging_face([{"image": {"bytes": b"", "path": None}, "label": 0}])


@pytest.mark.parametrize("dataset", [[{"img": EXPECTED[0], "label": 0}], {"img": [], "label": []}])
def test_missing_column_names_those_that_are_there(dataset):
    with pytest.raises(ValueError, match="expected a column 'image', got img, label"):
        from_hugging_face(dataset)


def test_splits_are_told_from_columns():
    with pytest.raises(ValueError, match=r"got train, test .*if these are splits"):
        from_hugging_face({"train": [], "test": []})


def test_empty_data_sets_are_fine():
    assert len(from_torchvision([]).y) == len(from_hugging_face([]).x) == 0


def test_other_libraries_are_never_imported():
    code = "import sys, art_ext.data; sys.exit(bool({'torchvision', 'datasets', 'art'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
