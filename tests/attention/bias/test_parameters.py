"""What is asked of the parameters of every form."""

import re

import pytest
import torch

from headstock.attention.bias.parameters import check_count, check_parameter, working
from headstock.errors import InvalidConfig, InvalidShape


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        ([[1.0]], "the table must be a tensor [rows, columns], got list; convert it with torch.as_tensor"),
        (torch.ones(2, 3).int(), "the table must have a floating dtype, got torch.int32; convert it with `.float()`"),
        (torch.ones(2), "the table must be [rows, columns] with something in each dimension, got [2]; give it one"),
        (torch.ones(2, 0), "the table must be [rows, columns] with something in each dimension, got [2, 0]; give"),
    ],
)
def test_refuses_by_name(tensor: object, text: str) -> None:
    with pytest.raises(InvalidShape, match=re.escape(text)):
        check_parameter("the table", tensor, ("rows", "columns"))


@pytest.mark.parametrize("value", [2, 3.0, True, "3"])
def test_refuses_counts(value: object) -> None:
    text = re.escape(f"the count must be an integer of at least 3, got {value!r}; count again")
    with pytest.raises(InvalidConfig, match=text):
        check_count("the count", value, 3, "count again")


@pytest.mark.parametrize(
    ("given", "asked", "computed"),
    [
        (torch.bfloat16, torch.bfloat16, torch.float32),
        (torch.float32, torch.bfloat16, torch.float32),
        (torch.bfloat16, torch.float64, torch.float64),
        (torch.float64, torch.float32, torch.float64),
    ],
)
def test_computes_in_float32_or_better(given: torch.dtype, asked: torch.dtype, computed: torch.dtype) -> None:
    assert working(torch.ones(2, dtype=given), asked).dtype == computed
