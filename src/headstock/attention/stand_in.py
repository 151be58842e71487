"""What functions that look at `module` are given where attention is called without one."""

from dataclasses import dataclass
from typing import Any

__all__ = ["StandIn", "stand_in"]


class _Config:
    """What some functions read off the configuration."""

    _attn_implementation = "headstock"


_CONFIG = _Config()


@dataclass
class StandIn:
    """The attributes that attention functions read off a layer."""

    training: bool
    num_key_value_groups: int
    scaling: float
    sinks: Any = None
    is_causal: bool = False
    layer_idx: int | None = None
    config: Any = _CONFIG


def stand_in(heads: int, kv_heads: int, *, scaling: float, dropout: float, sinks: Any = None) -> StandIn:
    """A stand-in for one call; it trains where there is dropout, since functions look there before they drop."""
    return StandIn(dropout > 0.0, heads // kv_heads, scaling, sinks)
