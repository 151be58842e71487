"""The keywords that models of transformers hand to an attention function."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from headstock.attention.words import SPELLINGS
from headstock.errors import UnsupportedFeature

__all__ = ["PASSED_OVER", "Said", "read_keywords"]

PASSED_OVER = frozenset(
    {
        "block_sequence_ids",
        "deterministic",
        "encoder_position_ids",
        "inputs_embeds",
        "labels",
        "mm_token_type_ids",
        "num_items_in_batch",
        "output_cross_attentions",
        "return_loss",
    }
)
"""What models pass through every layer beside the words that headstock knows, and that changes no attention."""

_SINKS = tuple(name for name, meant in SPELLINGS.items() if meant == "sinks")
_PACKED = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")


class Said(NamedTuple):
    """What the keywords of one call say.

    Attributes:
        features: what headstock's own `call_attention` takes, which refuses what it does not know.
        window: `sliding_window`, of importance only where no mask says it.
        indices: the keys that each query was given by an indexer, `[batch, queries, count]`.
        packed: whether cumulative lengths of packed sequences came along.
        row_sinks: a sink's logit for each query and head; those of heads alone are among the features.
    """

    features: dict[str, Any]
    window: int | None
    indices: Tensor | None
    packed: bool
    row_sinks: Tensor | None = None


def read_keywords(keywords: Mapping[str, Any]) -> Said:
    """Sort the keywords; a None says nothing.

    Raises:
        UnsupportedFeature: a paged cache of transformers' own, which headstock does not read.
    """
    said = {name: value for name, value in keywords.items() if value is not None and name not in PASSED_OVER}
    if said.pop("cache", None) is not None:
        raise UnsupportedFeature(
            "keys and values must come as tensors, got a paged cache of transformers' continuous batching; use "
            "attn_implementation='paged|eager' or 'sdpa' there"
        )
    packed = [name for name in _PACKED if said.pop(name, None) is not None]
    window, indices = said.pop("sliding_window", None), said.pop("indices", None)
    row_sinks = [said.pop(name) for name in _SINKS if isinstance(said.get(name), Tensor) and said[name].ndim == 4]
    return Said(said, window, indices, bool(packed), row_sinks[0] if row_sinks else None)
