"""Position embeddings by parameters that an override gives, completed by the model's own."""

from collections.abc import Mapping
from typing import Any

from headstock.errors import InvalidConfig
from headstock.registry import Link
from headstock.rope.contract import RopeFunction
from headstock.rope.embedding import RotaryEmbedding
from headstock.rope.parameters import RopeParameters

__all__ = ["rotary_of"]

# What every variant has; a variant's own fields are those of one variant, and are not taken over by another.
_SHARED = tuple(name for name in RopeParameters.model_fields if name != "rope_type")


def rotary_of(
    given: Mapping[str, Any], own: RopeParameters, interface: Link[RopeFunction] | None = None
) -> RotaryEmbedding:
    """The embeddings that `given` says; fields that all variants share are `own`'s where they are left out.

    Raises:
        InvalidConfig: the parameters are none, or rotate another part of the head than the model does.
        UnknownName: there is no variant of that name.
    """
    if "rope_type" not in given:
        raise InvalidConfig(
            f"RoPE parameters of a layer must name their rope_type, got {dict(given)}; add it ('default')"
        )
    shared = {name: getattr(own, name) for name in _SHARED if name in own.model_fields_set}
    wanted = {**shared, **given}
    head_dim, longest = wanted.pop("head_dim"), wanted.pop("max_position_embeddings", None)
    config = {"head_dim": head_dim, "max_position_embeddings": longest, "rope_parameters": wanted}
    parameters = RopeParameters.from_config(config, strict=True, interface=interface)
    if parameters.head_dim != own.head_dim or parameters.rotary_dim != own.rotary_dim:
        raise InvalidConfig(
            f"RoPE parameters of a layer must rotate as much of its heads as the model does, {own.rotary_dim} of "
            f"{own.head_dim} channels, got {parameters.rotary_dim} of {parameters.head_dim}; leave head_dim and "
            "partial_rotary_factor out"
        )
    return RotaryEmbedding(parameters, interface=interface)
