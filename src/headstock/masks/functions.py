"""Plain functions as predicates: `torch.vmap` says what one means; broadcasting is trusted where it says the same."""

from collections.abc import Callable

import torch
from jaxtyping import Bool
from torch import Tensor

from headstock.errors import HeadstockError, InvalidComponent, InvalidShape
from headstock.masks.contract import Predicate
from headstock.masks.geometry import Geometry
from headstock.masks.indices import Indices, indices_of, tile_of
from headstock.masks.node import text_of
from headstock.masks.tracing import is_readable


def evaluate_function(
    predicate: Predicate, geometry: Geometry, device: torch.device | None
) -> Bool[Tensor, "rows heads queries keys"]:
    """The function over a geometry, with size 1 in each dimension that it does not read.

    Broadcasting is tried on one tile and trusted only if it equals `torch.vmap` there, in shape and in values. Where
    values cannot be read, `torch.vmap` it is. Each attempt has its own indices, since a function may write into them.

    Raises:
        InvalidComponent: the function does not return a boolean, or raises.
        InvalidShape: it returns more than one boolean for four indices.
    """
    return evaluate_function_at(predicate, lambda: indices_of(geometry, device))


def evaluate_function_at(predicate: Predicate, make: Callable[[], Indices]) -> Bool[Tensor, "rows heads queries keys"]:
    """The function at the indices that `make` makes anew at each call; otherwise as `evaluate_function`."""
    indices = make()
    if not is_readable(indices.batch_idx):
        return by_vmap(predicate, indices)
    sizes, tile = indices.sizes, tile_of(indices)
    tile_sizes = tile.sizes
    expected = by_vmap(predicate, tile)
    found = by_broadcasting(predicate, tile_of(indices))
    if is_readable(expected) and found is not None and torch.equal(found, expected):
        read = (part == whole for part, whole in zip(expected.shape, tile_sizes, strict=True))
        verdict = by_broadcasting(predicate, indices)
        if verdict is not None and verdict.shape == tuple(
            size if each else 1 for each, size in zip(read, sizes, strict=True)
        ):
            return verdict
    return by_vmap(predicate, make())


def by_broadcasting(predicate: Predicate, indices: Indices) -> Bool[Tensor, "rows heads queries keys"] | None:
    """The function called once with index tensors; None where that does not give a boolean of four dimensions."""
    try:
        verdict = predicate(*indices)
    except Exception:  # noqa: BLE001 - whatever goes wrong here, the scalar meaning decides
        return None
    if not isinstance(verdict, Tensor) or verdict.dtype != torch.bool or verdict.ndim != 4:
        return None
    return verdict


def by_vmap(predicate: Predicate, indices: Indices) -> Bool[Tensor, "rows heads queries keys"]:
    """The scalar meaning: the function mapped over each index in turn."""
    batch_idx, head_idx, q_idx, kv_idx = indices
    q_rows, kv_rows = (None if idx.shape[0] == 1 else 0 for idx in (q_idx, kv_idx))
    function = _checked(predicate)
    for in_dims in ((None, None, None, 0), (None, None, 0, None), (None, 0, None, None), (0, None, q_rows, kv_rows)):
        function = torch.vmap(function, in_dims=in_dims)
    queries = q_idx[0, 0, :, 0] if q_rows is None else q_idx[:, 0, :, 0]
    keys = kv_idx[0, 0, 0, :] if kv_rows is None else kv_idx[:, 0, 0, :]
    return _unread_to_one(function(batch_idx[:, 0, 0, 0], head_idx[0, :, 0, 0], queries, keys))


def _checked(predicate: Predicate) -> Callable[..., Tensor]:
    def checked(batch_idx: Tensor, head_idx: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        verdict = _called(predicate, batch_idx, head_idx, q_idx, kv_idx)
        if isinstance(verdict, bool):
            return torch.full((), verdict, device=q_idx.device)
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
        if verdict.device != q_idx.device:
            raise InvalidComponent(
                f"{text_of(predicate)} must answer on the device of its indices, {q_idx.device}, got {verdict.device}; "
                "move what it reads, or name the device"
            )
        return verdict

    return checked


def _called(predicate: Predicate, *indices: Tensor) -> object:
    if torch.compiler.is_compiling():
        return predicate(*indices)
    try:
        return predicate(*indices)
    except (HeadstockError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise InvalidComponent(
            f"{text_of(predicate)} must answer for 0-dim index tensors under torch.vmap, "
            f"got {type(error).__name__}: {error}; "
            "write it with tensor operations that hold for every index, without branching on values"
        ) from error


def _unread_to_one(verdict: Tensor) -> Tensor:
    if not is_readable(verdict):
        return verdict
    # vmap expands, with stride 0, over an index that the function did not read.
    for dim in range(verdict.ndim):
        if verdict.shape[dim] > 1 and verdict.stride(dim) == 0:
            verdict = verdict.narrow(dim, 0, 1)
    return verdict
