"""Plain values and checked numbers."""

from __future__ import annotations

import json
import math
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from art_ext.plain import MOST_ENTRIES, differences, number, plain


class Colour(Enum):
    RED = "red"


class Level(int, Enum):
    HIGH = 3


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (0.5, 0.5),
        ("a", "a"),
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (np.float64(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.array(3), 3),
        (torch.tensor(0.5), 0.5),
        (torch.tensor([7]), 7),
        (torch.nn.Parameter(torch.tensor(0.5)), 0.5),
        ((1, np.int32(2)), [1, 2]),
        ({"b", "a"}, ["a", "b"]),
        (frozenset({2, None, 1}), [None, 1, 2]),
        ({"a": {1: np.float32(2)}}, {"a": {"1": 2.0}}),
        ({Colour.RED: Level.HIGH}, {"red": 3}),
        (Path("a") / "b", str(Path("a") / "b")),
        (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
        (torch.tensor([True, False]), [True, False]),
        (np.zeros(0), []),
    ],
)
def test_plain_form(value: Any, expected: Any) -> None:
    found = plain(value)
    assert found == expected
    assert type(found) is type(expected)
    assert json.loads(json.dumps(found)) == expected


def test_subclasses_of_numbers_become_the_numbers_themselves() -> None:
    assert type(plain(np.float64(0.5))) is float
    assert type(plain(Level.HIGH)) is int
    assert type(plain([np.float64(0.5)])[0]) is float


def test_nan_and_infinity_stay_floats() -> None:
    assert math.isnan(plain(np.float32("nan")))
    assert plain(torch.tensor(float("inf"))) == math.inf


@pytest.mark.parametrize(
    "value", [object(), int, torch.float32, torch.nn.Identity(), lambda: 0, b"a", 1j, np.array([1j]), np.longdouble(1)]
)
def test_what_has_no_plain_form_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"expected clip_values(\[0\])? as a plain value .*, got \w+"):
        plain(value, "clip_values")


def test_the_error_names_the_entry() -> None:
    with pytest.raises(TypeError, match=r"expected options\['a'\]\[1\] as a plain value .*, got object"):
        plain({"a": [1, object()]}, "options")


def test_keys() -> None:
    for key in (0.5, None, True, (1, 2)):
        with pytest.raises(TypeError, match="expected keys of options as strings or whole numbers"):
            plain({key: 1}, "options")
    with pytest.raises(ValueError, match="got '1' twice"):
        plain({1: "a", "1": "b"}, "options")


def test_a_large_array_is_refused() -> None:
    assert len(plain(np.zeros(MOST_ENTRIES))) == MOST_ENTRIES
    with pytest.raises(TypeError, match=r"got Tensor of 10001 entries .at most 10000"):
        plain(torch.zeros(MOST_ENTRIES + 1))


@pytest.mark.parametrize("value", [3, np.int64(3), np.array(3), torch.tensor(3), torch.tensor([3])])
def test_number(value: Any) -> None:
    found = number(value, "steps", at_least=1, whole=True)
    assert found == 3
    assert type(found) is int


def test_number_keeps_the_kind() -> None:
    assert type(number(np.float32(2), "eps")) is float
    assert type(number(2, "eps")) is int
    assert type(number(2.0, "steps", whole=True)) is int
    assert type(number(np.float64(2), "eps")) is float


@pytest.mark.parametrize("value", [True, np.bool_(True), torch.tensor(True), "3", None, [3], 1j, np.zeros(2)])
def test_no_number(value: Any) -> None:
    with pytest.raises(TypeError, match="expected steps as a whole number of at least 1, got"):
        number(value, "steps", at_least=1, whole=True)


@pytest.mark.parametrize(
    ("value", "bounds", "wanted"),
    [
        (math.nan, {}, "a finite number"),
        (math.nan, {"finite": False}, "a number"),
        (math.inf, {}, "a finite number"),
        (math.inf, {"whole": True, "finite": False}, "a whole number"),
        (2.5, {"whole": True}, "a whole number"),
        (0, {"above": 0}, "a finite number above 0"),
        (-1, {"at_least": 0}, "a finite number of at least 0"),
    ],
)
def test_number_outside_its_bounds(value: float, bounds: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ValueError, match=f"expected eps as {wanted}, got {value}"):
        number(value, "eps", **bounds)


def test_infinity_where_it_is_allowed() -> None:
    assert number(np.inf, "order", finite=False) == math.inf


def test_what_differs_is_told_with_both_values() -> None:
    assert differences({"a": 1, "b": 2, "c": "x"}, {"a": 1, "b": 3}) == 'b 2 there, 3 now; c "x" there, null now'
    assert differences(0.1, None) == "0.1 there, null now"
    assert not differences({"a": "x" * 99}, {"a": "y"})
    assert not differences({"a": 1}, {"a": 1})
