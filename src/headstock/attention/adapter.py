"""Makes the table's form of a function that is written in the strict form."""

import functools
import inspect
import math
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from headstock.attention.contract import CORES, AttentionCore, AttentionFunction, contract_of
from headstock.attention.request import Request, mask_from_facts, read_keywords, refuse_unsupported
from headstock.attention.run import Call, run_core
from headstock.attention.shapes import check_inputs
from headstock.masks import Geometry, Mask, PreparedMask, prepare
from headstock.registry import declare

__all__ = ["prepared_mask", "request_of", "table_form"]


def table_form(name: str, core: AttentionCore, *, mask: str, features: Iterable[str]) -> AttentionFunction:
    """The function `name` of the module that defines `core`, to be entered in the table.

    It reads the three kinds of keyword, refuses what `core` does not honour, and hands `core` the mask in the
    representation `mask`. Without a mask it is full attention: `module.is_causal` is not asked.
    """

    def attention(
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | Mask | PreparedMask | None,
        *,
        scaling: float | None = None,
        dropout: float = 0.0,
        **keywords: Any,
    ) -> tuple[Tensor, Tensor | None]:
        contract = contract_of(attention)
        asked, facts, _ = read_keywords(name, contract, keywords)
        request = request_of(query, scaling=scaling, dropout=dropout, **asked)
        refuse_unsupported(name, contract, request)
        check_inputs(query, key, value, request.sinks, request.bias)
        given = mask_from_facts(facts) if attention_mask is None else attention_mask
        result = run_core(contract, Call(query, key, value, prepared_mask(given, query, key), request))
        # (b, h, q, d) -> (b, q, h, d)
        return result.output.transpose(1, 2).contiguous(), result.weights if request.weights else None

    signature = inspect.signature(attention)
    functools.update_wrapper(attention, core)
    attention.__name__ = attention.__qualname__ = name
    attention.__signature__ = signature  # type: ignore[attr-defined]
    CORES[attention] = core
    return declare(attention, mask=mask, features=features)


def request_of(query: Tensor, *, scaling: float | None, **options: Any) -> Request:
    """The options with `scaling` filled in: 1 / sqrt(head_dim) where it is not given."""
    if scaling is None:
        return Request(1.0 / math.sqrt(query.shape[-1]), **options)
    return Request(scaling, **options, scaling_given=True)


def prepared_mask(
    mask: Tensor | Mask | PreparedMask | None, query: Tensor, key: Tensor, *, q_offset: Any = None
) -> PreparedMask | None:
    """`mask` bound to the extent of one call.

    Queries are aligned with the last keys, or with the first where there are more queries than keys, unless `q_offset`
    says otherwise. A prepared mask keeps its own geometry, which must have the same extent.
    """
    if mask is None:
        return None
    batch, heads, queries, _ = query.shape
    keys = key.shape[2]
    if isinstance(mask, PreparedMask):
        own = mask.geometry
        geometry = Geometry(batch, queries, keys, own.q_offset, own.kv_offset, heads=own.heads)
        return prepare(mask, geometry, device=query.device)
    if q_offset is None:
        q_offset = keys - queries if keys >= queries else 0
    return prepare(mask, Geometry(batch, queries, keys, q_offset, heads=heads), device=query.device)
