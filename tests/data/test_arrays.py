"""Arrays of every kind become (N, C, H, W) float32 in [0, 1] and int64 indices, or a clear error."""

import numpy as np
import pytest
import torch

from art_ext.data import Images, from_arrays, from_npz

N, C, H, W = 2, 3, 5, 7


@pytest.fixture
def bytes_nchw():
    return np.random.default_rng(0).integers(0, 256, (N, C, H, W), dtype=np.uint8)


def test_uint8_is_divided_by_255(bytes_nchw):
    x = from_arrays(bytes_nchw).x
    assert x.dtype == torch.float32
    assert x.shape == (N, C, H, W)
    assert np.array_equal(x.numpy(), bytes_nchw.astype(np.float32) / 255)


def test_channels_last_array_is_transposed(bytes_nchw):
    x = from_arrays(bytes_nchw.transpose(0, 2, 3, 1)).x
    assert torch.equal(x, from_arrays(bytes_nchw).x)
    assert x.is_contiguous()


def test_array_without_channels_gets_one(bytes_nchw):
    x = from_arrays(bytes_nchw[:, 0]).x
    assert torch.equal(x, from_arrays(bytes_nchw).x[:, :1])


@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (2, 5, 6, 7)], ids=["both", "neither"])
def test_channel_axis_must_be_told_where_it_is_ambiguous(shape):
    x = np.zeros(shape)
    with pytest.raises(ValueError, match=r"got (both|neither) in shape .* channels_first"):
        from_arrays(x)
    assert from_arrays(x, channels_first=True).x.shape == shape
    assert from_arrays(x, channels_first=False).x.shape == (shape[0], shape[3], shape[1], shape[2])


@pytest.mark.parametrize(
    "dtype",
    [np.float16, np.float32, np.float64, ">f4", torch.float16, torch.float64, torch.bfloat16],
    ids=str,
)
def test_floats_keep_their_values_as_float32(dtype):
    values = np.linspace(0, 1, N * C * H * W).round(1).reshape(N, C, H, W)
    x = torch.tensor(values, dtype=dtype) if isinstance(dtype, torch.dtype) else values.astype(dtype)
    out = from_arrays(x).x
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, torch.tensor(values, dtype=torch.float32), atol=4e-3, rtol=0)


@pytest.mark.parametrize("as_array", [np.asarray, torch.tensor], ids=["numpy", "torch"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_result_is_a_copy(as_array, dtype):
    source = as_array(np.zeros((N, C, H, W), dtype=dtype))
    labels = as_array(np.zeros(N, dtype=np.int64))
    images = from_arrays(source, labels)
    images.x.fill_(1)
    images.y.fill_(1)
    assert source.max() == 0
    assert labels.max() == 0


def test_read_only_and_reversed_arrays_are_fine(bytes_nchw):
    bytes_nchw.flags.writeable = False
    labels = np.arange(N)
    labels.flags.writeable = False
    images = from_arrays(bytes_nchw[::-1], labels[::-1])
    assert torch.equal(images.x, from_arrays(bytes_nchw).x.flip(0))
    assert images.y.tolist() == [1, 0]


def test_gradients_are_left_behind():
    assert not from_arrays(torch.zeros(N, C, H, W, requires_grad=True)).x.requires_grad


def test_rounding_errors_are_clamped():
    x = from_arrays(np.array([-1e-6, 1 + 1e-6]).reshape(2, 1, 1, 1), channels_first=True).x
    assert x.flatten().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("fill", "message"),
    [(-1.0, r"\[-1, 1\]"), (255.0, r"\[0, 255\]"), (1.5, "1.5"), (np.nan, "NaN"), (np.inf, "Inf")],
)
def test_values_outside_the_range_are_refused(fill, message):
    x = np.zeros((N, C, H, W))
    x[1, 2, 3, 4] = fill
    with pytest.raises(ValueError, match=f"expected .*got .*{message}"):
        from_arrays(x)


@pytest.mark.parametrize("shape", [(H,), (H, W), (1, N, C, H, W)], ids=str)
def test_other_ranks_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected images .*got shape"):
        from_arrays(np.zeros(shape))


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((N, C, H, W), dtype=np.int64),
        np.zeros((N, C, H, W), dtype=bool),
        np.zeros((N, C, H, W), dtype=object),
        np.zeros((N, C, H, W), dtype="U1"),
        torch.zeros(N, C, H, W, dtype=torch.int32),
        [[[0.0]]],
        None,
    ],
    ids=["int64", "bool", "object", "text", "torch int32", "list", "None"],
)
def test_other_types_are_refused(x):
    with pytest.raises(TypeError, match=r"expected .*got"):
        from_arrays(x)


@pytest.mark.parametrize("shape", [(0, C, H, W), (0, H, W, C), (0, H, W)], ids=str)
def test_no_images_are_fine(shape):
    images = from_arrays(np.zeros(shape, dtype=np.float32), np.zeros(0, dtype=np.int64))
    assert len(images.x) == len(images.y) == 0
    assert images.x.shape[2:] == (H, W)


@pytest.mark.parametrize(
    "y",
    [
        np.array([2, 0], dtype=np.uint8),
        np.array([2.0, 0.0]),
        np.array([[2], [0]]),
        np.array([[0, 0, 1, 0], [1, 0, 0, 0]]),
        np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]], dtype=np.float32),
        torch.tensor([2, 0], dtype=torch.int32),
        torch.tensor([[False, False, True], [True, False, False]]),
    ],
    ids=["uint8", "whole floats", "column", "one-hot", "one-hot float", "torch", "one-hot bool"],
)
def test_labels_become_indices(y):
    labels = from_arrays(np.zeros((N, C, H, W)), y).y
    assert labels.dtype == torch.int64
    assert labels.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.array([0, -1]), "got -1"),
        (np.array([0, 0.5]), "got 0.5"),
        (np.array([0, np.nan]), "got nan"),
        (np.array([0, np.inf]), "got inf"),
        (np.array([[0.5, 0.5], [0, 1]]), r"one-hot.*got the row \[0.5 0.5\]"),
        (np.array([[0, 1], [1, 1]]), r"one-hot.*got the row \[1 1\]"),
        (np.array([[0, 1], [0, 0]]), r"one-hot.*got the row \[0 0\]"),
        (np.array([[2, -1], [0, 1]]), r"one-hot.*got the row \[ 2 -1\]"),
        (np.array([0, 1, 2]), "2 images and 3 labels"),
        (np.eye(3), "2 images and 3 labels"),
        (np.zeros((2, 0)), "got shape"),
        (np.zeros((2, 1, 1)), "got shape"),
        (np.array(0), "got shape"),
    ],
)
def test_wrong_labels_are_refused(y, message):
    with pytest.raises(ValueError, match=f"expected .*{message}"):
        from_arrays(np.zeros((N, C, H, W)), y)


@pytest.mark.parametrize("y", [np.array([None, 1]), np.array(["0", "1"]), [0, 1]], ids=["object", "text", "list"])
def test_labels_of_other_types_are_refused(y):
    with pytest.raises(TypeError, match=r"expected labels .*got"):
        from_arrays(np.zeros((N, C, H, W)), y)


def test_images_without_labels_say_so():
    images = from_arrays(np.zeros((N, C, H, W)))
    assert images.labels is None
    assert images.classes is None
    with pytest.raises(ValueError, match="without labels"):
        _ = images.y


def test_images_are_frozen():
    images = Images(torch.zeros(N, C, H, W))
    with pytest.raises(AttributeError):
        images.x = torch.ones(N, C, H, W)


def test_npz_is_read_by_its_keys(tmp_path, bytes_nchw):
    path = tmp_path / "images.npz"
    np.savez(path, x=bytes_nchw, pictures=bytes_nchw[::-1], y=np.arange(N), kinds=np.array([4, 5]))
    default = from_npz(path)
    named = from_npz(str(path), images="pictures", labels="kinds")
    assert torch.equal(default.x, from_arrays(bytes_nchw).x)
    assert default.y.tolist() == [0, 1]
    assert torch.equal(named.x, default.x.flip(0))
    assert named.y.tolist() == [4, 5]
    assert from_npz(path, labels=None).labels is None


@pytest.mark.parametrize(("images", "labels"), [("wrong", "labels"), ("images", "wrong")])
def test_missing_key_names_the_keys_that_are_there(tmp_path, images, labels):
    path = tmp_path / "images.npz"
    np.savez(path, images=np.zeros((N, C, H, W)), labels=np.arange(N))
    with pytest.raises(ValueError, match=r"expected key 'wrong' .*got keys: images, labels"):
        from_npz(path, images=images, labels=labels)


def test_npz_is_never_unpickled(tmp_path):
    path = tmp_path / "images.npz"
    np.savez(path, x=np.array([{"a": 1}], dtype=object), y=np.arange(1))
    with pytest.raises(ValueError, match="allow_pickle"):
        from_npz(path)


def test_npy_is_no_npz(tmp_path):
    path = tmp_path / "images.npy"
    np.save(path, np.zeros((N, C, H, W)))
    with pytest.raises(ValueError, match=r"expected an \.npz"):
        from_npz(path)
