"""Makes the table's form of a function that is written in the strict form."""

import functools
import inspect
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from headstock.attention.contract import CORES, AttentionCore, AttentionFunction
from headstock.attention.layer import call_attention
from headstock.attention.limits import Limits
from headstock.masks import MaskLike
from headstock.registry import declare

__all__ = ["table_form"]


def table_form(
    name: str, core: AttentionCore, *, mask: str, features: Iterable[str], limits: Limits | None = None
) -> AttentionFunction:
    """The function `name` of the module that defines `core`, to be entered in the table.

    It reads the three kinds of keyword, refuses what `core` does not honour, and hands `core` the mask in the
    representation `mask`. Without a mask it is full attention: `module.is_causal` is not asked.
    """

    def attention(
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: MaskLike | None,
        *,
        scaling: float | None = None,
        dropout: float = 0.0,
        **keywords: Any,
    ) -> tuple[Tensor, Tensor | None]:
        table = {name: attention}
        output, weights = call_attention(
            table, name, module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **keywords
        )
        return output.contiguous(), weights

    signature = inspect.signature(attention)
    functools.update_wrapper(attention, core)
    attention.__name__ = attention.__qualname__ = name
    attention.__signature__ = signature  # type: ignore[attr-defined]  # that of `core` is another
    CORES[attention] = core
    return declare(attention, mask=mask, features=features, limits=limits)
