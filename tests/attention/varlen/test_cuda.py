"""varlen on a CUDA device: the same cases as through stand-ins, and lengths at which kernels have many blocks."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headstock import attend
from headstock.attention import ALL_ATTENTION_FUNCTIONS
from headstock.attention.varlen import paged_varlen_attention
from headstock.errors import UnsupportedFeature
from headstock.masks import Mask, bidirectional, causal, documents, padding, sliding_window
from tests.support.blocked import some
from tests.support.flash_cases import TokenCase, check, token_cases

pytestmark = pytest.mark.cuda
HALF = (torch.bfloat16, torch.float16)


@given(case=token_cases(features=("sinks",), dtypes=HALF), learns=st.booleans(), asks=st.booleans())
@settings(max_examples=some(1))
def test_it_is_the_formula_or_refused(case: TokenCase, learns: bool, asks: bool) -> None:
    try:
        check(case, "varlen", ALL_ATTENTION_FUNCTIONS, learns=learns, asks=asks, device="cuda")
    except UnsupportedFeature:
        return


def masks(length: int) -> dict[str, Mask]:
    ids = (torch.arange(length, device="cuda") // 300)[None].expand(2, -1)
    keep = torch.arange(length, device="cuda") < torch.tensor([length - 77, length], device="cuda")[:, None]
    return {
        "everything": bidirectional(),
        "causal": causal(),
        "window": causal() & sliding_window(200),
        "both sides": sliding_window(100, 50),
        "documents": causal() & documents(ids),
        "padding": causal() & padding(keep),
        "window and padding": causal() & sliding_window(200) & padding(keep),
        "left": causal() & padding(keep.flip(1)),
    }


NAMES = ("everything", "causal", "window", "both sides", "documents", "padding", "window and padding", "left")


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("head_dim", [64, 100, 128, 256])
@pytest.mark.parametrize("name", NAMES)
def test_many_blocks(name: str, head_dim: int, dtype: torch.dtype) -> None:
    length = 1025
    query = torch.randn(2, 4, length, head_dim, dtype=dtype, device="cuda", requires_grad=True)
    key, value = (torch.randn(2, 2, length, head_dim, dtype=dtype, device="cuda", requires_grad=True) for _ in "kv")
    mask = masks(length)[name]
    found = attend(query, key, value, mask=mask, implementation="varlen", checked=True)
    exact = [each.detach().double().requires_grad_() for each in (query, key, value)]
    expected = attend(*exact, mask=mask, implementation="eager")
    upstream = torch.randn_like(found)
    gradients = torch.autograd.grad(found, (query, key, value), upstream)
    of_exact = torch.autograd.grad(expected, exact, upstream.double())
    # A gradient sums products that were rounded to the dtype: it is off by some units of its largest numbers.
    unit = 16 * torch.finfo(dtype).eps
    for gradient, true in zip(gradients, of_exact, strict=True):
        assert (gradient.double() - true).abs().max() <= unit * true.abs().max()


@pytest.mark.parametrize("window_size", [(-1, -1), (-1, 0), (127, 0)])
@pytest.mark.parametrize("queries", [1, 5])
def test_pages(queries: int, window_size: tuple[int, int]) -> None:
    lengths = torch.tensor([1500, 700, 256, 5], device="cuda")
    key, value = torch.randn(2, 24, 256, 2, 64, dtype=torch.bfloat16, device="cuda")
    table = torch.randperm(24, device="cuda").reshape(4, 6)
    query = torch.randn(4, 8, queries, 64, dtype=torch.bfloat16, device="cuda")
    found = paged_varlen_attention(query, key, value, table, lengths, scaling=0.125, window_size=window_size)
    mask = {(-1, -1): None, (-1, 0): causal(), (127, 0): causal() & sliding_window(128)}[window_size]
    for row, length in enumerate(lengths.tolist()):
        own = (pages[table[row]].flatten(0, 1)[:length].transpose(0, 1)[None] for pages in (key, value))
        expected: Any = attend(
            query[row : row + 1].double(),
            *(each.double() for each in own),
            mask=mask,
            scaling=0.125,
            implementation="eager",
        )
        # Weights and result are each rounded to bfloat16, beside values of the size of 1.
        assert (found.output[row].double() - expected[0]).abs().max() <= 4 * torch.finfo(torch.bfloat16).eps * 4
