"""The words of attention: features, the keywords that carry them, and the keywords that do not concern it."""

from collections.abc import Mapping

__all__ = ["EMPTY_ROWS", "FEATURES", "MASK_FACTS", "POSITIONAL", "SPELLINGS", "TRANSPORT"]

FEATURES = ("bias", "dropout", "log_sum_exp", "sinks", "softcap", "weights")
"""What a call may ask for beyond query, key, value and mask: honoured or refused, never dropped."""

EMPTY_ROWS = "empty_rows"
"""The word by which a function declares that a row that sees nothing gives exact zeros by itself."""

SPELLINGS: Mapping[str, str] = {
    "bias": "bias",
    "position_bias": "bias",
    "dropout": "dropout",
    "sinks": "sinks",
    "s_aux": "sinks",
    "softcap": "softcap",
    "output_attentions": "weights",
}
"""Keyword of a function to the feature that it carries; a feature's own name first, then that of transformers."""

MASK_FACTS = frozenset({"is_causal", "sliding_window"})
"""Keywords that repeat what a mask says; where a mask is given they are not applied a second time."""

TRANSPORT = frozenset(
    {
        "cache_position",
        "encoder_attention_mask",
        "encoder_hidden_states",
        "layer_idx",
        "logits_to_keep",
        "output_hidden_states",
        "output_router_logits",
        "past_key_values",
        "position_embeddings",
        "position_ids",
        "return_dict",
        "token_type_ids",
        "use_cache",
    }
)
"""Keywords that models pass through every layer and that do not concern attention."""

POSITIONAL = ("module", "query", "key", "value", "attention_mask")
"""What a function of the table is called with by position."""
