"""Whether a function leaves its inputs as they are."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from headstock.attention.call import Call
from headstock.errors import WrongResult

__all__ = ["Watch"]


class _Seen(NamedTuple):
    """One tensor before the function ran."""

    name: str
    tensor: Tensor
    copy: Tensor
    version: int | None


class Watch:
    """The tensors of one call before a function runs; `representation` is the mask's that it is given.

    `further` are others that it gets, by what they are called.
    """

    def __init__(self, call: Call, representation: str, further: Mapping[str, Tensor]) -> None:
        self._seen = [
            _Seen(name, tensor, tensor.detach().clone(), _version(tensor))
            for name, tensor in {**_tensors_of(call, representation), **further}.items()
        ]

    def check(self, name: str) -> None:
        """Refuse that the function `name` wrote to one of them.

        Raises:
            WrongResult: naming it.
        """
        for seen in self._seen:
            same = (seen.tensor == seen.copy) | (seen.tensor.isnan() & seen.copy.isnan())
            changed = int((~same).sum())
            if changed:
                raise _written(name, f"{changed} of {same.numel()} numbers changed of the {seen.name}")
        # Parts of one tensor count together how often it was written to: whose numbers changed is told first.
        for seen in self._seen:
            if _version(seen.tensor) != seen.version:
                raise _written(name, f"what was there written to the {seen.name}")


def _written(name: str, came: str) -> WrongResult:
    return WrongResult(
        f"attention function {name!r} must leave its inputs as they are, got {came}; work on a copy, as out-of-place "
        "operations give it"
    )


def _tensors_of(call: Call, representation: str) -> dict[str, Tensor]:
    found: dict[str, Any] = {"query": call.query, "key": call.key, "value": call.value}
    found |= {"sinks": call.request.sinks, "bias": call.request.bias}
    if call.mask is not None:
        found["mask as it was given"] = call.mask.given
        lowered = call.mask.lower(representation, dtype=call.query.dtype) if representation != "none" else None
        parts = lowered if isinstance(lowered, tuple) else (lowered,)
        for number, part in enumerate(parts):
            found[f"mask{f', part {number}' if number else ''}"] = part
    return {name: tensor for name, tensor in found.items() if isinstance(tensor, Tensor)}


def _version(tensor: Tensor) -> int | None:
    """How often it was written to; None for inference tensors, which do not count."""
    return None if tensor.is_inference() else tensor._version
