"""Keys and values out of their pages into one tensor each."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from headstock.attention.paged.contract import Pages

__all__ = ["Contiguous", "gathered", "pages_for", "side_by_side"]


class Contiguous(NamedTuple):
    """Keys and values of a batch of sequences side by side.

    Attributes:
        key, value: zeros where a row has no token.
        keep: where it has one; what `padding` takes.
    """

    key: Float[Tensor, "batch kv_heads keys head_dim"]
    value: Float[Tensor, "batch kv_heads keys value_dim"]
    keep: Bool[Tensor, "batch keys"]


def side_by_side(pages: Pages, longest: int) -> Contiguous:
    """The first `longest` tokens of each row."""
    keep = torch.arange(longest, device=pages.lengths.device) < pages.lengths[:, None]
    key, value = (gathered(each, pages.block_table, keep) for each in (pages.key_pages, pages.value_pages))
    return Contiguous(key, value, keep)


def gathered(
    pages: Float[Tensor, "pages page_size kv_heads size"],
    table: Int[Tensor, "batch columns"],
    keep: Bool[Tensor, "batch keys"],
) -> Float[Tensor, "batch kv_heads keys size"]:
    """The tokens of the pages that `table` names, row by row, and zeros where `keep` is false.

    Pages of which nothing is kept may have any number, and what is not kept may be anything: nothing of it is left.
    """
    keys, page_size = keep.shape[1], pages.shape[1]
    columns = pages_for(keys, page_size)
    if not pages.shape[0] or not columns:
        return pages.new_zeros(keep.shape[0], pages.shape[2], keys, pages.shape[3])
    whole = torch.nn.functional.pad(keep, (0, columns * page_size - keys))
    named = torch.where(whole.unflatten(1, (columns, page_size)).any(2), table[:, :columns], 0)
    # By heads, so that each head's tokens lie side by side, as products over them want:
    # (kv_heads, batch, columns, page_size, size) -> (batch, kv_heads, keys, size)
    tokens: Tensor = pages.permute(2, 0, 1, 3)[:, named.long()].flatten(2, 3)[:, :, :keys].transpose(0, 1)
    # In place: what indexing gives is nobody else's.
    return tokens.masked_fill_(~keep[:, None, :, None], 0.0)


def pages_for(tokens: int, page_size: int) -> int:
    """The number of pages that so many tokens fill, the last one perhaps in part."""
    return -(-tokens // page_size)
