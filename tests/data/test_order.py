"""balanced_order: every first n images hold the classes as evenly as there are images, in one order for good."""

import struct
from collections import Counter
from hashlib import sha256

import numpy as np
import pytest
import torch

from art_ext.data import balanced_order, order_sha256

CASES = {
    "sorted": [0] * 6 + [1] * 6 + [2] * 6,
    "a class is missing": [3, 0, 0, 3, 3, 1, 1, 0, 1],
    "a class is rare": [0] * 9 + [7] + [1] * 9,
    "the first class is rare": [0] + [1] * 4 + [2] * 4,
    "one after the other": [0, 1, 2] * 5,
    "one class": [4] * 5,
    "none": [],
}
cases = pytest.mark.parametrize("labels", CASES.values(), ids=CASES)


@cases
def test_every_prefix_holds_each_class_as_often_as_it_can(labels):
    order = balanced_order(labels)
    assert sorted(order) == list(range(len(labels)))
    whole = Counter(labels)
    for n in range(len(labels) + 1):
        seen = Counter(labels[i] for i in order[:n])
        most = max(seen.values(), default=0)
        assert all(seen[label] >= min(most - 1, size) for label, size in whole.items())


def test_rounds_end_with_the_classes_that_have_images_left():
    # Classes 0, 1 and 2 with four, two and one images: rounds of three, two, one and one.
    labels = [0, 2, 0, 1, 0, 1, 0]
    found = [labels[i] for i in balanced_order(labels)]
    assert [sorted(found[a:b]) for a, b in ((0, 3), (3, 5), (5, 6), (6, 7))] == [[0, 1, 2], [0, 1], [0], [0]]


@cases
def test_each_class_keeps_its_own_order(labels):
    order = balanced_order(labels)
    for label in set(labels):
        own = [i for i in order if labels[i] == label]
        assert own == sorted(own)


def test_a_position_does_not_tell_the_class():
    labels = np.array([0, 1] * 500)
    first = labels[balanced_order(labels)][::2].mean()  # the first of each round
    assert first == pytest.approx(0.5, abs=4 * 0.5 / 500**0.5)
    assert len({tuple(balanced_order([0, 1] * 20, seed)) for seed in range(20)}) == 20


@cases
def test_the_order_is_the_same_every_time_and_an_order_that_it_gave_stays(labels):
    order = balanced_order(labels)
    assert balanced_order(labels) == order
    assert balanced_order([labels[i] for i in order]) == list(range(len(labels)))
    assert balanced_order(np.array(labels, dtype=np.uint8)) == balanced_order(torch.tensor(labels).long()) == order


def test_the_order_of_the_classes_is_that_of_pythons_random_numbers():
    """Which are promised to stay as they are: 0.844, 0.758, 0.421 and 0.259, 0.511, 0.405 from seed 0."""
    assert balanced_order([0, 0, 1, 1, 2, 2]) == [4, 2, 0, 1, 5, 3]


def test_more_images_leave_the_first_ones_where_they_are():
    labels = [0] * 8 + [1] * 8
    short = balanced_order(labels)
    places = {old: new for new, old in enumerate([*range(8), *range(10, 18)])}
    longer = balanced_order([0] * 10 + [1] * 10)
    assert [places[i] for i in longer[:16]] == short


def test_the_order_is_told_by_its_positions():
    order = [2, 0, 1]
    expected = sha256(struct.pack("<3q", 2, 0, 1)).hexdigest()
    for same in (order, np.array(order, dtype=">i4"), torch.tensor(order)):
        assert order_sha256(same) == expected
    assert order_sha256([0, 2, 1]) != expected


@pytest.mark.parametrize("labels", [[0.5, 1.0], ["a"], [[0, 1]], np.zeros((2, 1), dtype=int), np.array([np.nan])])
def test_labels_that_are_no_class_indices_are_refused(labels):
    with pytest.raises(ValueError, match=r"expected labels as whole numbers \(N,\), got"):
        balanced_order(labels)
