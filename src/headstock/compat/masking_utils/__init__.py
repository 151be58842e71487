"""`transformers.masking_utils`: its mask functions and `create_*`, on headstock's masks.

Every public name of 5.23, and of 4.x `AttentionMask`, `tensor_to_mask_visual` and the two older forms of `sdpa_mask`.
The results are those of transformers entry by entry, `None` included, but where it goes wrong without a word:

- An implementation without an entry gets the mask that its attention function declares, or an error; there, no mask.
- A local `AttentionMaskInterface` is used, as `mask_interface=local`; there, never.
- `None` comes back only where the mask says what the caller makes of it; there, a `mask_function` may be dropped.
- Flash attention refuses what has no way to its kernel: other functions, blocks, packed rows of a batch.
- Masks that are not causal heed `position_ids`, `block_sequence_ids` and `layer_idx`.
- Repeated positions do not cut a document in pieces, and a jump is refused instead of guessed at.
- Boolean masks of four dimensions are not added to scores as zeros and ones, nor is additive padding read in reverse.
- Plain functions mean what `torch.vmap` says of them.
- Windows of no key, and keywords that would be dropped, are refused.
- Layers of the kind `hybrid_sliding` have their window in `create_masks_for_generate`.
"""

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
