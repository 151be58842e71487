"""Masks as tensors of four dimensions: boolean for SDPA, numbers to add for eager attention."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from headstock.compat.masking_utils.asking import Asked, refuse_unknown
from headstock.compat.masking_utils.functions import causal_mask_function
from headstock.errors import InvalidShape
from headstock.masks.contract import Predicate
from headstock.masks.tracing import is_readable

__all__ = ["eager_mask", "sdpa_mask", "sdpa_mask_older_torch", "sdpa_mask_recent_torch"]


def sdpa_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | Int[Tensor, "..."] = 0,
    kv_offset: int = 0,
    mask_function: Predicate = causal_mask_function,
    attention_mask: Tensor | None = None,
    local_size: int | None = None,
    allow_is_causal_skip: bool = True,
    allow_is_bidirectional_skip: bool = False,
    use_vmap: bool = False,  # noqa: ARG001 - a function means what `torch.vmap` says, however it is evaluated
    device: torch.device | str = "cpu",
    **kwargs: Any,
) -> Bool[Tensor, "batch 1 queries keys"] | None:
    """The mask as booleans, `[batch, 1, queries, keys]`, True = may attend; None where none is needed.

    None comes back where it is allowed and says the same. `allow_is_causal_skip`: SDPA is told `is_causal` for several
    queries, and one query sees every key. `allow_is_bidirectional_skip`: every query sees every key. transformers
    decides this from the lengths alone, and drops a `mask_function` that says something else: a window without its
    `local_size`, a bidirectional mask, one query in a static cache. Here it is read off the mask, and from the padding
    where values can be read.

    Args:
        batch_size: number of batch rows.
        q_length: number of queries.
        kv_length: number of keys.
        q_offset: index of the first query; an integer, a 0-dim tensor, or one for each row.
        kv_offset: index of the first key.
        mask_function: what may attend to what, `(batch_idx, head_idx, q_idx, kv_idx) -> bool` of absolute indices.
        attention_mask: padding, `[batch, keys]`, zero hides; columns that it lacks hide.
        local_size: the number of keys from which on a mask is always made.
        allow_is_causal_skip: whether None may stand for causal attention.
        allow_is_bidirectional_skip: whether None may stand for full attention.
        use_vmap: not read.
        device: where the mask lies, unless its own tensors say.
        **kwargs: what `create_*` passes to every mask function; anything else is refused.

    Raises:
        InvalidShape: a size is negative, or a tensor of the mask does not cover the keys or the batch.
        InvalidComponent: `mask_function` is no function of four indices that returns a boolean.
        UnsupportedFeature: a keyword that would be dropped.

    >>> sdpa_mask(batch_size=1, q_length=2, kv_length=3, q_offset=1).int()
    tensor([[[[1, 1, 0],
              [1, 1, 1]]]], dtype=torch.int32)
    >>> sdpa_mask(batch_size=1, q_length=3, kv_length=3)  # None
    """
    refuse_unknown("sdpa_mask", kwargs)
    asked = Asked.of((batch_size, q_length, kv_length, q_offset, kv_offset), mask_function, attention_mask, device)
    if asked.needs_no_mask(local_size, causal=allow_is_causal_skip, full=allow_is_bidirectional_skip):
        return None
    return asked.prepared.dense().expand(batch_size, -1, -1, -1)


def eager_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | Int[Tensor, "..."] = 0,
    kv_offset: int = 0,
    mask_function: Predicate = causal_mask_function,
    attention_mask: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    allow_is_bidirectional_skip: bool = False,
    use_vmap: bool = False,  # noqa: ARG001 - a function means what `torch.vmap` says, however it is evaluated
    device: torch.device | str = "cpu",
    **kwargs: Any,
) -> Float[Tensor, "batch 1 queries keys"] | None:
    """The mask as numbers to add to scores, `[batch, 1, queries, keys]`: 0, or the lowest finite value of `dtype`.

    None comes back only where `allow_is_bidirectional_skip` allows it and every query sees every key. Arguments as of
    `sdpa_mask`.

    Raises:
        InvalidConfig: `dtype` is not a floating dtype.
        InvalidShape, InvalidComponent, UnsupportedFeature: as `sdpa_mask`.

    >>> eager_mask(batch_size=1, q_length=2, kv_length=2, dtype=torch.float16)
    tensor([[[[     0., -65504.],
              [     0.,      0.]]]], dtype=torch.float16)
    """
    refuse_unknown("eager_mask", kwargs)
    asked = Asked.of((batch_size, q_length, kv_length, q_offset, kv_offset), mask_function, attention_mask, device)
    if asked.needs_no_mask(kwargs.get("local_size"), full=allow_is_bidirectional_skip):
        return None
    return asked.prepared.additive(dtype).expand(batch_size, -1, -1, -1)


def sdpa_mask_recent_torch(
    batch_size: int,
    cache_position: Int[Tensor, "queries"],
    kv_length: int,
    kv_offset: int = 0,
    mask_function: Predicate = causal_mask_function,
    attention_mask: Tensor | None = None,
    local_size: int | None = None,
    allow_is_causal_skip: bool = True,
    **kwargs: Any,
) -> Bool[Tensor, "batch 1 queries keys"] | None:
    """`sdpa_mask` as transformers 4 had it: the indices of the queries come as a tensor.

    Raises:
        InvalidShape: the indices do not go on by one, or as `sdpa_mask`.
        InvalidComponent, UnsupportedFeature: as `sdpa_mask`.

    >>> sdpa_mask_recent_torch(1, torch.tensor([3, 4]), 6).int().tolist()
    [[[[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0]]]]
    """
    if (
        cache_position.ndim != 1
        or not len(cache_position)
        or (is_readable(cache_position) and bool((cache_position.diff() != 1).any()))
    ):
        raise InvalidShape(
            "cache_position must hold the indices of the queries, each one more than that before, got "
            f"{cache_position.tolist() if is_readable(cache_position) else list(cache_position.shape)}; "
            "positions of packed documents go into position_ids"
        )
    return sdpa_mask(
        batch_size,
        len(cache_position),
        kv_length,
        cache_position[0],
        kv_offset,
        mask_function,
        attention_mask,
        local_size,
        allow_is_causal_skip,
        **{"device": cache_position.device, **kwargs},
    )


sdpa_mask_older_torch = sdpa_mask_recent_torch
"""The same: what it did without torch's later vmap needs no other way today."""
