"""The way in for keys and values in pages."""

from collections.abc import Mapping
from typing import Literal, Unpack, overload

from jaxtyping import Float
from torch import Tensor

from headstock.attention.bias.contract import BoundBias, ScoreBias
from headstock.attention.bias.evaluation import BiasFunction
from headstock.attention.check import run_checked
from headstock.attention.choice import AUTO
from headstock.attention.contract import AttentionFunction, AttentionOutput
from headstock.attention.options import RowOptions
from headstock.attention.paged.asking import asked_call
from headstock.attention.paged.choice import choose_reader
from headstock.attention.paged.contract import Pages
from headstock.attention.paged.whole import whole_call
from headstock.attention.table import ALL_ATTENTION_FUNCTIONS
from headstock.masks import MaskLike

__all__ = ["attend_paged"]


@overload
def attend_paged(
    query: Tensor,
    pages: Pages,
    *,
    return_lse: Literal[False] = ...,
    return_weights: Literal[False] = ...,
    **options: Unpack[RowOptions],
) -> Tensor: ...
@overload
def attend_paged(
    query: Tensor, pages: Pages, *, return_lse: bool = ..., return_weights: bool = ..., **options: Unpack[RowOptions]
) -> Tensor | AttentionOutput: ...
def attend_paged(
    query: Float[Tensor, "batch heads queries head_dim"],
    pages: Pages,
    *,
    mask: MaskLike | None = None,
    implementation: str = AUTO,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    sinks: Float[Tensor, " heads"] | None = None,
    bias: Float[Tensor, "..."] | ScoreBias | BoundBias | BiasFunction | None = None,
    return_lse: bool = False,
    return_weights: bool = False,
    checked: bool = False,
    interface: Mapping[str, AttentionFunction] | None = None,
) -> Float[Tensor, "batch heads queries value_dim"] | AttentionOutput:
    """Attention over keys and values in pages: for each row the same as `attend` over its own tokens alone.

    The last query of a row is aligned with its last key, or the first with the first where a row has fewer keys than
    queries. A row without tokens gives zeros. "blocked" touches the pages alone that hold a key which is seen, "eager"
    puts all tokens side by side first; a function of your own gets `block_table` and `lengths` where it declares
    `limits=Limits(paged=True)`, and all pages as key and value.

    Args:
        query: what looks.
        pages: what is looked at, such as `headstock.caches.PagedKeyValues`.
        mask: which key each query sees, by their positions in the row, as for `attend`; a tensor has as many keys as
            the longest row.
        implementation: a name of `interface`, or "auto" for what costs least of those that read pages and honour the
            call, what it takes to put keys side by side included (`explain_paged` tells).
        scaling: factor of the scores; 1 / sqrt(head_dim) by default.
        dropout: probability with which a weight is dropped.
        softcap: bounds the scores to (-softcap, softcap) by tanh.
        sinks: one logit per head that takes part in the softmax and has no value.
        bias: added to the scores, as for `attend`; a tensor has as many keys as the longest row, or 1.
        return_lse: give an `AttentionOutput` with the log-sum-exp of each row.
        return_weights: give an `AttentionOutput` with the weights, 0 where a row has no token.
        checked: compute the call by its definition too and compare.
        interface: the table to look the implementation up in; the shared one by default.

    Raises:
        InvalidComponent: `pages` is none, or `mask` is no mask over positions.
        InvalidShape: query, pages, mask and bias do not fit each other, or the table names a page that is not there.
        UnsupportedFeature: the implementation does not read pages, or does not honour what is asked for.
        UnknownName, InvalidConfig, WrongResult: as `attend`.

    Example:
        >>> import torch
        >>> from headstock.caches import PagedKeyValues, PagePool
        >>> paged = PagedKeyValues.empty(PagePool.empty(pages=8, page_size=4, kv_heads=2, head_dim=16), batch=2)
        >>> key, value = torch.randn(2, 2, 2, 5, 16)
        >>> paged.append(key, value, counts=[5, 2])
        >>> attend_paged(torch.randn(2, 4, 1, 16), paged, mask="causal & sliding_window(3)").shape
        torch.Size([2, 4, 1, 16])
    """
    call = asked_call(
        query,
        pages,
        mask,
        scaling=scaling,
        dropout=dropout,
        softcap=softcap,
        sinks=sinks,
        bias=bias,
        log_sum_exp=return_lse,
        weights=return_weights,
    )
    table = ALL_ATTENTION_FUNCTIONS if interface is None else interface
    chosen, read = choose_reader(table, implementation, call)
    if checked:
        # The gradient of a page is that of all rows on it: those of the queries alone are compared.
        definition = whole_call(call, with_gradients=False)
        further = {
            "key pages": pages.key_pages,
            "value pages": pages.value_pages,
            "block table": pages.block_table,
            "lengths": pages.lengths,
        }
        result = run_checked(chosen.name, definition, "dense_or_additive", lambda: read(chosen, call), further=further)
    else:
        result = read(chosen, call)
    return result if return_lse or return_weights else result.output
