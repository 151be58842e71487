"""What the ways in have in common for a type checker: their calls for the output alone, and those for more."""

from collections.abc import Mapping
from typing import TypedDict

from torch import Tensor

from headstock.attention.bias.contract import BoundBias, ScoreBias
from headstock.attention.bias.evaluation import BiasFunction
from headstock.attention.contract import AttentionFunction
from headstock.masks import MaskLike

__all__ = ["CommonOptions", "RowOptions"]


class CommonOptions(TypedDict, total=False):
    """What every call of attention may ask for."""

    implementation: str
    scaling: float | None
    dropout: float
    softcap: float | None
    sinks: Tensor | None
    checked: bool
    interface: Mapping[str, AttentionFunction] | None


class RowOptions(CommonOptions, total=False):
    """Further what a call whose queries lie in rows may."""

    mask: MaskLike | None
    bias: Tensor | ScoreBias | BoundBias | BiasFunction | None
