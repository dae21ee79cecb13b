"""(seed, epoch) fix the order of the batches, an epoch shows every image once, and a start costs nothing."""

import pytest
import torch

from art_ext.training.batches import Batches

N, C, H, W = 11, 3, 4, 5
SIZE = 4
GOLDEN = [5, 6, 1, 4, 3, 8, 10, 9, 0, 7, 2]  # the order of epoch 2 of seed 3


@pytest.fixture
def x():
    """Image i is filled with i."""
    return torch.arange(N, dtype=torch.float32).view(N, 1, 1, 1).repeat(1, C, H, W)


@pytest.fixture
def y():
    return torch.arange(N) * 10


def order(batches):
    return [int(i) for x, _ in batches for i in x[:, 0, 0, 0]]


def test_epoch_shows_every_pair_once(x, y):
    batches = Batches(x, y, batch_size=SIZE)
    pairs = list(batches.epoch(0))
    assert len(batches) == len(pairs) == 3
    assert [len(x_) for x_, _ in pairs] == [4, 4, 3]
    assert sorted(order(pairs)) == list(range(N))
    assert order(pairs) != list(range(N))
    for x_, y_ in pairs:
        assert torch.equal(x_, y_.view(-1, 1, 1, 1).expand(-1, C, H, W) / 10)


@pytest.mark.parametrize(("count", "size", "length"), [(8, 4, 2), (9, 4, 3), (3, 4, 1), (0, 4, 0)])
def test_length_counts_the_last_partial_batch(count, size, length):
    batches = Batches(torch.zeros(count, C, H, W), batch_size=size)
    assert len(batches) == len(list(batches.epoch(0))) == length


def test_order_depends_on_seed_and_epoch_alone(x):
    torch.manual_seed(1)
    first = order(Batches(x, batch_size=SIZE, seed=3).epoch(2))
    torch.manual_seed(2)
    again = Batches(x, batch_size=SIZE, seed=3)
    list(again.epoch(0))
    assert order(again.epoch(2)) == first
    orders = {tuple(order(Batches(x, batch_size=SIZE, seed=s).epoch(e))) for s in range(5) for e in range(5)}
    assert len(orders) == 25


def test_order_of_a_seed_never_changes(x):
    """A checkpoint of an earlier release resumes on the same batches."""
    assert order(Batches(x, batch_size=SIZE, seed=3).epoch(2)) == GOLDEN


def test_ambient_generator_is_left_alone(x):
    before = torch.get_rng_state()
    list(Batches(x, batch_size=SIZE).epoch(0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("start", range(4))
def test_start_skips_batches(x, y, shuffle, start):
    batches = Batches(x, y, batch_size=SIZE, shuffle=shuffle)
    assert order(batches.epoch(1, start)) == order(batches.epoch(1))[start * SIZE :]


def test_start_skips_without_augmenting(x):
    calls = []
    batches = Batches(x, batch_size=SIZE, augment=lambda batch: (calls.append(len(batch)), batch)[1])
    list(batches.epoch(0, start=2))
    assert calls == [3]


def test_augment_changes_images_and_not_labels(x, y):
    batches = Batches(x, y, batch_size=SIZE, augment=lambda batch: batch + 0.5, shuffle=False)
    x_, y_ = next(batches.epoch(0))
    assert torch.equal(x_, x[:SIZE] + 0.5)
    assert torch.equal(y_, y[:SIZE])


def test_without_shuffling_the_order_is_kept(x):
    batches = Batches(x, batch_size=SIZE, shuffle=False)
    assert order(batches.epoch(0)) == order(batches.epoch(1)) == list(range(N))


def test_without_labels_there_are_none(x):
    assert [y for _, y in Batches(x, batch_size=SIZE).epoch(0)] == [None] * 3


@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_are_copies(x, y, shuffle):
    for x_, y_ in Batches(x, y, batch_size=SIZE, shuffle=shuffle).epoch(0):
        x_.fill_(-1)
        y_.fill_(-1)
    assert x.min() == y.min() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size as a whole number of at least 1, got 0"),
        ({"batch_size": 1, "seed": -1}, "seed as a whole number of at least 0, got -1"),
        ({"batch_size": 1, "y": torch.zeros(N + 1)}, "11 images and 12 labels"),
    ],
)
def test_wrong_arguments_are_refused(x, arguments, message):
    with pytest.raises(ValueError, match=f"expected .*{message}"):
        Batches(x, **arguments)


@pytest.mark.parametrize(("index", "start"), [(-1, 0), (0, -1), (0, 4)])
def test_wrong_epochs_are_refused_at_the_call(x, index, start):
    with pytest.raises(ValueError, match=r"expected .*got"):
        Batches(x, batch_size=SIZE).epoch(index, start)
