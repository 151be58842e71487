"""Runs a function over chunks of its inputs, so that only one chunk's intermediate values exist at a time."""

import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from headstock.errors import InvalidConfig, InvalidShape, UnsupportedFeature

__all__ = ["apply_chunking_to_forward"]

R = TypeVar("R")


def apply_chunking_to_forward(
    forward_fn: Callable[..., R], chunk_size: int, chunk_dim: int, *input_tensors: Shaped[Tensor, "..."] | None
) -> R:
    """What `forward_fn(*input_tensors)` returns, computed in chunks of `chunk_size` along `chunk_dim`.

    Right where `forward_fn` treats the positions along `chunk_dim` independently, as a feed-forward layer does
    (Kitaev et al., "Reformer", 2020, section 3): the result and its gradients are then those of the whole call. The
    last chunk is shorter where the length is no multiple. The function may return a tensor, or tuples, named tuples,
    lists and dicts of them; None stays None. Each tensor of the result must keep the chunk's length along `chunk_dim`,
    since a sum or a mean over that dimension could not be joined.

    Args:
        forward_fn: the function; bound methods, partials and modules are fine.
        chunk_size: the length of a chunk; 0 calls `forward_fn` once, on everything.
        chunk_dim: the dimension to cut, counted from the end where negative.
        input_tensors: the arguments of `forward_fn`, of one length along `chunk_dim`; None is passed on.

    Raises:
        InvalidConfig: the chunk size is negative.
        InvalidShape: there is no tensor, a tensor lacks `chunk_dim`, the lengths differ, `forward_fn` does not take
            that many arguments, or the results of the chunks do not fit together.
        UnsupportedFeature: the result holds something that cannot be joined.

    Example:
        >>> halves = apply_chunking_to_forward(torch.relu, 2, 1, torch.tensor([[-1.0, 2.0, 3.0]]))
        >>> halves
        tensor([[0., 2., 3.]])
    """
    if chunk_size < 0:
        raise InvalidConfig(f"the chunk size must be 0 or more, got {chunk_size}; 0 switches chunking off")
    if all(each is None for each in input_tensors):
        raise InvalidShape(f"the inputs of a chunked function must hold at least one tensor, got {input_tensors}")
    if chunk_size == 0:
        return _call(forward_fn, input_tensors)
    _check_lengths(input_tensors, chunk_dim)
    lengths, results = [], []
    for chunk in _chunks(input_tensors, chunk_size, chunk_dim):
        lengths.append(next(each.shape[chunk_dim] for each in chunk if each is not None))
        results.append(_call(forward_fn, chunk))
    return results[0] if len(results) == 1 else _joined(results, lengths, chunk_dim)


def _check_lengths(inputs: Sequence[object], dim: int) -> None:
    tensors = [each for each in inputs if each is not None]
    for each in tensors:
        if not isinstance(each, Tensor):
            raise InvalidShape(
                f"the inputs of a chunked function must be tensors or None, got {each!r}; bind other arguments with "
                "functools.partial"
            )
        if not -each.ndim <= dim < each.ndim:
            raise InvalidShape(
                f"every input must have the chunked dimension {dim}, got the shape {tuple(each.shape)}; bind other "
                "arguments with functools.partial"
            )
    lengths = [each.shape[dim] for each in tensors if isinstance(each, Tensor)]
    if any(each != lengths[0] for each in lengths):
        raise InvalidShape(f"all inputs must have the same length along dimension {dim}, got {lengths}")


def _chunks(tensors: Sequence[Tensor | None], size: int, dim: int) -> Iterator[tuple[Tensor | None, ...]]:
    pieces = [None if each is None else each.split(size, dim) for each in tensors]
    count = next(len(each) for each in pieces if each is not None)
    for i in range(count):
        yield tuple(None if each is None else each[i] for each in pieces)


def _call(function: Callable[..., R], arguments: Sequence[Tensor | None]) -> R:
    try:
        return function(*arguments)
    except TypeError as error:
        # Asked only when the call has failed: reading a signature costs more than many a call, and dynamo cannot.
        signature = _refused_by(function, arguments)
        if signature is None:
            raise
        raise InvalidShape(
            f"the input tensors must be the arguments of the chunked function, got {len(arguments)} for {signature}; "
            "bind others with functools.partial"
        ) from error


def _refused_by(function: Callable[..., Any], arguments: Sequence[object]) -> inspect.Signature | None:
    """The signature of `function` if it does not take these arguments."""
    try:
        signature = inspect.signature(function.forward if isinstance(function, nn.Module) else function)
    except ValueError:  # compiled functions do not tell
        return None
    try:
        signature.bind(*arguments)
    except TypeError:
        return signature
    return None


def _joined(results: Sequence[Any], lengths: Sequence[int], dim: int) -> Any:
    first = results[0]
    if any(_form(each) != _form(first) for each in results):
        raise InvalidShape(f"the results of all chunks must have one form, got {[_form(each) for each in results]}")
    if first is None:
        return None
    if isinstance(first, Tensor):
        return _concatenated(results, lengths, dim)
    if isinstance(first, dict):
        return _joined_dicts(results, lengths, dim)
    if isinstance(first, tuple | list):
        parts = [_joined(each, lengths, dim) for each in zip(*results, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
    raise UnsupportedFeature(
        f"the result of a chunked function must consist of tensors, None, tuples, lists and dicts, got {first!r}; "
        "call it with chunk_size=0"
    )


def _form(result: object) -> tuple[str, Any]:
    inside = list(result) if isinstance(result, dict) else len(result) if isinstance(result, tuple | list) else None
    return type(result).__name__, inside


def _joined_dicts(results: Sequence[dict[Any, Any]], lengths: Sequence[int], dim: int) -> dict[Any, Any]:
    entries = {key: _joined([each[key] for each in results], lengths, dim) for key in results[0]}
    if type(results[0]) is dict:
        return entries
    joined = copy.copy(results[0])  # keeps what a subclass holds besides its entries
    for key, value in entries.items():
        joined[key] = value  # not `update`: subclasses watch single items
    return joined


def _concatenated(results: Sequence[Tensor], lengths: Sequence[int], dim: int) -> Tensor:
    for each, length in zip(results, lengths, strict=True):
        if not -each.ndim <= dim < each.ndim or each.shape[dim] != length:
            raise InvalidShape(
                f"the result of a chunk must keep its length {length} along dimension {dim}, got the shape "
                f"{tuple(each.shape)}; call the function with chunk_size=0"
            )
    return torch.cat(list(results), dim=dim)
