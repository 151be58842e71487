"""The attention functions that models of transformers call in every layer."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from headstock.attention import ALL_ATTENTION_FUNCTIONS, AttentionFunction, call_attention
from headstock.attention.settings import settings_for
from headstock.integrations.transformers.keywords import read_keywords
from headstock.integrations.transformers.layer_mask import layer_mask, selected
from headstock.registry import Link

__all__ = ["attention_function"]


def attention_function(name: str, implementation: str) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """The function that transformers knows as `name`, which runs `implementation` of headstock's shared table.

    Its signature is that of transformers: query `[batch, heads, queries, head_dim]`, key and value `[batch, kv_heads,
    keys, head_dim]`; output `[batch, queries, heads, head_dim]`, and weights where `output_attentions` asks for them.
    What was set for the layer (`headstock.overrides`) holds.
    """

    def attention(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Any,
        dropout: float = 0.0,
        scaling: float | None = None,
        is_causal: bool | None = None,
        **keywords: Any,
    ) -> tuple[Tensor, Tensor | None]:
        said, settings = read_keywords(keywords), settings_for(module)
        interface: Link[AttentionFunction] = ALL_ATTENTION_FUNCTIONS
        chosen = implementation
        as_pattern = settings is not None and settings.mask is not None
        mask = layer_mask(module, query, key, attention_mask, said, is_causal=is_causal, as_pattern=as_pattern)
        if settings is not None:
            mask = settings.masked(mask, query, key)
            chosen = settings.implementation or chosen
            interface = interface if settings.interface is None else settings.interface
        if said.indices is not None:
            mask = selected(mask, said.indices, query, key)
        output, weights = call_attention(
            interface, chosen, module, query, key, value, mask, scaling=scaling, dropout=dropout, **said.features
        )
        return output.contiguous(), weights

    attention.__name__ = attention.__qualname__ = name
    return attention
