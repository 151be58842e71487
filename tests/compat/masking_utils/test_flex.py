"""Block masks, called for by themselves."""

from typing import Any

import pytest
import torch
from torch.nn import functional
from torch.nn.attention.flex_attention import flex_attention

from headstock.compat import masking_utils as ours
from headstock.errors import UnsupportedFeature
from tests.support.no_work import NoTensorWork

KEEP = torch.arange(200) >= torch.tensor([[0], [40]])


def test_padding_that_hides_nothing_leaves_rows_alike() -> None:
    mask = ours.flex_attention_mask(2, 200, 200, attention_mask=torch.ones(2, 200))
    assert mask.kv_num_blocks.shape == (2, 1, 2)
    assert repr(mask.mask_mod) == "causal()"


def test_queries_of_each_row_may_begin_elsewhere() -> None:
    offsets = torch.tensor([0, 130])
    mask = ours.flex_attention_mask(2, 100, 260, offsets)
    seen = torch.arange(260) <= torch.arange(100)[:, None] + offsets[:, None, None]
    indices: Any = (torch.arange(2)[:, None, None], 0, torch.arange(100)[:, None], torch.arange(260))
    assert torch.equal(mask.mask_mod(*indices), seen)
    assert mask.to_dense().flatten(1).tolist() == [[1, 0, 0], [1, 1, 0]]


def test_a_keyword_that_would_be_dropped_is_refused_before_any_work() -> None:
    refused = pytest.raises(UnsupportedFeature, match=r"flex_attention_mask must not be given 'softcap', got 2.0; it")
    with refused, NoTensorWork():
        ours.flex_attention_mask(1, 3, 3, softcap=2.0)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # inductor's own imports
@pytest.mark.slow
@pytest.mark.parametrize("seen", [0, 56])
def test_compiled_flex_attention_takes_it(seen: int) -> None:
    function = ours.sliding_window_causal_mask_function(60)
    sizes: Any = (2, 200 - seen, 200, seen, 0, function, KEEP)
    query = torch.randn(2, 2, 200 - seen, 16)
    key, value = torch.randn(2, 2, 2, 200, 16)
    compiled: Any = torch.compile(flex_attention, dynamic=False)
    found = compiled(query, key, value, block_mask=ours.flex_attention_mask(*sizes))
    dense = ours.sdpa_mask(*sizes)
    assert dense is not None
    # At most 60 products of numbers of order 1 are summed in another order: 60 roundings of float32.
    torch.testing.assert_close(
        found,
        functional.scaled_dot_product_attention(query, key, value, attn_mask=dense),
        rtol=60 * 2**-24,
        atol=60 * 2**-24,
    )
