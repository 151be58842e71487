"""The data form: JSON there and back, everything else refused."""

import contextlib
import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headstock.errors import HeadstockError, InvalidConfig, UnknownName, UnsupportedFeature
from headstock.masks import Geometry, Mask, causal, chunked, prepare, sliding_window
from tests.support.masks import expressions, reads_heads


@given(st.data())
def test_a_mask_survives_json(data: st.DataObject) -> None:
    mask = data.draw(expressions(Geometry(2, 3, 3), functions=False))[0]
    assert Mask.from_dict(json.loads(json.dumps(mask.to_dict()))) == mask


def test_reads_and_writes_what_one_would_write() -> None:
    data = {"and": [{"pattern": "causal"}, {"not": {"pattern": "sliding_window", "size": 4}}]}
    assert Mask.from_dict(data) == causal() & ~sliding_window(4)
    assert (causal() & ~sliding_window(4)).to_dict() == data
    assert chunked(2, torch.tensor([0, 1], dtype=torch.int32)).to_dict() == {
        "pattern": "chunked",
        "size": 2,
        "start": {"tensor": [0, 1], "dtype": "int32"},
    }


def test_the_patterns_may_be_those_of_another_table() -> None:
    assert Mask.from_dict({"pattern": "near"}, patterns={"near": lambda: sliding_window(2)}) == sliding_window(2)


@pytest.mark.parametrize(
    ("mask", "name"),
    [
        (causal() & Mask(reads_heads), r"Mask\(reads_heads\)"),
        (prepare(torch.ones(2, 2, dtype=torch.bool), Geometry(1, 2, 2)).mask, r"given\(entries=bool"),
    ],
)
def test_what_has_no_name_is_refused(mask: Mask, name: str) -> None:
    with pytest.raises(UnsupportedFeature, match=f"must be built of named patterns to be written as data, got {name}"):
        mask.to_dict()


def deep(levels: int) -> dict[str, Any]:
    data: dict[str, Any] = {"pattern": "causal"}
    for _ in range(levels):
        data = {"not": data}
    return data


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({}, r"must be a pattern or a connective, got \{\}; write \{\"pattern\": NAME, ARGUMENT: ...\}, "),
        (3, "must be a pattern or a connective, got 3; "),
        ({"and": []}, r"must be a pattern or a connective, got \{'and': \[\]\}; "),
        ({"or": "causal"}, r"must be a pattern or a connective, got \{'or': 'causal'\}; "),
        ({"not": {"pattern": "causal"}, "and": []}, "must be a pattern or a connective, got "),
        ({"pattern": ["causal"]}, "must be a pattern or a connective, got "),
        ({"and": [{"pattern": "causal"}, 4]}, "must be a pattern or a connective, got 4; "),
        (deep(102), "must be nested at most 100 deep, got deeper ones; join fewer masks"),
        ({"pattern": "sliding_window"}, r"must give 'sliding_window' its arguments, got \{\}: .*; write"),
        ({"pattern": "sliding_window", "size": 0}, "sliding_window's size must be an integer of at least 1, got 0; "),
        ({"pattern": "causal", "x": 1}, r"must give 'causal' its arguments, got \{'x': 1\}: "),
        (
            {"pattern": "padding", "keep": {"tensor": [[1], [1, 2]], "dtype": "bool"}},
            r"argument 'keep' must hold a rectangle of numbers, got .*; nest lists of equal lengths",
        ),
        (
            {"pattern": "padding", "keep": {"tensor": [[2**70]], "dtype": "int64"}},
            "argument 'keep' must hold a rectangle of numbers",
        ),
        (
            {"pattern": "padding", "keep": {"tensor": [[1]], "dtype": "float32"}},
            r"argument 'keep' must be a number, a list or a tensor, got .*; a tensor is \{\"tensor\"",
        ),
    ],
)
def test_anything_else_is_refused(data: Any, text: str) -> None:
    with pytest.raises(InvalidConfig, match=text):
        Mask.from_dict(data)


def test_an_unknown_pattern_is_refused() -> None:
    with pytest.raises(UnknownName, match="got 'causl'; did you mean 'causal'"):
        Mask.from_dict({"pattern": "causl"})


junk = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.sampled_from(["causal", "padding", "bool"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["pattern", "and", "or", "not", "size", "keep", "tensor", "dtype"]), inner, max_size=3
        )
    ),
)


@given(junk)
def test_any_data_are_a_mask_or_refused(data: Any) -> None:
    with contextlib.suppress(HeadstockError):
        assert isinstance(Mask.from_dict(data), Mask)
