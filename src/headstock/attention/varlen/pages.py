"""torch's flash attention over keys and values in pages."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headstock.attention.contract import AttentionOutput
from headstock.attention.flash.setting import active_flash_implementation
from headstock.attention.flash.sinks import with_sinks
from headstock.attention.varlen.function import arguments_of_varlen, call_varlen
from headstock.errors import UnsupportedFeature

__all__ = ["paged_varlen_attention", "reasons_against_pages"]


def paged_varlen_attention(
    query: Float[Tensor, "batch heads queries head_dim"],
    key_pages: Float[Tensor, "pages page_size kv_heads head_dim"],
    value_pages: Float[Tensor, "pages page_size kv_heads head_dim"],
    block_table: Int[Tensor, "batch blocks"],
    lengths: Int[Tensor, " batch"],
    *,
    scaling: float,
    window_size: tuple[int, int] = (-1, -1),
    longest: int | None = None,
    sinks: Float[Tensor, " heads"] | None = None,
    log_sum_exp: bool = True,
) -> AttentionOutput:
    """The same over keys and values in pages: key j of row b is at `[block_table[b, j // size], j % size]`.

    The last query of each row is aligned with its last key. There are no gradients.

    Args:
        query: what looks.
        key_pages: what is looked at.
        value_pages: what is weighted; its head size is that of the keys, a multiple of 8.
        block_table: the pages of each row, in order.
        lengths: how many keys each row has.
        scaling: factor of the scores, above 0.
        window_size: `(left, right)` as in `Varlen`.
        longest: the largest of `lengths`, where it is known.
        sinks: one logit per head that takes part in the softmax and has no value.
        log_sum_exp: whether the log-sum-exp is wanted.

    Raises:
        UnsupportedFeature: this version of torch has no pages, or none of this size.
    """
    reasons = [*reasons_against_pages(key_pages.shape[1])]
    if reasons:
        raise UnsupportedFeature(
            f"varlen_attention must be given pages that it reads, got pages of {key_pages.shape[1]}: it "
            f"{' and '.join(reasons)}; use the implementation 'blocked'"
        )
    batch, heads, queries, head_dim = query.shape
    if not query.numel() or longest == 0:
        nothing = torch.full((batch, heads, queries), -torch.inf, device=query.device)
        result = AttentionOutput(query.new_zeros(query.shape), nothing)
        return result if sinks is None else with_sinks(result, sinks)
    blocks = block_table.shape[1] * key_pages.shape[1]
    rows = torch.arange(batch + 1, dtype=torch.int32, device=query.device)
    # The lengths of the keys are told by seqused_k; flash attention 2 insists on a place for each row, 3 and 4 on none.
    places = rows * blocks if active_flash_implementation().active is None else None
    extra: dict[str, Any] = {"num_splits": 1} if "num_splits" in arguments_of_varlen() and places is not None else {}
    output, sums = call_varlen(
        query.transpose(1, 2).flatten(0, 1),
        key_pages,
        value_pages,
        rows * queries,
        places,
        queries,
        blocks if longest is None else longest,
        scale=scaling,
        window_size=window_size,
        wants_sums=log_sum_exp or sinks is not None,
        seqused_k=lengths.to(torch.int32),
        block_table=block_table.to(torch.int32),
        **extra,
    )
    told = output.reshape(batch, queries, heads, head_dim).transpose(1, 2)
    if sums is not None:
        sums = sums.masked_fill(sums == torch.inf, -torch.inf).reshape(heads, batch, queries).transpose(0, 1)
    result = AttentionOutput(told, sums)
    return result if sinks is None else with_sinks(result, sinks)


def reasons_against_pages(page_size: int) -> Iterator[str]:
    """Why pages of that size cannot be read, a phrase each."""
    takes = arguments_of_varlen()
    if "block_table" not in takes or "seqused_k" not in takes:
        yield f"does not read pages in torch {torch.__version__}"
    elif page_size % 256 and active_flash_implementation().active is None:
        yield "reads pages of multiples of 256 tokens alone (flash attention 2)"
