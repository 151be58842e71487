"""Calls of transformers' masking functions, and what their results mean."""

from types import SimpleNamespace
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor
from transformers import DynamicCache, LlamaConfig, MistralConfig, StaticCache
from transformers.cache_utils import Cache

__all__ = ["Call", "caches", "config_of", "equal", "fill", "meaning", "padding_masks"]


def config_of(implementation: str, **fields: Any) -> Any:
    """What the mask functions read of a configuration."""
    config = SimpleNamespace(_attn_implementation=implementation, **fields)
    config.get_text_config = lambda: config
    return config


def meaning(mask: Any, q_length: int, kv_length: int, *, causal: bool) -> Tensor:
    """What attention does with a mask, as booleans `[batch | 1, 1, queries, keys]`.

    Without one SDPA is causal from the first query and key for several queries, if its module is; one query sees all.
    """
    if mask is None:
        everything = torch.ones(1, 1, q_length, kv_length, dtype=torch.bool)
        return everything.tril() if causal and q_length > 1 else everything
    if not isinstance(mask, Tensor):  # a BlockMask, asked pair by pair
        indices = torch.arange(q_length)[:, None], torch.arange(kv_length)
        rows = [_of_row(mask, row, *indices) for row in range(mask.shape[0])]
        return torch.stack(rows)[:, None]
    return mask if mask.dtype == torch.bool else mask == 0


def _of_row(mask: Any, row: int, queries: Tensor, keys: Tensor) -> Tensor:
    verdict = mask.mask_mod(torch.tensor(row), torch.tensor(0), queries, keys)
    return torch.as_tensor(verdict).expand(len(queries), keys.shape[-1])


def equal(found: Any, wanted: Any) -> bool:
    """Whether two masks are the same, entry by entry and in dtype."""
    if not isinstance(found, Tensor) or not isinstance(wanted, Tensor):
        return found is wanted is None
    return found.dtype == wanted.dtype and torch.equal(found, wanted)


@st.composite
def padding_masks(draw: st.DrawFn, batch_size: int, length: int) -> Tensor | None:
    """None, ones, left or right padding, or anything; of booleans or of integers."""
    kind = draw(st.sampled_from(["none", "ones", "left", "right", "any"]))
    if kind == "none":
        return None
    keep = torch.ones(batch_size, length, dtype=torch.int64)
    for row in range(batch_size):
        if kind == "any":
            keep[row] = torch.tensor(draw(st.lists(st.integers(0, 1), min_size=length, max_size=length)))
        elif kind != "ones":
            cut = draw(st.integers(0, length - 1))
            keep[row, : cut if kind == "left" else 0] = 0
            keep[row, length - cut if kind == "right" else length :] = 0
    return keep.bool() if draw(st.booleans()) else keep


def fill(cache: Cache, config: Any, batch_size: int, tokens: int) -> Cache:
    """The cache after `tokens` more tokens in every layer."""
    states = torch.zeros(batch_size, config.num_key_value_heads, tokens, config.head_dim)
    for layer in range(config.num_hidden_layers):
        cache.update(states, states, layer)
    return cache


class Call:
    """A cache that has seen `seen` tokens, and the extent of the forward that follows."""

    def __init__(self, cache: Cache | None, seen: int, new: int) -> None:
        self.cache = cache
        self.seen = seen
        self.new = new


@st.composite
def caches(draw: st.DrawFn, batch_size: int, window: int) -> Call:
    """No cache, a growing or a static one, with or without windows, empty or with tokens in it."""
    kind = draw(st.sampled_from(["none", "dynamic", "static", "sliding", "static sliding", "hybrid"]))
    seen, new = draw(st.integers(0, 9)), draw(st.integers(1, 6))
    if kind == "none":
        return Call(None, 0, new)
    sizes: dict[str, Any] = {
        "hidden_size": 8,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "num_hidden_layers": 2,
        "vocab_size": 16,
        "intermediate_size": 8,
    }
    config: Any = LlamaConfig(**sizes)
    if "sliding" in kind:
        config = MistralConfig(**sizes, sliding_window=window)
    if kind == "hybrid":
        config.layer_types, config.sliding_window = ["full_attention", "sliding_attention"], window
    cache = StaticCache(config, max_cache_len=16) if "static" in kind else DynamicCache(config=config)
    return Call(fill(cache, config, batch_size, seen) if seen else cache, seen, new)
