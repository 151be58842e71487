"""A private function of transformers that some of its models import."""

from typing import Any

from torch import Tensor

from headstock.compat.masking_utils.extent import Forward, extent_of, is_prepared
from headstock.compat.masking_utils.lookup import mask_function_for

__all__ = ["_preprocess_mask_arguments"]


def _preprocess_mask_arguments(
    config: Any,
    inputs_embeds: Tensor,
    attention_mask: Any,
    past_key_values: Any,
    position_ids: Tensor | None,
    layer_idx: int | None,
    encoder_hidden_states: Tensor | None = None,
) -> tuple[Any, ...]:
    """(early_exit, attention_mask, packed_sequence_mask, q_length, kv_length, q_offset, kv_offset).

    `early_exit` says that the mask is prepared already; the others are None then.

    Raises:
        UnknownName: no table has `config._attn_implementation`; transformers says `early_exit` then.
        InvalidConfig, InvalidShape: as `create_causal_mask`.
    """
    if is_prepared(attention_mask):
        return True, attention_mask, None, None, None, None, None
    mask_function_for(config, None)
    said = (config, inputs_embeds, attention_mask, past_key_values, position_ids)
    forward = Forward(*said, None, None, None, layer_idx or 0, None, encoder_hidden_states)
    return False, *extent_of(forward)
