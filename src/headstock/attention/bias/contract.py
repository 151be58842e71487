"""What may be added to the scores besides a tensor: forms that say the value of a pair without writing out S x S."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headstock.attention.precision import accumulated
from headstock.errors import InvalidShape
from headstock.masks import Geometry
from headstock.masks.node import hash_of, same, text_of_value

__all__ = ["BIAS_FORMS", "BoundBias", "DistanceBias", "ScoreBias"]

BIAS_FORMS = "bias_forms"
"""The word by which a function declares that it takes a `BoundBias` too; others are given a form as a tensor."""


@dataclass(frozen=True, eq=False, repr=False)
class ScoreBias(ABC):
    """What is added to the scores, as a form instead of a tensor of all pairs.

    A form is a frozen dataclass whose fields are its arguments. It prints as it is written, and equals another of the
    same arguments, tensors by content and functions by identity.
    """

    name: ClassVar[str]

    @abstractmethod
    def dense(
        self, geometry: Geometry, *, dtype: torch.dtype, device: torch.device | None
    ) -> Float[Tensor, "rows heads queries keys"]:
        """The bias of every pair of the geometry, differentiable in its tensors.

        A form that says the same of every batch row or head gives one row or one head for all of them. `device` is
        that of the form's tensors. Values and gradients are computed in float32 or better, and rounded to `dtype`.
        """

    @property
    def heads(self) -> int:
        """The number of heads that it is made for; 1 where it serves any number."""
        return 1

    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors that it computes with, through which gradients flow."""
        return tuple(part for part in self.parts() if isinstance(part, Tensor))

    @property
    def requires_grad(self) -> bool:
        """Whether one of its tensors wants a gradient."""
        return any(tensor.requires_grad for tensor in self.tensors())

    def parts(self) -> tuple[Any, ...]:
        """Every argument, in order."""
        return tuple(getattr(self, field.name) for field in fields(self))

    def check(self, heads: int, device: torch.device) -> None:
        """Refuse a call with that many query heads on that device, where the form does not serve it.

        Raises:
            InvalidShape: it is made for another number of heads, or its tensors lie on another device.
        """
        # Two comparisons: dynamo finds no symbolic size in a tuple.
        if self.heads != 1 and self.heads != heads:
            raise InvalidShape(
                f"the heads of a bias must be 1 or those of the query, {heads}, got {self.heads} in {self!r}; "
                "give it one value for each query head (not for each key head)"
            )
        for tensor in self.tensors():
            if tensor.device != device:
                raise InvalidShape(
                    f"{self!r} must be on the device of the query, {device}, got {tensor.device}; move its tensors "
                    "with `.to`"
                )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ScoreBias):
            return NotImplemented
        return self is other or (type(self) is type(other) and all(map(same, self.parts(), other.parts())))

    def __hash__(self) -> int:
        return hash((type(self).__name__, *map(hash_of, self.parts())))

    def __repr__(self) -> str:
        arguments = (f"{field.name}={text_of_value(getattr(self, field.name))}" for field in fields(self))
        return f"{self.name}({', '.join(arguments)})"


class DistanceBias(ScoreBias):
    """A bias that is a function of the head and of the distance, key index minus query index, alone."""

    @abstractmethod
    def at_distance(self, distance: Int[Tensor, "*shape"], *, dtype: torch.dtype) -> Float[Tensor, "heads *shape"]:
        """The values at some distances j - i, differentiable in its tensors; one head where all have the same."""

    def by_distance(
        self, first: int, last: int, *, dtype: torch.dtype, device: torch.device | None
    ) -> Float[Tensor, "heads distances"]:
        """The values at j - i = first .. last, both included: all that a geometry of int offsets needs.

        Queries q .. q + Q - 1 and keys k .. k + K - 1 lie at the distances k - q - Q + 1 .. k - q + K - 1.
        """
        return self.at_distance(torch.arange(first, last + 1, device=device), dtype=dtype)

    def dense(
        self, geometry: Geometry, *, dtype: torch.dtype, device: torch.device | None
    ) -> Float[Tensor, "rows heads queries keys"]:
        """The bias of every pair: each diagonal holds one value."""
        _, _, queries, keys = geometry.shape
        if queries == 0 or keys == 0:
            distance = geometry.kv_idx(device)[:, None, :] - geometry.q_idx(device)[:, :, None]
            return self.at_distance(distance, dtype=dtype).movedim(0, 1)
        first = geometry.kv_idx(device)[:, :1] - geometry.q_idx(device)[:, -1:]
        # (rows, 1) + (queries + keys - 1) -> (heads, rows, distances) -> (rows, heads, distances)
        distance = first + torch.arange(queries + keys - 1, device=device)
        # Not in `dtype` yet: the gradient of a distance is a sum over its diagonal.
        values = self.at_distance(distance, dtype=accumulated(dtype)).movedim(0, 1)
        # Windows of `keys` distances, one further for each query before the last.
        diagonals: Tensor = values.unfold(-1, keys, 1).to(dtype).flip(-2)
        return diagonals


class BoundBias(NamedTuple):
    """A form and the extent that a call asks it about: what a function is given that declares "bias_forms"."""

    bias: ScoreBias
    geometry: Geometry

    def dense(self, dtype: torch.dtype, device: torch.device | None) -> Float[Tensor, "rows heads queries keys"]:
        """The bias of every pair, with one row or one head where all have the same."""
        return self.bias.dense(self.geometry, dtype=dtype, device=device)
