"""The attention functions that models of transformers call in every layer."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from headstock.attention import ALL_ATTENTION_FUNCTIONS, AttentionFunction
from headstock.attention.call import Call
from headstock.attention.choice import Chosen
from headstock.attention.layer import in_table_layout, layer_call
from headstock.attention.run import run
from headstock.attention.settings import LayerSettings, settings_for
from headstock.integrations.transformers.carrier import MaskCarrier
from headstock.integrations.transformers.keywords import Said, read_keywords
from headstock.integrations.transformers.layer_mask import layer_mask, selected
from headstock.integrations.transformers.repeating import key_of
from headstock.integrations.transformers.row_sinks import checked_row_sinks, with_row_sinks
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
        settings, operands = settings_for(module), (query, key, value)
        numbers = {"scaling": scaling, "dropout": dropout}
        kept = None
        if settings is None and isinstance(attention_mask, MaskCarrier):
            kept = key_of(implementation, operands, numbers, keywords)
            again = None if kept is None else attention_mask.calls.of(ALL_ATTENTION_FUNCTIONS, kept)
            if again is not None:
                return again(query, key, value).transpose(1, 2).contiguous(), None
        said = read_keywords(keywords)
        chosen, call = _made(implementation, module, operands, attention_mask, is_causal, settings, numbers, said)
        again = None if kept is None else attention_mask.calls.keep(ALL_ATTENTION_FUNCTIONS, kept, chosen, call)
        if again is not None:
            return again(query, key, value).transpose(1, 2).contiguous(), None
        result = run(chosen, module, call)
        if said.row_sinks is not None:
            result = with_row_sinks(result, checked_row_sinks(said.row_sinks, query))
        output, weights = in_table_layout(result)
        return output.contiguous(), weights

    attention.__name__ = attention.__qualname__ = name
    return attention


def _made(
    implementation: str,
    module: nn.Module,
    operands: tuple[Tensor, Tensor, Tensor],
    attention_mask: Any,
    is_causal: bool | None,
    settings: LayerSettings | None,
    numbers: dict[str, Any],
    said: Said,
) -> tuple[Chosen, Call]:
    """What runs in the layer, and on what."""
    query, key, value = operands
    interface: Link[AttentionFunction] = ALL_ATTENTION_FUNCTIONS
    as_pattern = settings is not None and settings.mask is not None
    mask = layer_mask(module, query, key, attention_mask, said, is_causal=is_causal, as_pattern=as_pattern)
    if settings is not None:
        mask = settings.masked(mask, query, key)
        implementation = settings.implementation or implementation
        interface = interface if settings.interface is None else settings.interface
    if said.indices is not None:
        mask = selected(mask, said.indices, query, key)
    with_lse = said.row_sinks is not None
    return layer_call(
        interface, implementation, query, key, value, mask, return_lse=with_lse, **numbers, **said.features
    )
