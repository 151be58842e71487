"""The arithmetic of rotation: pairs of a head's numbers are turned by one angle each, as fast as the tensor is read.

A pair `(x1, x2)` and its angle `a` give `(x1 cos a - x2 sin a, x2 cos a + x1 sin a)` (Su et al., 2021, eq. 34).
Half-split heads pair number `i` with number `i + rotary_dim / 2`, interleaved heads number `2 i` with `2 i + 1`.

On the CPU a rotation is bound by memory, most of all by pages that are touched for the first time. So the result is
the only tensor of its size that is made, and what takes several steps is computed in blocks that stay in the cache.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

__all__ = ["Turn", "definition", "turned"]

# Elements of a block: 1 MiB of float32. Half of it, and a quarter, cost up to a fifth more in calls of operators.
BLOCK = 2**18
# Threads that share a block wait for each other at every operator. So they have 4 MiB each where a block keeps its sums
# out of memory, and no blocks where the result holds them, which are a twentieth faster if no other program runs.
SHARED_BLOCK = 2**20
# Elements up to which the number of operators decides.
FEW = 2**14
_PLAIN = frozenset({Tensor, torch.nn.Parameter})


class Turn(NamedTuple):
    """Where the pairs of a head lie, and where its tokens: `axis` counts from the end."""

    interleaved: bool
    suffix: bool
    axis: int


def turned(tensors: tuple[Tensor, ...], cos: Tensor, sin: Tensor, turn: Turn) -> tuple[Tensor, ...]:
    """The tensors, their rotary parts turned; `cos` and `sin` broadcast and hold the angles twice, half after half."""
    # Where anything but autograd watches, plain operators are what it can follow, and what a compiler fuses.
    if (
        torch.compiler.is_compiling()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
        or not _PLAIN.issuperset(map(type, (*tensors, cos, sin)))
    ):
        return tuple(definition(x, cos, sin, turn) for x in tensors)
    if torch.is_grad_enabled():
        if cos.requires_grad or sin.requires_grad:
            return tuple(definition(x, cos, sin, turn) for x in tensors)
        if any([x.requires_grad for x in tensors]):  # noqa: C419 - half of a generator's time
            return tuple(_Turning.apply(x, cos, sin, turn) for x in tensors)  # type: ignore[no-untyped-call]
    return _computed(tensors, cos, sin, turn)


def _one_turned(x: Tensor, cos: Tensor, sin: Tensor, turn: Turn) -> Tensor:
    return turned((x,), cos, sin, turn)[0]


def definition(x: Tensor, cos: Tensor, sin: Tensor, turn: Turn) -> Tensor:
    """The equation, differentiable in everything; sums in float32 or better, rounded once to the dtype of `x`."""
    wide, width = _wide(x.dtype, cos.dtype), cos.shape[-1]
    before, rotary, after = _parts(x, width, turn)
    x1, x2 = _pairs(_widened(rotary, wide), turn.interleaved)
    cos1, cos2 = _widened(cos, wide).chunk(2, dim=-1)
    sin1, sin2 = _widened(sin, wide).chunk(2, dim=-1)
    if turn.interleaved:
        cos2, sin2 = cos1, sin1
    joined = _together(x1 * cos1 - x2 * sin1, x2 * cos2 + x1 * sin2, turn.interleaved).to(x.dtype)
    return joined if width == x.shape[-1] else torch.cat((before, joined, after), dim=-1)


def _pairs(x: Tensor, interleaved: bool) -> tuple[Tensor, Tensor]:
    """The first and the second numbers of the pairs along the last dimension."""
    if interleaved:
        return x[..., 0::2], x[..., 1::2]
    first, second = x.chunk(2, dim=-1)
    return first, second


def _together(first: Tensor, second: Tensor, interleaved: bool) -> Tensor:
    """The inverse of `_pairs`."""
    if interleaved:
        # Not `flatten`, which the `vmap` of `is_grads_batched` does not have.
        return torch.stack((first, second), dim=-1).reshape(*first.shape[:-1], 2 * first.shape[-1])
    return torch.cat((first, second), dim=-1)


class _Turning(torch.autograd.Function):
    """The gradient of a rotation is its transpose, a rotation as well: nothing of the size of `x` is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, turn: Turn) -> Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.turn = turn
        return _computed((x,), cos, sin, turn)[0]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        cos, sin = ctx.saved_tensors
        # Each half of `sin` is a row of the matrices that turn the pairs: transposed, they change places.
        opposite = -sin if ctx.turn.interleaved else -sin.roll(sin.shape[-1] // 2, -1)
        # `is_grads_batched` has a `vmap` of its own, which no stack tells of.
        batched = torch._C._dispatch_keys(gradient).has("Batched")
        x = (definition if batched else _one_turned)(gradient, cos, opposite, ctx.turn)
        return x, None, None, None


def _computed(tensors: tuple[Tensor, ...], cos: Tensor, sin: Tensor, turn: Turn) -> tuple[Tensor, ...]:
    # For one token this is as much Python as arithmetic: what queries and keys share is made once.
    x, width = tensors[0], cos.shape[-1]
    dtype = x.dtype
    if tensors[-1].dtype is not dtype:
        return tuple(_computed((each,), cos, sin, turn)[0] for each in tensors)
    wide = _wide(dtype, cos.dtype)
    angles: tuple[Tensor, ...]
    turn_block: Callable[..., Tensor]
    if turn.interleaved:
        angles, turn_block = _complex(cos, sin, wide), _interleaved
    elif x.numel() <= FEW:
        angles, turn_block = _signed(cos, sin, wide), _rolled
    else:
        angles, turn_block = _halves(cos, sin, wide), _half_split
    results = []
    for each in tensors:
        if each.shape[-1] != width or (each.numel() > BLOCK and each.is_cpu):
            results.append(_in_blocks(each, angles, wide, turn, turn_block))
        elif wide is dtype:
            results.append(turn_block(each, *angles))
        else:
            results.append(turn_block(_widened(each, wide), *angles).to(dtype))
    return tuple(results)


def _wide(dtype: torch.dtype, angles: torch.dtype) -> torch.dtype:
    """The dtype of the sums."""
    if dtype is angles is torch.float32:
        return dtype
    return torch.promote_types(torch.promote_types(dtype, angles), torch.float32)


def _widened(x: Tensor, wide: torch.dtype) -> Tensor:
    """`x.to(wide)` in a third of its time where it has nothing to do."""
    return x.float() if wide is torch.float32 else x.double()


def _halves(cos: Tensor, sin: Tensor, wide: torch.dtype) -> tuple[Tensor, ...]:
    return _widened(cos, wide), *_widened(sin, wide).chunk(2, -1)


def _half_split(x: Tensor, cos: Tensor, sin1: Tensor, sin2: Tensor, out: Tensor | None = None) -> Tensor:
    result = x * cos if out is None else torch.mul(x, cos, out=out)
    first, second = result.chunk(2, -1)
    x1, x2 = x.chunk(2, -1)
    first.addcmul_(x2, sin1, value=-1)
    second.addcmul_(x1, sin2)
    return result


def _signed(cos: Tensor, sin: Tensor, wide: torch.dtype) -> tuple[Tensor, ...]:
    return _widened(cos, wide), sin * _signs(sin.shape[-1], wide, sin.device)


@functools.cache
def _signs(width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """-1 for the first half and 1 for the second."""
    with torch.inference_mode(mode=False):
        signs = torch.ones(width, dtype=dtype, device=device)
        signs[: width // 2] = -1
        return signs


def _rolled(x: Tensor, cos: Tensor, signed: Tensor, out: Tensor | None = None) -> Tensor:
    # The same in three operators instead of five, with one more pass over memory.
    result = x * cos if out is None else torch.mul(x, cos, out=out)
    return result.addcmul_(x.roll(x.shape[-1] // 2, -1), signed)


def _complex(cos: Tensor, sin: Tensor, wide: torch.dtype) -> tuple[Tensor, ...]:
    half = cos.shape[-1] // 2
    return (torch.complex(_widened(cos[..., :half], wide), _widened(sin[..., :half], wide)),)


def _interleaved(x: Tensor, angles: Tensor, out: Tensor | None = None) -> Tensor:
    # A pair and its angle are complex numbers, and the turned pair their product: one pass.
    if not _is_paired(x):
        x = x.clone(memory_format=torch.contiguous_format)  # `contiguous` keeps an odd offset
    if out is None or not _is_paired(out):
        result = torch.view_as_real(_as_complex(x) * angles).flatten(-2)
        return result if out is None else out.copy_(result)
    torch.mul(_as_complex(x), angles, out=_as_complex(out))
    return out


def _as_complex(x: Tensor) -> Tensor:
    return torch.view_as_complex(x.view(*x.shape[:-1], x.shape[-1] // 2, 2))


def _is_paired(x: Tensor) -> bool:
    """Whether the numbers of a pair lie in memory as those of a complex number do."""
    *outer, last = x.stride()
    return last == 1 and x.storage_offset() % 2 == 0 and all(stride % 2 == 0 for stride in outer)


def _in_blocks(
    x: Tensor, angles: tuple[Tensor, ...], wide: torch.dtype, turn: Turn, turn_block: Callable[..., Tensor]
) -> Tensor:
    out, width = torch.empty_like(x), angles[0].shape[-1] * (2 if turn.interleaved else 1)
    before, rotary, after = _parts(x, width, turn)
    out_before, out_rotary, out_after = _parts(out, width, turn)
    out_before.copy_(before)
    out_after.copy_(after)
    in_place = x.dtype is wide
    threads = torch.get_num_threads()
    whole = not x.is_cpu or (in_place and threads > 1)
    most = x.numel() if whole else BLOCK if threads == 1 else SHARED_BLOCK * threads
    for source, target, *block in _blocks(rotary, out_rotary, angles, turn.axis, most):
        if in_place:
            turn_block(source, *block, out=target)
        else:
            target.copy_(turn_block(_widened(source, wide), *block))
    return out


def _parts(x: Tensor, width: int, turn: Turn) -> tuple[Tensor, Tensor, Tensor]:
    """What lies before the rotary part, that part, and what lies after it."""
    rest = x.shape[-1] - width
    before, rotary, after = x.split((rest, width, 0) if turn.suffix else (0, width, rest), dim=-1)
    return before, rotary, after


def _blocks(x: Tensor, out: Tensor, angles: tuple[Tensor, ...], axis: int, most: int) -> Iterator[tuple[Tensor, ...]]:
    """Pieces of at most about `most` elements: whole rows, or some tokens of all heads of one row."""
    if x.numel() <= most:
        yield (x, out, *angles)
        return
    tensors = (x, out, *(each.expand(*x.shape[:-1], each.shape[-1]) for each in angles))
    row = x[0].numel()
    for rows in zip(*(each.split(max(1, most // row)) for each in tensors), strict=True):
        if row <= most:
            yield rows
            continue
        tokens = max(1, most * x.shape[axis] // row)
        yield from zip(*(each.split(tokens, axis) for each in rows), strict=True)
