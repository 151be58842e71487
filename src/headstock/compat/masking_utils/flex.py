"""Masks as torch's `BlockMask`, for FlexAttention."""

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional

from headstock.compat.masking_utils.asking import Asked, refuse_unknown
from headstock.compat.masking_utils.functions import causal_mask_function
from headstock.masks.contract import Predicate
from headstock.masks.geometry import offset_of

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

__all__ = ["flex_attention_mask", "flex_form"]

_SIZE = 128


def flex_attention_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | Int[Tensor, "..."] = 0,
    kv_offset: int = 0,
    mask_function: Predicate = causal_mask_function,
    attention_mask: Tensor | None = None,
    device: torch.device | str = "cpu",
    **kwargs: Any,
) -> "BlockMask":
    """The mask as a `BlockMask` of `[batch, 1, queries, keys]` in blocks of 128, equal to `create_block_mask`'s.

    Its blocks come from the plan: nothing is compiled, and no pair is looked at unless a plain function cannot be
    planned. Inside of compiled code they come from the pairs. Arguments as of `sdpa_mask`.

    Raises:
        InvalidShape, InvalidComponent, UnsupportedFeature: as `sdpa_mask`.

    >>> flex_attention_mask(batch_size=1, q_length=256, kv_length=256).sparsity()
    25.0
    """
    refuse_unknown("flex_attention_mask", kwargs)
    sizes = (batch_size, q_length, kv_length, q_offset, kv_offset)
    return flex_form(Asked.of(sizes, mask_function, attention_mask, device).without_idle_padding())


def flex_form(asked: Asked) -> "BlockMask":
    """What was asked for as a `BlockMask`, with a row for each of the batch."""
    from torch.nn.attention.flex_attention import BlockMask

    batch_size, _, q_length, kv_length = asked.geometry.shape
    made = _blocks_in_graph(asked) if torch.compiler.is_compiling() else asked.prepared.block_mask()
    return BlockMask.from_kv_blocks(
        _for_each(batch_size, made.kv_num_blocks),
        _for_each(batch_size, made.kv_indices),
        _for_each(batch_size, made.full_kv_num_blocks),
        _for_each(batch_size, made.full_kv_indices),
        _SIZE,
        made.mask_mod,
        seq_lengths=(q_length, kv_length),
    )


class _Blocks(NamedTuple):
    """What a `BlockMask` is made of."""

    kv_num_blocks: Int[Tensor, "rows heads q_blocks"]
    kv_indices: Int[Tensor, "rows heads q_blocks kv_blocks"]
    full_kv_num_blocks: Int[Tensor, "rows heads q_blocks"]
    full_kv_indices: Int[Tensor, "rows heads q_blocks kv_blocks"]
    mask_mod: Any


def _blocks_in_graph(asked: Asked) -> _Blocks:
    """From every pair: a graph of fixed shapes cannot hold a plan, whose length is that of what it finds."""
    dense = asked.prepared.dense()
    padded = functional.pad(dense, (0, -dense.shape[3] % _SIZE, 0, -dense.shape[2] % _SIZE))
    seen = padded.unflatten(3, (-1, _SIZE)).unflatten(2, (-1, _SIZE)).sum((3, 5))
    full = seen == _SIZE * _SIZE
    return _Blocks(*_compressed((seen > 0) & ~full), *_compressed(full), _relative(asked))


def _compressed(blocks: Bool[Tensor, "rows heads q_blocks kv_blocks"]) -> tuple[Tensor, Tensor]:
    """How many blocks of each row are True, and which: those first, in order."""
    order = torch.argsort(blocks.to(torch.int8), dim=-1, descending=True, stable=True)
    return blocks.sum(-1, dtype=torch.int32), order.to(torch.int32)


def _for_each(batch_size: int, rows: Tensor | None) -> Any:
    return None if rows is None else rows.expand(batch_size, *rows.shape[1:]).contiguous()


def _relative(asked: Asked) -> Any:
    """A function, as dynamo asks for: of indices that count from the first query and key."""
    mask, q_offset, kv_offset = asked.whole, asked.geometry.q_offset, asked.geometry.kv_offset

    def mask_mod(batch_idx: Tensor, head_idx: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Any:
        return mask(
            batch_idx, head_idx, q_idx + offset_of(q_offset, batch_idx), kv_idx + offset_of(kv_offset, batch_idx)
        )

    return mask_mod
