"""Rotation is its definition in every layout, and what each model of transformers computes in its own way."""

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from headstock.errors import InvalidConfig, InvalidShape
from headstock.rope import (
    apply_rotary_pos_emb,
    apply_rotary_pos_emb_interleave,
    interleaved_to_half_split,
    rotate,
    rotate_half,
)
from tests.support.rotation import SHAPES, angles, by_matrices, in_layout

PLACES = ["contiguous", "transposed", "odd offset", "strided"]


def tolerance(dtype: torch.dtype) -> dict[str, Any]:
    """Two products of numbers up to 5, their sum and one rounding to `dtype`: four roundings, of numbers up to 10."""
    return {"rtol": 0.0, "atol": 40 * torch.finfo(dtype).eps}


@given(
    SHAPES,
    st.sampled_from(PLACES),
    st.booleans(),
    st.booleans(),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
)
@example((2, 4, 700, 16, 0), "transposed", False, False, torch.float32)
@example((1, 4, 4100, 16, 3), "contiguous", False, True, torch.bfloat16)
@example((3, 1, 3000, 16, 0), "contiguous", True, False, torch.float16)
def test_rotation_is_its_definition(
    shape: tuple[int, ...], place: str, interleaved: bool, suffix: bool, dtype: torch.dtype
) -> None:
    rows, heads, tokens, half, rest = shape
    x = in_layout(torch.randn(rows, heads, tokens, 2 * half + rest).clamp(-5, 5).to(dtype), place)
    cos, sin = angles(max(rows, 1), tokens, half, dtype)
    cos, sin = (cos, sin) if rows else (cos[:1], sin[:1])
    found = rotate(x, cos, sin, interleaved=interleaved, rotary="suffix" if suffix else "prefix")
    assert (found.dtype, found.shape) == (dtype, x.shape)
    wanted = by_matrices(x, cos, sin, interleaved=interleaved, suffix=suffix)
    torch.testing.assert_close(found.double(), wanted, **tolerance(dtype))


@given(SHAPES, st.booleans())
def test_halves_of_angles_may_differ(shape: tuple[int, ...], grad: bool) -> None:
    _, heads, tokens, half, rest = shape
    x = torch.randn(1, heads, tokens, 2 * half + rest, dtype=torch.float64, requires_grad=grad)
    cos, sin = torch.randn(2, 1, tokens, 2 * half, dtype=torch.float64)
    found = rotate(x, cos, sin)
    torch.testing.assert_close(found, by_matrices(x, cos, sin))


@given(SHAPES, st.integers(1, 3), st.booleans())
def test_heads_may_lie_before_or_after_tokens(shape: tuple[int, ...], groups: int, interleaved: bool) -> None:
    rows, heads, tokens, half, rest = shape
    query = torch.randn(rows, groups * heads, tokens, 2 * half + rest)
    key = torch.randn(rows, heads, tokens, 2 * half + rest)
    cos, sin = angles(1, tokens, half, torch.float32)
    if interleaved:
        before = [rotate(each, cos, sin, interleaved=True) for each in (query, key)]
        after = [rotate(x.transpose(1, 2), cos, sin, interleaved=True, unsqueeze_dim=2) for x in (query, key)]
    else:
        before = list(apply_rotary_pos_emb(query, key, cos, sin))
        after = list(apply_rotary_pos_emb(query.transpose(1, 2), key.transpose(1, 2), cos, sin, unsqueeze_dim=2))
        assert [each.shape for each in before] == [query.shape, key.shape]
    for first, second in zip(before, after, strict=True):
        torch.testing.assert_close(first, second.transpose(1, 2), **tolerance(torch.float32))


@pytest.mark.parametrize(
    ("shape", "angle_shape", "unsqueeze_dim"),
    [
        ((3, 7, 4), (7, 4), 0),  # heads, tokens
        ((7, 3, 4), (7, 4), 1),  # tokens, heads
        ((7, 3, 4), (7, 4), -2),
        ((2, 3, 7, 4), (7, 4), 0),
        ((2, 3, 7, 4), (2, 7, 4), -3),
        ((2, 5, 3, 7, 4), (2, 1, 7, 4), 2),
        ((7, 4), (1, 4), 0),  # one position for all
    ],
)
def test_any_leading_axes(shape: tuple[int, ...], angle_shape: tuple[int, ...], unsqueeze_dim: int) -> None:
    x, angle = torch.randn(shape), torch.randn(angle_shape)
    if len(shape) == 2:
        angle_shape = (4,)
        angle = angle[0]
    cos, sin = angle.cos(), angle.sin()
    broadcast = [each.unsqueeze(unsqueeze_dim) for each in (cos, sin)]
    wanted = x * broadcast[0] + rotate_half(x) * broadcast[1]
    found = rotate(x, cos, sin, unsqueeze_dim=unsqueeze_dim)
    torch.testing.assert_close(found, wanted, **tolerance(torch.float32))


def of_transformers(model: str, name: str = "apply_rotary_pos_emb") -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(
        importlib.import_module(f"transformers.models.{model}.modeling_{model}"), name
    )
    return function


def pair_of(rows: int, tokens: int, width: int, rest: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries, keys with fewer heads, cosines and sines."""
    q, k = (torch.randn(rows, heads, tokens, width + rest) for heads in (4, 2))
    cos, sin = angles(rows, tokens, width // 2, torch.float32)
    return q, k, cos, sin


@pytest.mark.parametrize(
    ("model", "rest"), [("llama", 0), ("qwen3", 0), ("deepseek_v3", 0), ("gpt_neox", 6), ("phi", 0)]
)
def test_half_split_models(model: str, rest: int) -> None:
    q, k, cos, sin = pair_of(2, 5, 10, rest)
    wanted = of_transformers(model)(q, k, cos, sin)
    torch.testing.assert_close(apply_rotary_pos_emb(q, k, cos, sin), wanted, **tolerance(torch.float32))


@pytest.mark.parametrize(("model", "rest"), [("glm", 6), ("ernie4_5", 0), ("helium", 0)])
def test_interleaved_models(model: str, rest: int) -> None:
    q, k, cos, sin = pair_of(2, 5, 10, rest)
    found = tuple(rotate(x, cos, sin, interleaved=True) for x in (q, k))
    torch.testing.assert_close(found, of_transformers(model)(q, k, cos, sin), **tolerance(torch.float32))


def test_an_interleaved_model_with_each_angle_twice_in_a_row() -> None:
    q, k, *given_angles = pair_of(2, 5, 10)
    cos, sin = (each[..., :5].repeat_interleave(2, -1) for each in given_angles)
    wanted = of_transformers("cohere")(q, k, cos, sin)
    cos, sin = map(interleaved_to_half_split, (cos, sin))
    found = tuple(rotate(x, cos, sin, interleaved=True) for x in (q, k))
    torch.testing.assert_close(found, wanted, **tolerance(torch.float32))


def test_an_interleaved_model_with_one_angle_per_pair() -> None:
    q, _, cos, sin = pair_of(2, 5, 10)
    wanted = of_transformers("gptj")(q.transpose(1, 2), sin[..., :5], cos[..., :5])
    found = rotate(q, torch.cat((cos[..., :5],) * 2, -1), torch.cat((sin[..., :5],) * 2, -1), interleaved=True)
    torch.testing.assert_close(found.transpose(1, 2), wanted, **tolerance(torch.float32))


def test_a_model_of_complex_numbers() -> None:
    q, k, cos, sin = pair_of(2, 5, 10)
    turns = torch.complex(cos[..., :5], sin[..., :5])
    wanted = of_transformers("llama4", "apply_rotary_emb")(q.transpose(1, 2), k.transpose(1, 2), turns)
    found = tuple(rotate(x.transpose(1, 2), cos, sin, interleaved=True, unsqueeze_dim=2) for x in (q, k))
    torch.testing.assert_close(found, wanted, **tolerance(torch.float32))


def test_a_model_that_rotates_the_end_of_a_head() -> None:
    q, _, cos, sin = pair_of(2, 5, 10, rest=6)
    wanted = of_transformers("deepseek_v4")(q, cos[..., :5], sin[..., :5])
    found = rotate(q, cos, sin, interleaved=True, rotary="suffix")
    torch.testing.assert_close(found, wanted, **tolerance(torch.float32))


def test_a_model_that_turns_the_other_way() -> None:
    q, k, cos, sin = pair_of(2, 5, 10)
    wanted = of_transformers("nanochat")(q, k, cos, sin)
    torch.testing.assert_close(apply_rotary_pos_emb(q, k, cos, -sin), wanted, **tolerance(torch.float32))


@pytest.mark.parametrize("unsqueeze_dim", [1, 2])
def test_the_interleave_form_gives_half_split_heads(unsqueeze_dim: int) -> None:
    q, k, cos, sin = pair_of(2, 5, 10)
    if unsqueeze_dim == 2:
        q, k = q.transpose(1, 2), k.transpose(1, 2)
    wanted = of_transformers("deepseek_v3", "apply_rotary_pos_emb_interleave")(
        q, k, cos, sin, unsqueeze_dim=unsqueeze_dim
    )
    found = apply_rotary_pos_emb_interleave(q, k, cos, sin, unsqueeze_dim=unsqueeze_dim)
    torch.testing.assert_close(found, wanted, **tolerance(torch.float32))


@pytest.mark.parametrize("shape", [(4,), (2, 6), (0, 2), (3, 0)])
def test_rotate_half_is_that_of_transformers(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    assert rotate_half(x).equal(of_transformers("llama", "rotate_half")(x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_at_least_as_exact_as_in_transformers(dtype: torch.dtype) -> None:
    q, k, cos, sin = (each.to(dtype) for each in pair_of(2, 300, 64))
    exact = by_matrices(q, cos, sin)
    ours, theirs = (
        (function(q, k, cos, sin)[0].double() - exact).abs()
        for function in (apply_rotary_pos_emb, of_transformers("llama"))
    )
    assert ours.max() <= theirs.max()
    assert ours.mean() < theirs.mean()
    # One rounding: at most half of the distance to the next number, but for the float32 sum before it.
    assert (ours <= exact.abs() * torch.finfo(dtype).eps / 2 * 1.01 + 1e-6).all()


@pytest.mark.parametrize(
    ("q_dtype", "k_dtype", "angle_dtype"),
    [
        (torch.bfloat16, torch.bfloat16, torch.float32),
        (torch.bfloat16, torch.float32, torch.float32),
        (torch.float32, torch.float32, torch.bfloat16),
        (torch.float32, torch.float64, torch.float64),
        (torch.float16, torch.bfloat16, torch.float32),
    ],
)
@pytest.mark.parametrize("tokens", [1, 700])
def test_results_have_the_dtypes_of_queries_and_keys(
    q_dtype: torch.dtype, k_dtype: torch.dtype, angle_dtype: torch.dtype, tokens: int
) -> None:
    q, k, cos, sin = pair_of(2, tokens, 16, rest=2)
    q, k, cos, sin = q.to(q_dtype), k.to(k_dtype), cos.to(angle_dtype), sin.to(angle_dtype)
    for found, given_ in zip(apply_rotary_pos_emb(q, k, cos, sin), (q, k), strict=True):
        assert found.dtype == given_.dtype
        torch.testing.assert_close(found.double(), by_matrices(given_, cos, sin), **tolerance(found.dtype))


Change = Callable[[Tensor, Tensor, Tensor, Tensor], dict[str, Any]]
REFUSED: list[tuple[str, Change, str]] = [
    (
        "odd rotary width",
        lambda q, k, cos, sin: {"cos": cos[..., 1:], "sin": sin[..., 1:]},
        "must be even and at least",
    ),
    ("no width", lambda q, k, cos, sin: {"cos": cos[..., :0], "sin": sin[..., :0]}, "must be even and at least 2, got"),
    ("one number", lambda q, k, cos, sin: {"cos": cos[0, 0, 0], "sin": sin[0, 0, 0]}, r"at least 2, got \(\)"),
    ("too wide", lambda q, k, cos, sin: {"q": q[..., :4]}, "must be at most as wide as a head, got 10 for heads of 4"),
    ("a narrow key", lambda q, k, cos, sin: {"k": k[..., :1]}, "at most as wide as a head, got 10 for heads of 1"),
    (
        "sin of another shape",
        lambda q, k, cos, sin: {"sin": sin[:, :3]},
        r"one shape, got \(2, 5, 10\) and \(2, 3, 10\)",
    ),
    (
        "other positions",
        lambda q, k, cos, sin: {"q": q[:, :, :4]},
        r"must broadcast.*got \(2, 1, 5, 10\) for \(2, 4, 4",
    ),
    (
        "fewer rows",
        lambda q, k, cos, sin: {"k": k[:1]},
        r"must broadcast to what is rotated, got \(2, 1, 5, 10\) for \(1",
    ),
    ("fewer axes", lambda q, k, cos, sin: {"q": q[0, 0]}, r"must broadcast to what is rotated.*for \(5, 10\)"),
    ("heads elsewhere", lambda q, k, cos, sin: {"unsqueeze_dim": 2}, "check unsqueeze_dim and the number of positions"),
    (
        "no such axis",
        lambda q, k, cos, sin: {"unsqueeze_dim": 3},
        "must place the axis of heads before the last.*got 3",
    ),
    ("no such axis", lambda q, k, cos, sin: {"unsqueeze_dim": -5}, "must place the axis of heads.*got -5"),
    ("whole numbers", lambda q, k, cos, sin: {"q": q.long()}, r"floating point, got torch.int64, torch.float32 and"),
    ("whole angles", lambda q, k, cos, sin: {"sin": sin.int()}, r"got torch.float32, torch.float32 and torch.int32"),
]


@pytest.mark.parametrize(("change", "text"), [each[1:] for each in REFUSED], ids=[each[0] for each in REFUSED])
@pytest.mark.parametrize("function", [apply_rotary_pos_emb, apply_rotary_pos_emb_interleave])
def test_what_does_not_fit_is_refused(function: Callable[..., Any], change: Change, text: str) -> None:
    q, k, cos, sin = pair_of(2, 5, 10)
    given_ = {"q": q, "k": k, "cos": cos, "sin": sin} | change(q, k, cos, sin)
    if function is apply_rotary_pos_emb_interleave and "as wide as a head" in text:
        text = "must be as wide as a head that changes its order"
    with pytest.raises(InvalidShape, match=text):
        function(**given_)


def test_a_part_of_a_head_does_not_change_its_order() -> None:
    q, k, cos, sin = pair_of(2, 5, 10, rest=2)
    with pytest.raises(InvalidShape, match="must be as wide as a head that changes its order, got 10 and 12"):
        apply_rotary_pos_emb_interleave(q, k, cos, sin)


@pytest.mark.parametrize("shape", [(), (3,), (4, 5)])
def test_rotate_half_refuses_odd_widths(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidShape, match=r"the last dimension of what is rotated must be even, got \("):
        rotate_half(torch.randn(shape))


def test_an_unknown_part_of_the_head_is_refused() -> None:
    q, _, cos, sin = pair_of(1, 1, 4)
    with pytest.raises(InvalidConfig, match="rotary must be 'prefix' or 'suffix', got 'middle'"):
        rotate(q, cos, sin, rotary="middle")  # type: ignore[arg-type]
