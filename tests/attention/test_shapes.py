"""Tensors that do not fit each other are refused, by name, before any work."""

from typing import Any

import pytest
import torch
from torch import Tensor

from headstock.attention import AttentionInterface, attend, call_attention, explain
from headstock.attention.shapes import check_inputs
from headstock.errors import InvalidShape

QUERY, KEY, VALUE = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 6, 8), torch.randn(2, 2, 6, 3)

WRONG = [
    (
        (QUERY[0], KEY, VALUE),
        {},
        r"query must have 4 dimensions \[batch, heads, length, head_dim\], got \[4, 5, 8\]; use",
    ),
    ((QUERY, KEY[0], VALUE), {}, r"key must have 4 dimensions .* got \[2, 6, 8\]"),
    ((QUERY, KEY, VALUE[None]), {}, r"value must have 4 dimensions .* got \[1, 2, 2, 6, 3\]"),
    (
        (QUERY, KEY[:1], VALUE),
        {},
        r"dimension 0 of the key must be the batch size of the query, 2, got 1 in \[1, 2, 6, 8\]",
    ),
    ((QUERY, KEY, VALUE[:1]), {}, "dimension 0 of the value must be the batch size of the query, 2, got 1"),
    ((QUERY, KEY[..., :7], VALUE), {}, "dimension 3 of the key must be the head size of the query, 8, got 7"),
    ((QUERY, KEY, VALUE[:, :1]), {}, "dimension 1 of the value must be the number of heads of the key, 2, got 1"),
    ((QUERY, KEY, VALUE[:, :, :5]), {}, "dimension 2 of the value must be the number of keys, 6, got 5"),
    ((QUERY[:, :3], KEY, VALUE), {}, "heads of the query must be a multiple of those of the key, got 3 and 2; every"),
    ((QUERY, KEY[:, :0], VALUE[:, :0]), {}, "heads of the query must be a multiple of those of the key, got 4 and 0"),
    ((QUERY[..., :0], KEY[..., :0], VALUE), {}, r"head size of the query must be at least 1, got \[2, 4, 5, 0\]"),
    ((QUERY.int(), KEY, VALUE), {}, r"query must have a floating dtype, got torch.int32; convert it with `.float\(\)`"),
    ((QUERY, KEY, VALUE.to(torch.complex64)), {}, "value must have a floating dtype, got torch.complex64"),
    ((QUERY, KEY.half(), VALUE), {}, "must have one dtype, got torch.float32, torch.float16, torch.float32; use"),
    ((QUERY, KEY, VALUE.to("meta")), {}, "value must be on the device of the query, cpu, got meta; move it"),
    (
        (QUERY, KEY, VALUE),
        {"sinks": torch.randn(2)},
        r"sinks must hold one logit per head, \[4\], got \[2\]; flatten them",
    ),
    ((QUERY, KEY, VALUE), {"sinks": torch.randn(1, 4)}, r"sinks must hold one logit per head, \[4\], got \[1, 4\]"),
    ((QUERY, KEY, VALUE), {"sinks": torch.ones(4).int()}, "sinks must have a floating dtype, got torch.int32"),
    ((QUERY, KEY, VALUE), {"sinks": torch.randn(4, device="meta")}, "sinks must be on the device of the query"),
    ((QUERY, KEY, VALUE), {"sinks": [0.0] * 4}, "sinks must be a tensor, got list; convert it with torch.as_tensor"),
    ((QUERY, KEY, VALUE), {"bias": torch.ones(5, 6).bool()}, "bias must have a floating dtype, got torch.bool"),
    (
        (QUERY, KEY, VALUE),
        {"bias": torch.randn(2, 5, 6)},
        r"bias must broadcast to the scores .* \[2, 4, 5, 6\], got \[2, 5, 6\]",
    ),
    ((QUERY, KEY, VALUE), {"bias": torch.randn(1, 2, 4, 5, 6)}, r"bias must broadcast .* got \[1, 2, 4, 5, 6\]; give"),
]


@pytest.mark.parametrize(("tensors", "options", "text"), WRONG)
def test_each_is_refused_by_name(tensors: tuple[Tensor, Tensor, Tensor], options: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidShape, match=text):
        check_inputs(*tensors, **options)
    for function in (attend, explain):
        with pytest.raises(InvalidShape, match=text):
            function(*tensors, **options)
    with pytest.raises(InvalidShape, match=text):
        call_attention(AttentionInterface(), "eager", None, *tensors, mask=None, **options)


def test_what_is_no_tensor_is_refused() -> None:
    with pytest.raises(InvalidShape, match=r"query must be a tensor, got list; convert it with torch.as_tensor"):
        check_inputs([[1.0]], KEY, VALUE)  # type: ignore[arg-type]  # what is tested


@pytest.mark.parametrize("bias", [torch.randn(()), torch.randn(6), torch.randn(5, 1), torch.randn(2, 1, 1, 6)])
def test_biases_that_broadcast_fit(bias: Tensor) -> None:
    check_inputs(QUERY, KEY, VALUE, torch.randn(4), bias)


def test_dtypes_may_differ_where_autocast_makes_them_one() -> None:
    mixed = (QUERY, KEY.bfloat16(), VALUE.half())
    with torch.autocast("cpu", torch.bfloat16):
        check_inputs(*mixed)
        with pytest.raises(
            InvalidShape, match=r"must have one dtype, got torch.float64, torch.bfloat16, torch.float16"
        ):
            check_inputs(QUERY.double(), *mixed[1:])
    with pytest.raises(InvalidShape, match="must have one dtype"):
        check_inputs(*mixed)


@pytest.mark.parametrize("name", ["eager", "sdpa"])
def test_tensors_without_data_have_results_without_data(name: str) -> None:
    output = attend(QUERY.to("meta"), KEY.to("meta"), VALUE.to("meta"), implementation=name)
    assert (output.device.type, output.shape) == ("meta", (2, 4, 5, 3))
