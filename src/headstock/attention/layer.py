"""The way in for a layer of a model."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor

from headstock.attention.auto.decisions import choose_auto
from headstock.attention.bias.binding import bias_of
from headstock.attention.call import Call, bound_mask, bound_request, is_learned
from headstock.attention.choice import AUTO, Chosen, choose
from headstock.attention.contract import AttentionFunction, AttentionOutput
from headstock.attention.keywords import mask_from_facts, own_keywords, read_keywords
from headstock.attention.request import request_of
from headstock.attention.run import run
from headstock.attention.shapes import check_inputs
from headstock.masks import MaskLike, PreparedMask

__all__ = ["call_attention", "in_table_layout", "layer_call"]


def call_attention(
    interface: Mapping[str, AttentionFunction],
    implementation: str,
    module: Any,
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch kv_heads keys head_dim"],
    value: Float[Tensor, "batch kv_heads keys value_dim"],
    mask: MaskLike | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    return_weights: bool = False,
    **keywords: Any,
) -> tuple[Float[Tensor, "batch queries heads value_dim"], Float[Tensor, "batch heads queries keys"] | None]:
    """Attention for a layer: as `attend`, with the layer for functions that look at it, in the layout of the table.

    `keywords` are of three kinds. Features (`softcap`, `sinks` or `s_aux`, `bias` or `position_bias`,
    `output_attentions`) are honoured or refused. Facts about the mask (`is_causal`, `sliding_window`) spell a mask
    where none is given, and are not applied a second time where one is. What models pass through every layer
    (`position_ids`, `use_cache`, ...) is passed over. A keyword that only the called function names is handed to it;
    any other that is not None is refused by name.

    Args:
        interface: the table to look the implementation up in.
        implementation: a name of it, or "auto" for the fastest that honours the call.
        module: the layer, for functions that look at it; None gives them a stand-in.
        query: what looks.
        key: what is looked at; its heads divide those of the query.
        value: what is weighted.
        mask: which key each query sees, as for `attend`. None: every key, unless `keywords` spell a mask.
        scaling: factor of the scores; 1 / sqrt(head_dim) by default.
        dropout: probability with which a weight is dropped: 0.0 outside of training. Functions of the table may look
            at `module.training` too.
        return_weights: return the weights that multiplied the values.
        **keywords: see above.

    Raises:
        UnknownName, UnsupportedFeature, InvalidShape, InvalidConfig: as `attend`.

    Example:
        >>> import torch
        >>> from headstock.attention import ALL_ATTENTION_FUNCTIONS, call_attention
        >>> query, key, value = torch.randn(3, 1, 2, 5, 8)
        >>> output, weights = call_attention(
        ...     ALL_ATTENTION_FUNCTIONS, "eager", None, query, key, value, None, is_causal=True, output_attentions=True
        ... )
        >>> output.shape, weights.shape
        (torch.Size([1, 5, 2, 8]), torch.Size([1, 2, 5, 5]))
    """
    chosen, call = layer_call(
        *(interface, implementation, query, key, value, mask),
        scaling=scaling,
        dropout=dropout,
        return_weights=return_weights,
        **keywords,
    )
    return in_table_layout(run(chosen, module, call))


def layer_call(
    interface: Mapping[str, AttentionFunction],
    implementation: str,
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch kv_heads keys head_dim"],
    value: Float[Tensor, "batch kv_heads keys value_dim"],
    mask: MaskLike | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    return_weights: bool = False,
    return_lse: bool = False,
    **keywords: Any,
) -> tuple[Chosen, Call]:
    """What `call_attention` would run, and on what: checked, chosen and bound, nothing of it run."""
    features, facts, others = read_keywords(keywords)
    features["log_sum_exp"] = return_lse
    features["weights"] = return_weights or bool(features.get("weights"))
    features["bias"] = bias_of(features.get("bias"))
    check_inputs(query, key, value, features.get("sinks"), features["bias"])
    features["mask_is_learned"] = is_learned(mask)
    request = request_of(query.shape[3], scaling=scaling, dropout=dropout, **features)
    given = mask_from_facts(facts) if mask is None else mask
    operands = query, key, value
    if implementation == AUTO:
        bound = bound_mask(given, query, key)
        is_kept = isinstance(given, PreparedMask)
        chosen = choose_auto(interface, request, operands, bound, is_kept=is_kept, keywords=others)
        own = own_keywords(chosen.name, chosen.contract, others)
    else:
        chosen = choose(interface, implementation, request, operands, masked=given is not None)
        own = own_keywords(chosen.name, chosen.contract, others)
        bound = bound_mask(given, query, key)
    call = Call(query, key, value, bound, bound_request(request, bound, query, key), own)
    return chosen, call


def in_table_layout(
    result: AttentionOutput,
) -> tuple[Float[Tensor, "batch queries heads value_dim"], Float[Tensor, "batch heads queries keys"] | None]:
    """Output and weights as functions of the table return them."""
    return result.output.transpose(1, 2), result.weights
