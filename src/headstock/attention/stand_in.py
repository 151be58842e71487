"""What functions that look at `module` are given where attention is called without one."""

from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor

from headstock.attention.call import Call

__all__ = ["StandIn"]


class _Config:
    """What some functions read off the configuration."""

    _attn_implementation = "headstock"


@dataclass
class StandIn:
    """The attributes that attention functions read off a layer."""

    training: bool
    num_key_value_groups: int
    scaling: float
    head_dim: int
    sinks: Tensor | None = None
    is_causal: bool = False
    layer_idx: int | None = None
    config: ClassVar[_Config] = _Config()

    @classmethod
    def of(cls, call: Call) -> Self:
        """A stand-in for one call; it trains where there is dropout, since functions look there before they drop."""
        request = call.request
        groups = call.query.shape[1] // call.key.shape[1]
        return cls(request.dropout > 0.0, groups, request.scaling, call.query.shape[3], request.sinks)
