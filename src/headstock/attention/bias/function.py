"""A plain function of the four indices as a bias."""

import inspect
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from headstock.attention.bias.captured import captured_with_gradient
from headstock.attention.bias.contract import ScoreBias
from headstock.attention.bias.evaluation import BiasFunction, evaluate_bias
from headstock.errors import InvalidComponent, UnsupportedFeature
from headstock.masks import Geometry
from headstock.masks.indices import indices_of
from headstock.masks.node import name_of

__all__ = ["FunctionBias"]


@dataclass(frozen=True, eq=False, repr=False)
class FunctionBias(ScoreBias):
    """A function (batch_idx, head_idx, q_idx, kv_idx) -> number of absolute indices, added to the scores.

    The meaning is scalar, as that of a mask: what the function says of one quadruple, as under `torch.vmap`. It serves
    in eager mode, and must read no tensor that requires a gradient: an implementation that evaluates it where it is
    needed, and again in the backward pass, would lose that gradient. What is learned is a tensor or a parametric form.

    Raises:
        InvalidComponent: it is not a function of four indices.

    >>> bias = FunctionBias(lambda batch_idx, head_idx, q_idx, kv_idx: (kv_idx - q_idx) / 2)
    >>> bias.dense(Geometry(batch_size=1, q_length=1, kv_length=3, q_offset=2), dtype=torch.float32, device=None)
    tensor([[[[-1.0000, -0.5000,  0.0000]]]])
    """

    name = "FunctionBias"

    function: BiasFunction

    def __post_init__(self) -> None:
        if not torch.compiler.is_compiling():
            _check_function(self.function)

    def __repr__(self) -> str:
        return f"{self.name}({name_of(self.function)})"

    def check(self, heads: int, device: torch.device) -> None:
        """Refuse a graph that is being made, and a function that is seen to read a tensor that requires a gradient.

        Raises:
            UnsupportedFeature: either.
        """
        super().check(heads, device)
        _refuse_in_graphs()
        place = captured_with_gradient(self.function)
        if place is not None:
            raise UnsupportedFeature(_without_gradients(self, f"{place!r}, which requires one"))

    def at(
        self,
        batch_idx: Int[Tensor, "..."],
        head_idx: Int[Tensor, "..."],
        q_idx: Int[Tensor, "..."],
        kv_idx: Int[Tensor, "..."],
    ) -> Shaped[Tensor, "..."]:
        """The numbers at absolute indices of as many dimensions each, which broadcast to one shape.

        They are in the dtype that the function gives them, with size 1 in each dimension that it does not read.

        Raises:
            UnsupportedFeature: a graph is being made, or the numbers require a gradient.
            InvalidComponent: the function does not return a real number, or raises.
            InvalidShape: it returns more than one number for four indices.
        """
        _refuse_in_graphs()
        with torch.enable_grad():  # what is lost shows where gradients are recorded
            values = evaluate_bias(self.function, (batch_idx, head_idx, q_idx, kv_idx))
        if values.requires_grad:
            raise UnsupportedFeature(_without_gradients(self, "a result that requires one"))
        return values

    def dense(
        self, geometry: Geometry, *, dtype: torch.dtype, device: torch.device | None
    ) -> Float[Tensor, "rows heads queries keys"]:
        """The number of every pair, with one row or head for all where the function does not read these."""
        values = self.at(*indices_of(geometry, device)).to(dtype)
        return values.expand(-1, -1, geometry.q_length, geometry.kv_length)


def _without_gradients(bias: FunctionBias, came: str) -> str:
    return (
        f"{bias!r} must read no tensor that requires a gradient, got {came}; pass the bias as a tensor or as a "
        "parametric form (alibi, relative_table, relative_buckets), or detach() what is not to be learned"
    )


def _refuse_in_graphs() -> None:
    if torch.compiler.is_compiling():
        raise UnsupportedFeature(
            "a bias in compiled code must be a tensor or a parametric form (alibi, relative_table, relative_buckets), "
            "got a plain function, which no operator can take; evaluate it outside with "
            "FunctionBias(function).dense(geometry, ...)"
        )


def _check_function(function: object) -> None:
    rule = "a bias function must be (batch_idx, head_idx, q_idx, kv_idx) -> number"
    if not callable(function):
        raise InvalidComponent(f"{rule}, got {function!r}; pass a tensor as it is")
    try:
        signature = inspect.signature(function)
    except ValueError:  # some built-in functions have no signature to read
        return
    try:
        signature.bind(0, 0, 0, 0)
    except TypeError as error:
        raise InvalidComponent(f"{rule}, got {name_of(function)}{signature}; take the four indices") from error
