"""Rotary position embedding of queries and keys: both layouts, whole and partial heads, any place of the tokens.

The rotary layouts of transformers' models, in terms of this module (`cos`, `sin`: the angles twice, half after half):

- half-split (llama, mistral, qwen, gpt_neox, and most others): `apply_rotary_pos_emb(q, k, cos, sin)`;
- interleaved (glm, ernie4_5, helium: their `apply_rotary_pos_emb`; gptj, codegen, roformer: `rotate_every_two` and its
  like; llama4, deepseek_v2: complex numbers): `rotate(x, cos, sin, interleaved=True)`. Where a model has one angle per
  pair, it takes `torch.cat((cos, cos), -1)`; where it has each angle twice in a row (cohere), what
  `headstock.rope.interleaved_to_half_split` makes of it;
- interleaved and read into half-split order (deepseek_v3, kimi, longcat): `apply_rotary_pos_emb_interleave`;
- the last numbers of a head (deepseek_v4): `rotate(x, cos, sin, interleaved=True, rotary="suffix")`;
- turned the other way (nanochat): `apply_rotary_pos_emb(q, k, cos, -sin)`.
"""

from typing import Literal, Never

import torch
from jaxtyping import Float
from torch import Tensor

from headstock.errors import InvalidConfig, InvalidShape
from headstock.rope.layouts import interleaved_to_half_split
from headstock.rope.turning import Turn, turned

__all__ = ["apply_rotary_pos_emb", "apply_rotary_pos_emb_interleave", "rotate", "rotate_half"]


def rotate_half(x: Float[Tensor, "*axes width"]) -> Float[Tensor, "*axes width"]:
    """`(-x2, x1)` for the halves `(x1, x2)` of the last dimension.

    Raises:
        InvalidShape: the last dimension is not even.

    Example:
        >>> rotate_half(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        tensor([-3., -4.,  1.,  2.])
    """
    if x.ndim == 0 or x.shape[-1] % 2:
        raise InvalidShape(
            f"the last dimension of what is rotated must be even, got {tuple(x.shape)}; leave the odd number out"
        )
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)


def apply_rotary_pos_emb(
    q: Float[Tensor, "*query_axes head_dim"],
    k: Float[Tensor, "*key_axes head_dim"],
    cos: Float[Tensor, "*position_axes rotary_dim"],
    sin: Float[Tensor, "*position_axes rotary_dim"],
    unsqueeze_dim: int = 1,
) -> tuple[Float[Tensor, "*query_axes head_dim"], Float[Tensor, "*key_axes head_dim"]]:
    """`q * cos + rotate_half(q) * sin`, and the same for `k` (Su et al., 2021, eq. 34, for half-split heads).

    Sums are taken in float32 or better and rounded once to the dtype of `q`, and of `k`. Where `cos` and `sin` are
    narrower than a head, its first `rotary_dim` numbers are rotated and the others passed on.

    Args:
        q: queries: `[batch, heads, tokens, head_dim]` with `unsqueeze_dim=1`, `[batch, tokens, heads, head_dim]`
            with 2.
        k: keys, in the same order; they may have fewer heads.
        cos: cosines of the angles, twice: `[batch or 1, tokens, rotary_dim]`.
        sin: their sines.
        unsqueeze_dim: where `cos` and `sin` get the axis of the heads.

    Raises:
        InvalidShape: the shapes do not fit, or a dtype is not of floating point.

    Example:
        >>> q, quarter = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[torch.pi / 2] * 2]])
        >>> apply_rotary_pos_emb(q, q, quarter.cos(), quarter.sin())[0].round()
        tensor([[[[-0., 1.]]]])
    """
    cos, sin, turn = _unsqueezed(cos, sin, unsqueeze_dim, False, False)
    query, key = _rotated((q, k), cos, sin, turn)
    return query, key


def apply_rotary_pos_emb_interleave(
    q: Float[Tensor, "*query_axes head_dim"],
    k: Float[Tensor, "*key_axes head_dim"],
    cos: Float[Tensor, "*position_axes head_dim"],
    sin: Float[Tensor, "*position_axes head_dim"],
    position_ids: Tensor | None = None,  # noqa: ARG001 - transformers' signature, where nothing reads it either
    unsqueeze_dim: int = 1,
) -> tuple[Float[Tensor, "*query_axes head_dim"], Float[Tensor, "*key_axes head_dim"]]:
    """Rotate interleaved heads and return them half-split, as DeepSeek-V3 does; scores are the same in both orders.

    To keep the order, use `rotate(..., interleaved=True)`. Shapes and dtypes are those of `apply_rotary_pos_emb`; of
    `cos` and `sin` the first half is read.

    Raises:
        InvalidShape: the shapes do not fit, or `cos` and `sin` are narrower than a head.

    Example:
        >>> q = torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]])
        >>> none = torch.zeros(1, 1, 4)
        >>> apply_rotary_pos_emb_interleave(q, q, none.cos(), none.sin())[0]
        tensor([[[[1., 3., 2., 4.]]]])
    """
    cos, sin, turn = _unsqueezed(cos, sin, unsqueeze_dim, True, False)
    for x in (q, k):
        if x.shape[-1] != cos.shape[-1]:
            raise InvalidShape(
                f"cos must be as wide as a head that changes its order, got {cos.shape[-1]} and {x.shape[-1]}; rotate "
                "the rotary part alone"
            )
    query, key = map(interleaved_to_half_split, _rotated((q, k), cos, sin, turn))
    return query, key


def rotate(
    x: Float[Tensor, "*axes head_dim"],
    cos: Float[Tensor, "*position_axes rotary_dim"],
    sin: Float[Tensor, "*position_axes rotary_dim"],
    *,
    interleaved: bool = False,
    rotary: Literal["prefix", "suffix"] = "prefix",
    unsqueeze_dim: int = 1,
) -> Float[Tensor, "*axes head_dim"]:
    """`x` rotated, in the layout that it has.

    Args:
        x: queries or keys, see `apply_rotary_pos_emb`.
        cos: cosines of the angles, twice: the angle of pair `i` at `i` and at `i + rotary_dim / 2`, in both layouts.
        sin: their sines.
        interleaved: pairs are neighbours, `(x[2 i], x[2 i + 1])`, and not `(x[i], x[i + rotary_dim / 2])`.
        rotary: which numbers of the head are rotated where `rotary_dim` is less than `head_dim`.
        unsqueeze_dim: where `cos` and `sin` get the axis of the heads.

    Raises:
        InvalidConfig: `rotary` is neither `"prefix"` nor `"suffix"`.
        InvalidShape: the shapes do not fit, or a dtype is not of floating point.

    Example:
        >>> x, quarter = torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]]), torch.tensor([[[torch.pi / 2] * 2]])
        >>> rotate(x, quarter.cos(), quarter.sin(), interleaved=True, rotary="suffix").round()
        tensor([[[[ 1., 2., -4., 3.]]]])
    """
    if rotary not in {"prefix", "suffix"}:
        raise InvalidConfig(f"rotary must be 'prefix' or 'suffix', got {rotary!r}")
    cos, sin, turn = _unsqueezed(cos, sin, unsqueeze_dim, interleaved, rotary == "suffix")
    return _rotated((x,), cos, sin, turn)[0]


def _unsqueezed(cos: Tensor, sin: Tensor, place: int, interleaved: bool, suffix: bool) -> tuple[Tensor, Tensor, Turn]:
    shape = cos.shape
    dims = len(shape)
    at = place + dims + 1 if place < 0 else place
    if shape != sin.shape or not 0 <= at < dims or shape[-1] % 2 or shape[-1] < 2:
        _refuse_angles(cos, sin, place)
    # Tokens are the last axis of `cos` but one, and the heads come before it or after it.
    return cos.unsqueeze(at), sin.unsqueeze(at), Turn(interleaved, suffix, -3 if at == dims - 1 else -2)


def _rotated(tensors: tuple[Tensor, ...], cos: Tensor, sin: Tensor, turn: Turn) -> tuple[Tensor, ...]:
    angles = cos.shape
    floating = cos.is_floating_point() and sin.is_floating_point()
    for x in tensors:
        if not _fits(x.shape, angles):
            _refuse_shapes(x, cos)
        if not (floating and x.is_floating_point()):
            _refuse_dtypes(x, cos, sin)
    return turned(tensors, cos, sin, turn)


def _fits(shape: torch.Size, angles: torch.Size) -> bool:
    """Whether angles broadcast to a tensor that is at least as wide."""
    spare = len(shape) - len(angles)
    if spare < 0 or angles[-1] > shape[-1]:
        return False
    # A loop, in half of the time of `all`; its last pair are the widths.
    place = spare
    for given in angles[:-1]:
        if given != 1 and given != shape[place]:
            return False
        place += 1
    return True


def _refuse_angles(cos: Tensor, sin: Tensor, unsqueeze_dim: int) -> Never:
    if cos.shape != sin.shape:
        raise InvalidShape(f"cos and sin must have one shape, got {tuple(cos.shape)} and {tuple(sin.shape)}")
    width = cos.shape[-1] if cos.ndim else 0
    if width < 2 or width % 2:
        raise InvalidShape(
            f"the rotary width, the last dimension of cos, must be even and at least 2, got {tuple(cos.shape)}; give "
            "every angle twice, half after half"
        )
    raise InvalidShape(
        f"unsqueeze_dim must place the axis of heads before the last one of cos {tuple(cos.shape)}, got "
        f"{unsqueeze_dim}; give 1 for [batch, heads, tokens, head_dim] and 2 for [batch, tokens, heads, head_dim]"
    )


def _refuse_shapes(x: Tensor, cos: Tensor) -> Never:
    if cos.shape[-1] > x.shape[-1]:
        raise InvalidShape(f"cos must be at most as wide as a head, got {cos.shape[-1]} for heads of {x.shape[-1]}")
    raise InvalidShape(
        f"cos, with the axis of heads, must broadcast to what is rotated, got {tuple(cos.shape)} for {tuple(x.shape)}; "
        "check unsqueeze_dim and the number of positions"
    )


def _refuse_dtypes(x: Tensor, cos: Tensor, sin: Tensor) -> Never:
    raise InvalidShape(
        f"what is rotated, cos and sin must be of floating point, got {x.dtype}, {cos.dtype} and {sin.dtype}"
    )
