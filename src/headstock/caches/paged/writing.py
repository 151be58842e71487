"""Writes new tokens behind those of each row."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from headstock.caches.contract import Pair

__all__ = ["write_tokens"]


def write_tokens(
    pages: Pair,
    block_table: Int[Tensor, "batch pages_per_row"],
    lengths: Int[Tensor, " batch"],
    key: Float[Tensor, "batch kv_heads new head_dim"],
    value: Float[Tensor, "batch kv_heads new value_dim"],
    keep: Bool[Tensor, "batch new"] | None = None,
) -> None:
    """Write token t of row b to place `lengths[b] + t` of the row, where `keep` (None: everywhere) says so."""
    page_size, new = pages[0].shape[1], key.shape[2]
    if not new or not block_table.numel():
        return
    place = lengths.long()[:, None] + torch.arange(new, device=lengths.device)
    # What is not kept may lie past the table.
    column = (place // page_size).clamp(max=block_table.shape[1] - 1)
    page, inside = block_table.gather(1, column).long(), place % page_size
    if keep is not None:
        page, inside = page[keep], inside[keep]
    with torch.no_grad():
        for target, source in zip(pages, (key, value), strict=True):
            tokens = source.transpose(1, 2)
            target[page, inside] = tokens if keep is None else tokens[keep]
