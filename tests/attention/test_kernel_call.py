"""One call of torch's kernel serves any tensors of its sizes, whichever form the heads of a group take."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from headstock.attention.kernel_call import kernel_call
from headstock.masks import CausalOrDense
from tests.support.attention import assert_within

LENGTHS = st.sampled_from([(1, 1), (1, 7), (1, 600), (5, 5), (3, 8)])
MASKS = st.sampled_from(["none", "causal", "rows", "heads", "added"])


def operands(lengths: tuple[int, int], heads: tuple[int, int], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    (queries, keys), (of_query, of_key) = lengths, heads
    sizes = (of_query, queries, 8), (of_key, keys, 8), (of_key, keys, 4)
    query, key, value = (torch.randn(2, *size).to(dtype) for size in sizes)
    return query, key, value


def form(mask: str, lengths: tuple[int, int], heads: int, dtype: torch.dtype) -> CausalOrDense | None:
    if mask in ("none", "causal"):
        return None if mask == "none" else CausalOrDense(None, True)
    shown = torch.rand(2, 1 if mask == "rows" else heads, *lengths) < 0.7
    shown[..., 0] = True  # no row is empty
    added = torch.where(shown, torch.randn(shown.shape), -torch.inf).to(dtype)
    return CausalOrDense(added if mask == "added" else shown, False)


@given(
    lengths=LENGTHS,
    heads=st.sampled_from([(2, 2), (6, 2), (4, 1)]),
    mask=MASKS,
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_it_gives_what_repeated_keys_give(
    lengths: tuple[int, int], heads: tuple[int, int], mask: str, dtype: torch.dtype
) -> None:
    shown = form(mask, lengths, heads[0], dtype)
    call = kernel_call(*operands(lengths, heads, dtype)[:2], shown, scaling=0.5, dropout=0.0)
    query, key, value = operands(lengths, heads, dtype)
    keys, values = (each.double().repeat_interleave(heads[0] // heads[1], 1) for each in (key, value))
    said, is_causal = shown or CausalOrDense(None, False)
    said = said if said is None or said.dtype == torch.bool else said.double()
    wanted = scaled_dot_product_attention(query.double(), keys, values, said, 0.0, is_causal, scale=0.5)
    # Rounding of scores of some units, of sums over `keys` terms and of the weights; that of the result is added.
    bound = (7 + lengths[1] ** 0.5) * torch.finfo(dtype).eps
    assert_within(call(query, key, value), wanted, bound * wanted.abs().max())


@pytest.mark.parametrize("keys", [512, 513])
def test_heads_of_long_caches_are_packed(keys: int) -> None:
    query, key, _ = operands((1, keys), (6, 2), torch.float32)
    call = kernel_call(query, key, None, scaling=0.5, dropout=0.0)
    assert call.packed == (None if keys <= 512 else (2, 2, 3, 8))
    assert call.shares_heads is (keys <= 512)


def test_no_length_is_compared_in_a_graph() -> None:
    def attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return kernel_call(query, key, None, scaling=0.5, dropout=0.0)(query, key, value)

    compiled = torch.compile(attended, fullgraph=True, dynamic=True, backend="eager")
    compiled(*operands((1, 500), (6, 2), torch.float32))
    with torch.compiler.set_stance("fail_on_recompile"):
        for keys in (511, 512, 513, 900):
            inputs = operands((1, keys), (6, 2), torch.float32)
            assert torch.allclose(compiled(*inputs), attended(*inputs), rtol=1e-5, atol=1e-6)
