"""Conversions move values only, and the theorem: scores are the same in both layouts."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headstock.errors import InvalidConfig, InvalidShape
from headstock.rope import convert_projection, half_split_to_interleaved, interleaved_to_half_split, rotate
from headstock.rope.layouts import Layout
from tests.support.rotation import angles

LAYOUTS: list[Layout] = ["half_split", "interleaved"]


@given(st.integers(0, 3), st.integers(0, 9))
def test_activations_go_there_and_back_bit_for_bit(rows: int, half: int) -> None:
    x = torch.randn(rows, 2 * half)
    assert interleaved_to_half_split(half_split_to_interleaved(x)).equal(x)
    assert half_split_to_interleaved(interleaved_to_half_split(x)).equal(x)


def test_pairs_keep_their_numbers() -> None:
    halves = torch.tensor([[0, 1, 2, 10, 11, 12]])
    assert half_split_to_interleaved(halves).tolist() == [[0, 10, 1, 11, 2, 12]]


@given(
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(0, 3),
    st.sampled_from(["prefix", "suffix"]),
    st.sampled_from([torch.float32, torch.bfloat16, torch.int8]),
)
def test_projections_go_there_and_back_bit_for_bit(
    heads: int, half: int, rest: int, rotary: Any, dtype: torch.dtype
) -> None:
    numbers: dict[str, Any] = {"heads": heads, "rotary_dim": 2 * half, "rotary": rotary}
    for shape in ((heads * (2 * half + rest), 3), (heads * (2 * half + rest),)):
        stored = (torch.randn(shape) * 50).to(dtype)
        there = convert_projection(stored, to="interleaved", **numbers)
        assert convert_projection(there, to="half_split", **numbers).equal(stored)
        assert there.is_contiguous()


@pytest.mark.parametrize("to", LAYOUTS)
@pytest.mark.parametrize("rotary", ["prefix", "suffix"])
def test_a_converted_projection_makes_converted_activations(to: Layout, rotary: Any) -> None:
    heads, half, rest, inputs = 3, 2, 2, 5
    width = 2 * half + rest
    weight, x = torch.randn(heads * width, inputs, dtype=torch.float64), torch.randn(4, inputs, dtype=torch.float64)
    convert = half_split_to_interleaved if to == "interleaved" else interleaved_to_half_split
    made = (x @ weight.T).unflatten(-1, (heads, width))
    turning = slice(0, 2 * half) if rotary == "prefix" else slice(rest, None)
    wanted = made.clone()
    wanted[..., turning] = convert(made[..., turning])
    converted = convert_projection(weight, head_dim=width, rotary_dim=2 * half, rotary=rotary, to=to)
    # The same products in the same order, in rows that lie elsewhere: a few roundings of float64.
    torch.testing.assert_close((x @ converted.T).unflatten(-1, (heads, width)), wanted, rtol=1e-13, atol=1e-13)


def test_rows_of_a_gguf_file_become_half_split() -> None:
    # llama.cpp stores the rows of q and k interleaved; this is the rule that restores those of the original checkpoint.
    heads, head_dim, inputs = 3, 8, 5
    stored = torch.randn(heads * head_dim, inputs)
    restored = stored.reshape(heads, head_dim // 2, 2, inputs).swapaxes(1, 2).reshape(stored.shape)
    assert convert_projection(stored, heads=heads, to="half_split").equal(restored)


@given(
    groups=st.integers(1, 3),
    kv_heads=st.integers(1, 2),
    half=st.integers(1, 4),
    rest=st.integers(0, 3),
    tokens=st.integers(1, 5),
    rotary=st.sampled_from(["prefix", "suffix"]),
)
def test_scores_of_interleaved_rows_are_those_of_half_split_rows(
    groups: int, kv_heads: int, half: int, rest: int, tokens: int, rotary: Any
) -> None:
    width, inputs = 2 * half + rest, 4
    x = torch.randn(2, tokens, inputs, dtype=torch.float64)
    cos, sin = angles(2, tokens, half)

    def scores(layout: Layout) -> torch.Tensor:
        rotated = []
        for weight, heads in zip(weights, (groups * kv_heads, kv_heads), strict=True):
            converted = convert_projection(weight, heads=heads, rotary_dim=2 * half, rotary=rotary, to="half_split")
            made = (
                (x @ (converted if layout == "half_split" else weight).T).unflatten(-1, (heads, width)).transpose(1, 2)
            )
            rotated.append(rotate(made, cos, sin, interleaved=layout == "interleaved", rotary=rotary))
        query, key = rotated
        return query @ key.repeat_interleave(groups, 1).transpose(-1, -2)

    weights = [torch.randn(heads * width, inputs, dtype=torch.float64) for heads in (groups * kv_heads, kv_heads)]
    # Sums of up to 11 products of numbers near 4 in another order: about 100 roundings of 2e-16.
    torch.testing.assert_close(scores("interleaved"), scores("half_split"), rtol=1e-12, atol=1e-12)


def test_gradients_flow_through_a_conversion() -> None:
    weight = torch.randn(4, 3, requires_grad=True)
    torch.arange(12.0).view(4, 3).mul(convert_projection(weight, heads=1, to="half_split")).sum().backward()
    assert weight.grad is not None
    assert weight.grad[:, 0].tolist() == [0.0, 6.0, 3.0, 9.0]


@pytest.mark.parametrize("convert", [half_split_to_interleaved, interleaved_to_half_split])
@pytest.mark.parametrize("shape", [(2, 3), ()])
def test_odd_widths_are_refused(convert: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidShape, match=r"what changes its layout must be pairs, an even number, got \d in \("):
        convert(torch.randn(shape))


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"to": "interleaved"}, InvalidConfig, "heads or head_dim must be given, got neither"),
    ({"to": "other", "heads": 2}, InvalidConfig, "to must be 'half_split' or 'interleaved', got 'other'"),
    (
        {"to": "half_split", "heads": 2, "rotary": "middle"},
        InvalidConfig,
        "rotary must be 'prefix' or 'suffix', got 'middle'",
    ),
    ({"to": "half_split", "heads": 0}, InvalidConfig, "heads and head_dim must be at least 1, got 0 and None"),
    ({"to": "half_split", "heads": 5}, InvalidShape, r"must be whole heads, got \(12, 3\) for heads=5, head_dim=None"),
    ({"to": "half_split", "head_dim": 24}, InvalidShape, r"must be whole heads, got \(12, 3\) for heads=None"),
    ({"to": "half_split", "heads": 2, "head_dim": 4}, InvalidShape, "must be whole heads"),
    ({"to": "half_split", "heads": 2, "rotary_dim": 3}, InvalidConfig, "rotary_dim must be even.*head_dim 6, got 3"),
    ({"to": "half_split", "heads": 2, "rotary_dim": 8}, InvalidConfig, "rotary_dim must be even.*head_dim 6, got 8"),
    ({"to": "half_split", "heads": 2, "rotary_dim": 0}, InvalidConfig, "rotary_dim must be even.*head_dim 6, got 0"),
    ({"to": "half_split", "heads": 4}, InvalidConfig, "rotary_dim must be even.*head_dim 3, got 3"),
]


@pytest.mark.parametrize(("numbers", "error", "text"), REFUSED)
def test_numbers_that_do_not_fit_are_refused(numbers: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        convert_projection(torch.randn(12, 3), **numbers)
