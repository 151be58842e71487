"""`transformers.masking_utils`: its mask functions and `create_*`, on headstock's masks."""

from headstock.compat.masking_utils.bidirectional import (
    create_bidirectional_mask,
    create_bidirectional_sliding_window_mask,
)
from headstock.compat.masking_utils.causal import (
    create_causal_mask,
    create_chunked_causal_mask,
    create_sliding_window_causal_mask,
)
from headstock.compat.masking_utils.dense import (
    eager_mask,
    sdpa_mask,
    sdpa_mask_older_torch,
    sdpa_mask_recent_torch,
)
from headstock.compat.masking_utils.extent import find_first_full_attention_index
from headstock.compat.masking_utils.flash import flash_attention_mask
from headstock.compat.masking_utils.flex import flex_attention_mask
from headstock.compat.masking_utils.functions import (
    add_offsets_to_mask_function,
    and_masks,
    bidirectional_mask_function,
    blockwise_overlay,
    causal_mask_function,
    chunked_causal_mask_function,
    chunked_overlay,
    or_masks,
    sliding_window_bidirectional_mask_function,
    sliding_window_bidirectional_overlay,
    sliding_window_causal_mask_function,
    sliding_window_overlay,
)
from headstock.compat.masking_utils.generation import (
    LAYER_PATTERN_TO_MASK_FUNCTION_MAPPING,
    create_masks_for_generate,
    create_recurrent_attention_mask,
)
from headstock.compat.masking_utils.packing import (
    find_packed_sequence_indices,
    packed_sequence_compatibility_function,
    packed_sequence_mask_function,
    padding_mask_function,
    remap_positions_for_packed_sequence,
)
from headstock.compat.masking_utils.padding import fast_all, maybe_pad_block_sequence_ids, prepare_padding_mask
from headstock.compat.masking_utils.preprocessing import _preprocess_mask_arguments
from headstock.compat.masking_utils.table import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from headstock.compat.masking_utils.visual import AttentionMask, tensor_to_mask_visual

__all__ = [
    "ALL_MASK_ATTENTION_FUNCTIONS",
    "LAYER_PATTERN_TO_MASK_FUNCTION_MAPPING",
    "AttentionMask",
    "AttentionMaskInterface",
    "_preprocess_mask_arguments",
    "add_offsets_to_mask_function",
    "and_masks",
    "bidirectional_mask_function",
    "blockwise_overlay",
    "causal_mask_function",
    "chunked_causal_mask_function",
    "chunked_overlay",
    "create_bidirectional_mask",
    "create_bidirectional_sliding_window_mask",
    "create_causal_mask",
    "create_chunked_causal_mask",
    "create_masks_for_generate",
    "create_recurrent_attention_mask",
    "create_sliding_window_causal_mask",
    "eager_mask",
    "fast_all",
    "find_first_full_attention_index",
    "find_packed_sequence_indices",
    "flash_attention_mask",
    "flex_attention_mask",
    "maybe_pad_block_sequence_ids",
    "or_masks",
    "packed_sequence_compatibility_function",
    "packed_sequence_mask_function",
    "padding_mask_function",
    "prepare_padding_mask",
    "remap_positions_for_packed_sequence",
    "sdpa_mask",
    "sdpa_mask_older_torch",
    "sdpa_mask_recent_torch",
    "sliding_window_bidirectional_mask_function",
    "sliding_window_bidirectional_overlay",
    "sliding_window_causal_mask_function",
    "sliding_window_overlay",
    "tensor_to_mask_visual",
]
