"""Packed sequences: what kernels over tokens without padding take, and the way there and back for tensors."""

from typing import NamedTuple

from jaxtyping import Int32, Int64, Shaped
from torch import Tensor

from headstock.errors import InvalidShape

__all__ = ["Varlen"]


class Varlen(NamedTuple):
    """A mask as sequences of packed tokens: each query sees the keys of its sequence that lie in the window.

    Tokens are numbered through all batch rows, `row * length + position`. A query that the packing leaves out, or whose
    sequence has no keys, sees nothing.

    Attributes:
        cu_seqlens_q: where the queries of each sequence begin and the last ones end.
        cu_seqlens_k: the same of the keys.
        max_seqlen_q: queries of the longest sequence.
        max_seqlen_k: keys of the longest sequence.
        is_causal: whether the window ends at the last query and key of each sequence: `window_size[1]` is 0.
        window_size: `(left, right)`, counted from the last query and the last key of a sequence: query i of n sees key
            j of m where i + m - n - left <= j <= i + m - n + right; -1 is no bound.
        q_indices: the number of each packed query; None: all of them, in order.
        kv_indices: the number of each packed key; None: all of them, in order.
        extent: batch rows, queries and keys of a row, before packing.
    """

    cu_seqlens_q: Int32[Tensor, " sequences_and_one"]
    cu_seqlens_k: Int32[Tensor, " sequences_and_one"]
    max_seqlen_q: int
    max_seqlen_k: int
    is_causal: bool
    window_size: tuple[int, int]
    q_indices: Int64[Tensor, " q_tokens"] | None
    kv_indices: Int64[Tensor, " kv_tokens"] | None
    extent: tuple[int, int, int]

    def pack_queries(
        self, query: Shaped[Tensor, "batch heads queries head_dim"]
    ) -> Shaped[Tensor, "tokens heads head_dim"]:
        """`[batch, heads, queries, head_dim]` as `[tokens, heads, head_dim]`.

        Raises:
            InvalidShape: the extent is another than that of the mask.
        """
        return _packed("query", query, self.extent[0], self.extent[1], self.q_indices)

    def pack_keys(self, key: Shaped[Tensor, "batch heads keys head_dim"]) -> Shaped[Tensor, "tokens heads head_dim"]:
        """Keys or values `[batch, heads, keys, head_dim]` as `[tokens, heads, head_dim]`.

        Raises:
            InvalidShape: the extent is another than that of the mask.
        """
        return _packed("key", key, self.extent[0], self.extent[2], self.kv_indices)

    def unpack(self, output: Shaped[Tensor, "tokens heads head_dim"]) -> Shaped[Tensor, "batch heads queries head_dim"]:
        """What a kernel gives for packed queries as `[batch, heads, queries, head_dim]`, 0 for those left out.

        Raises:
            InvalidShape: there are not as many tokens as packed queries.
        """
        batch_size, length, _ = self.extent
        tokens = batch_size * length if self.q_indices is None else len(self.q_indices)
        if len(output) != tokens:
            raise InvalidShape(
                f"the output must have one row for each of {tokens} packed queries, got {list(output.shape)}; "
                "its layout is [tokens, heads, head_dim]"
            )
        if self.q_indices is not None:
            blank = output.new_zeros(batch_size * length, *output.shape[1:])
            output = blank.index_copy(0, self.q_indices, output)
        return output.reshape(batch_size, length, *output.shape[1:]).transpose(1, 2)


def _packed(
    name: str,
    tensor: Shaped[Tensor, "batch heads length head_dim"],
    batch_size: int,
    length: int,
    indices: Int64[Tensor, " tokens"] | None,
) -> Shaped[Tensor, "tokens heads head_dim"]:
    if (tensor.shape[0], tensor.shape[2]) != (batch_size, length):
        raise InvalidShape(
            f"{name} must have the extent that the mask was packed for, {batch_size} batch rows of {length}, got "
            f"{list(tensor.shape)}; its layout is [batch, heads, length, head_dim]"
        )
    tokens = tensor.transpose(1, 2).flatten(0, 1)
    return tokens if indices is None else tokens.index_select(0, indices)
