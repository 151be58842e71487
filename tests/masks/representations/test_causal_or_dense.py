"""`to_causal_or_dense` against SDPA itself: what it leaves out must be what SDPA's own arguments say."""

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from headstock.masks import (
    CausalOrDense,
    Geometry,
    Mask,
    bidirectional,
    causal,
    padding,
    prepare,
    sliding_window,
    to_causal_or_dense,
    to_dense,
)
from tests.support.devices import moved, on_each_device
from tests.support.masks import Case, cases, loop


def rounding(keys: int, dtype: torch.dtype) -> float:
    """Two kernels, values below 8 in size: a scores' four products, an exponential, two sums over the keys, a quotient.

    Each rounds by half a unit in the last place, in either kernel.
    """
    return (2 * keys + 8) * 8 * torch.finfo(dtype).eps


def bands(size: int, right: int) -> list[Mask]:
    window = sliding_window(size, right)
    return [causal(), window, causal() & window, window & bidirectional(), causal() | window, ~~causal(), ~causal()]


@st.composite
def banded(draw: st.DrawFn) -> tuple[Mask, Geometry]:
    """Masks of structure alone, in geometries where they hide nothing, are causal, or neither."""
    offsets = st.integers(0, 4)
    q_offset = draw(offsets)
    geometry = Geometry(
        batch_size=1,
        q_length=draw(st.integers(1, 6)),
        kv_length=draw(st.integers(1, 6)),
        q_offset=q_offset,
        kv_offset=draw(st.just(q_offset) | offsets),
    )
    return draw(st.sampled_from(bands(draw(st.integers(1, 9)), draw(st.integers(0, 3))))), geometry


@given(banded())
@example((causal(), Geometry(batch_size=1, q_length=3, kv_length=5)))
@example((causal(), Geometry(batch_size=1, q_length=5, kv_length=3)))
@example((causal(), Geometry(batch_size=1, q_length=1, kv_length=5, q_offset=4)))
def test_sdpa_gives_the_same_with_what_it_is_given_as_with_the_dense_mask(drawn: tuple[Mask, Geometry]) -> None:
    mask, geometry = drawn
    attention_mask, is_causal = to_causal_or_dense(mask, geometry)
    dense = loop(lambda b, h, i, j: bool(mask(b, h, i, j)), geometry)
    query = torch.randn(1, 2, geometry.q_length, 4, dtype=torch.float64)
    key, value = torch.randn(2, 1, 2, geometry.kv_length, 4, dtype=torch.float64)
    torch.testing.assert_close(
        scaled_dot_product_attention(query, key, value, attn_mask=attention_mask, is_causal=is_causal),
        scaled_dot_product_attention(query, key, value, attn_mask=dense),
        rtol=0.0,
        atol=rounding(geometry.kv_length, torch.float64),
    )


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("queries", "keys"), [(128, 128), (130, 200), (200, 130), (1, 128)])
def test_every_kernel_of_a_device_means_the_same_triangle(queries: int, keys: int, dtype: torch.dtype) -> None:
    geometry = Geometry(batch_size=1, q_length=queries, kv_length=keys)
    assert to_causal_or_dense(causal(), geometry) == CausalOrDense(None, True)
    query = torch.randn(1, 2, queries, 64, device="cuda", dtype=dtype)
    key, value = torch.randn(2, 1, 2, keys, 64, device="cuda", dtype=dtype)
    dense = to_dense(causal(), geometry, device="cuda")
    found = scaled_dot_product_attention(query, key, value, is_causal=True)
    expected = scaled_dot_product_attention(query.double(), key.double(), value.double(), attn_mask=dense)
    # Weights and values below 1 and 8 in size are rounded to the dtype; TF32 is off by default.
    torch.testing.assert_close(found.double(), expected, rtol=0.0, atol=rounding(1, dtype))


@given(banded())
def test_a_mask_is_left_out_wherever_structure_allows_it(drawn: tuple[Mask, Geometry]) -> None:
    mask, geometry = drawn
    dense = loop(lambda b, h, i, j: bool(mask(b, h, i, j)), geometry)
    attention_mask, is_causal = to_causal_or_dense(mask, geometry)
    if bool(dense.all()):
        assert attention_mask is None
    # One query or one key that sees less than everything is triangular by chance.
    elif min(geometry.q_length, geometry.kv_length) > 1 and torch.equal(dense, torch.tril(torch.ones_like(dense))):
        assert attention_mask is None
        assert is_causal


@on_each_device
@given(case=cases())
def test_what_is_left_out_is_nothing_or_the_lower_triangle(device: str, case: Case) -> None:
    there = moved(case, device)
    attention_mask, is_causal = to_causal_or_dense(there.mask, there.geometry, device=device)
    whole = torch.ones(case.geometry.shape, dtype=torch.bool)
    said = attention_mask if attention_mask is not None else whole.tril() if is_causal else whole
    assert torch.equal(said.cpu().expand(whole.shape), loop(case.meaning, case.geometry))
    assert attention_mask is None or not is_causal


KEEP = padding(torch.ones(1, 4, dtype=torch.bool))


@pytest.mark.parametrize(
    ("mask", "geometry"),
    [
        (causal() & KEEP, Geometry(1, 4, 4)),
        (KEEP, Geometry(1, 4, 4)),
        (causal(), Geometry(1, 4, 4, q_offset=torch.tensor(0))),
        (causal(), Geometry(1, 1, 4, q_offset=torch.tensor(3))),
        (Mask(lambda b, h, i, j: j <= i), Geometry(1, 4, 4)),
    ],
)
def test_data_never_decides(mask: Mask, geometry: Geometry) -> None:
    attention_mask, is_causal = to_causal_or_dense(mask, geometry)
    assert attention_mask is not None
    assert not is_causal


def test_a_float_tensor_is_handed_on_in_the_dtype_that_is_named() -> None:
    geometry = Geometry(batch_size=1, q_length=2, kv_length=3)
    values = torch.randn(2, 3)
    prepared = prepare(values, geometry)
    whole = values[None, None]
    for dtype in (None, torch.float32, torch.float64):
        attention_mask, is_causal = to_causal_or_dense(prepared, geometry, dtype=dtype)
        assert attention_mask is not None
        assert torch.equal(attention_mask, whole.to(dtype or torch.float32))
        assert attention_mask.dtype == (dtype or torch.float32)
        assert not is_causal


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    queries, keys = query.shape[2], key.shape[2]
    geometry = Geometry(batch_size=query.shape[0], q_length=queries, kv_length=keys, q_offset=keys - queries)
    attention_mask, is_causal = to_causal_or_dense(causal() & sliding_window(6), geometry)
    return scaled_dot_product_attention(query, key, value, attn_mask=attention_mask, is_causal=is_causal)


def tensors(queries: int, keys: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(2, 3, queries, 4), torch.randn(2, 3, keys, 4), torch.randn(2, 3, keys, 4)


def test_compiled_in_one_graph() -> None:
    compiled = torch.compile(attention, fullgraph=True, backend="eager")
    for queries, keys in ((5, 5), (6, 6), (9, 9), (1, 9)):
        arguments = tensors(queries, keys)
        torch.testing.assert_close(compiled(*arguments), attention(*arguments), rtol=0.0, atol=0.0)


class Attention(torch.nn.Module):
    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return attention(query, key, value)


@pytest.mark.parametrize("strict", [False, True])
def test_exported_for_lengths_on_both_sides_of_the_window(strict: bool) -> None:
    length = torch.export.Dim("length", min=2, max=64)
    shapes = {name: {2: length} for name in ("query", "key", "value")}
    module = torch.export.export(Attention(), tensors(5, 5), dynamic_shapes=shapes, strict=strict).module()
    for each in (5, 6, 7, 20):
        arguments = tensors(each, each)
        # The exported graph has a mask where the eager call may have none.
        found, expected = module(*arguments), attention(*arguments)
        torch.testing.assert_close(found, expected, rtol=0.0, atol=rounding(each, torch.float32))


def test_exported_plainly_causal_needs_no_mask() -> None:
    class Plain(torch.nn.Module):
        def forward(self, query: Tensor) -> Tensor:
            given: CausalOrDense = to_causal_or_dense(
                causal(), Geometry(query.shape[0], query.shape[2], query.shape[2])
            )
            return query if given == CausalOrDense(None, True) else query * 0

    length = torch.export.Dim("length", min=2, max=64)
    module = torch.export.export(Plain(), (torch.randn(2, 3, 5, 4),), dynamic_shapes={"query": {2: length}}).module()
    query = torch.randn(2, 3, 9, 4)
    assert torch.equal(module(query), query)
