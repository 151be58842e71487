"""Evaluate a predicate over every quadruple of a geometry: by broadcasting where that is sound, else by `torch.vmap`."""

from collections.abc import Callable
from functools import reduce
from operator import and_, or_
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from headstock.errors import HeadstockError, InvalidComponent, InvalidShape, UnsupportedFeature
from headstock.masks.contract import Predicate
from headstock.masks.geometry import Geometry
from headstock.masks.mask import Mask, leaves
from headstock.masks.predicate import Conjunction, Disjunction, Negation, Pattern, text_of


class Indices(NamedTuple):
    """Absolute indices in a form that broadcasts to `[batch, heads, queries, keys]`; rows is 1 or batch."""

    batch_idx: Int[Tensor, "batch 1 1 1"]
    head_idx: Int[Tensor, "1 heads 1 1"]
    q_idx: Int[Tensor, "rows 1 queries 1"]
    kv_idx: Int[Tensor, "rows2 1 1 keys"]

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """`(batch, heads, queries, keys)`."""
        return (self.batch_idx.shape[0], self.head_idx.shape[1], self.q_idx.shape[2], self.kv_idx.shape[3])


def indices_of(geometry: Geometry, device: torch.device | None) -> Indices:
    """The absolute indices of a geometry."""
    return Indices(
        torch.arange(geometry.batch_size, device=device)[:, None, None, None],
        torch.arange(geometry.heads, device=device)[None, :, None, None],
        geometry.q_idx(device)[:, None, :, None],
        geometry.kv_idx(device)[:, None, None, :],
    )


def device_of(mask: Mask, geometry: Geometry, device: torch.device | str | None) -> torch.device | None:
    """The device of the mask's tensors, else the caller's, else that of the offsets (None: torch's default).

    Raises:
        UnsupportedFeature: the mask's tensors lie on several devices.
    """
    tensors = [tensor for leaf in leaves(mask.predicate) if isinstance(leaf, Pattern) for tensor in leaf.tensors()]
    found = list(dict.fromkeys(tensor.device for tensor in tensors))
    if len(found) > 1:
        raise UnsupportedFeature(
            f"the tensors of {mask!r} must lie on one device, got {found}; move them with `.to(device)`"
        )
    if found:
        return found[0]
    offsets = [offset for offset in (geometry.q_offset, geometry.kv_offset) if isinstance(offset, Tensor)]
    if device is None:
        return offsets[0].device if offsets else None
    return torch.device(device)


def check_geometry(mask: Mask, geometry: Geometry) -> None:
    """Refuse a geometry that the arguments of the mask's patterns do not cover."""
    for leaf in leaves(mask.predicate):
        if isinstance(leaf, Pattern):
            leaf.check(geometry)


def evaluate(
    mask: Mask, geometry: Geometry, device: torch.device | str | None = None
) -> Bool[Tensor, "batch heads queries keys"]:
    """The mask at every quadruple, with size 1 in each dimension of `[batch, heads, queries, keys]` that it does not read."""
    check_geometry(mask, geometry)
    place = device_of(mask, geometry, device)
    if any(isinstance(size, int) and size == 0 for size in geometry.shape):
        return torch.empty(
            (geometry.batch_size, 1, geometry.q_length, geometry.kv_length), dtype=torch.bool, device=place
        )
    return _evaluate(mask.predicate, lambda: indices_of(geometry, place))


def _evaluate(predicate: Predicate, indices: Callable[[], Indices]) -> Tensor:
    if isinstance(predicate, Conjunction):
        return reduce(and_, [_evaluate(operand, indices) for operand in predicate.operands])
    if isinstance(predicate, Disjunction):
        return reduce(or_, [_evaluate(operand, indices) for operand in predicate.operands])
    if isinstance(predicate, Negation):
        return ~_evaluate(predicate.operand, indices)
    if isinstance(predicate, Pattern):
        verdict: Tensor = predicate(*indices())
        return verdict
    return evaluate_function(predicate, indices)


def evaluate_function(predicate: Predicate, indices: Callable[[], Indices]) -> Tensor:
    """A plain function, broadcast where that equals `torch.vmap` on one tile, in shape and in values.

    Every attempt gets indices of its own, since a function may write into them.
    """
    if not torch.compiler.is_compiling():
        expected = by_vmap(predicate, tile_of(indices()))
        found = _by_broadcasting(predicate, tile_of(indices()))
        if found is not None and found.shape == expected.shape and torch.equal(found, expected):
            whole, verdict = indices(), _by_broadcasting(predicate, indices())
            if verdict is not None and verdict.shape == _like(expected, tile_of(whole).sizes, whole.sizes):
                return verdict
    return by_vmap(predicate, indices())


def tile_of(indices: Indices) -> Indices:
    """The corners and the middle of each dimension: at most five batch rows, heads, queries and keys."""
    batch_idx, head_idx, q_idx, kv_idx = indices
    rows, heads, queries, keys = (_sample(size, batch_idx.device) for size in indices.sizes)
    return Indices(
        batch_idx[rows],
        head_idx[:, heads],
        (q_idx if q_idx.shape[0] == 1 else q_idx[rows])[:, :, queries],
        (kv_idx if kv_idx.shape[0] == 1 else kv_idx[rows])[..., keys],
    )


def by_vmap(predicate: Predicate, indices: Indices) -> Bool[Tensor, "batch heads queries keys"]:
    """The scalar meaning: the function mapped over all four indices; size 1 in each dimension that it does not read."""
    batch_idx, head_idx, q_idx, kv_idx = indices
    q_rows, kv_rows = (None if idx.shape[0] == 1 else 0 for idx in (q_idx, kv_idx))
    function: Callable[..., Any] = _checked(predicate)
    for in_dims in ((None, None, None, 0), (None, None, 0, None), (None, 0, None, None), (0, None, q_rows, kv_rows)):
        function = torch.vmap(function, in_dims=in_dims)
    queries = q_idx[0, 0, :, 0] if q_rows is None else q_idx[:, 0, :, 0]
    keys = kv_idx[0, 0, 0, :] if kv_rows is None else kv_idx[:, 0, 0, :]
    if torch.compiler.is_compiling():
        verdict: Tensor = function(batch_idx[:, 0, 0, 0], head_idx[0, :, 0, 0], queries, keys)
        return verdict
    return _unread_to_one(_call(predicate, function, batch_idx[:, 0, 0, 0], head_idx[0, :, 0, 0], queries, keys))


def _call(predicate: Predicate, function: Callable[..., Tensor], *arguments: Tensor) -> Tensor:
    try:
        return function(*arguments)
    except HeadstockError:
        raise
    except Exception as error:
        raise InvalidComponent(
            f"{text_of(predicate)} must answer for 0-dim index tensors under torch.vmap, got {type(error).__name__}: {error}; "
            "write it with tensor operations, without branching on values"
        ) from error


def _checked(predicate: Predicate) -> Predicate:
    def checked(batch_idx: Tensor, head_idx: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        verdict = predicate(batch_idx, head_idx, q_idx, kv_idx)
        if isinstance(verdict, bool):
            verdict = torch.full((), verdict, device=q_idx.device)
        if not isinstance(verdict, Tensor) or verdict.dtype != torch.bool:
            came = verdict.dtype if isinstance(verdict, Tensor) else repr(verdict)
            raise InvalidComponent(
                f"{text_of(predicate)} must return a boolean, got {came}; compare, or convert with `.bool()`"
            )
        if verdict.ndim != 0:
            raise InvalidShape(
                f"{text_of(predicate)} must return one boolean for four indices, got shape {list(verdict.shape)}; "
                "reduce it with `.all()` or `.any()`"
            )
        return verdict

    return checked


def _by_broadcasting(predicate: Predicate, indices: Indices) -> Tensor | None:
    # Whatever goes wrong here, the scalar meaning decides.
    try:
        verdict = predicate(*indices)
    except Exception:
        return None
    return verdict if isinstance(verdict, Tensor) and verdict.dtype == torch.bool and verdict.ndim == 4 else None


def _unread_to_one(verdict: Tensor) -> Tensor:
    # vmap expands, with stride 0, over a level that the function did not read.
    for dim in range(verdict.ndim):
        if verdict.shape[dim] > 1 and verdict.stride(dim) == 0:
            verdict = verdict.narrow(dim, 0, 1)
    return verdict


def _like(tile: Tensor, tile_sizes: tuple[int, ...], sizes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size if read == part else 1 for read, part, size in zip(tile.shape, tile_sizes, sizes, strict=True))


def _sample(size: int, device: torch.device) -> Tensor:
    return torch.tensor(sorted({0, 1, size // 2, size - 2, size - 1} & set(range(size))), device=device)
