"""One set of rope parameters, checked by the variant that it names."""

from collections.abc import Collection, Mapping
from typing import Any

from headstock.compat.modeling_rope_utils.table import ROPE_INIT_FUNCTIONS
from headstock.rope import RopeParameters, RopeSource

__all__ = ["check_set"]

# Fields whose values are possible or not for a size of the head.
WITH_HEAD_SIZE = frozenset({"long_factor", "mrope_section", "partial_rotary_factor", "short_factor"})
# Fields that every variant knows: to ignore them among the unknown ones does not leave them unchecked.
SHARED = frozenset({"partial_rotary_factor", "rope_theta", "rope_type", "type"})


def check_set(source: RopeSource, parameters: Mapping[str, Any], ignore_keys: Collection[str] | None) -> None:
    """Check `parameters` against the head size and the length of `source`, warning of unknown keys but `ignore_keys`.

    Raises:
        InvalidConfig: a value is missing or impossible.
        UnknownName: no variant has that name.
    """
    checked = {key: value for key, value in parameters.items() if key not in (ignore_keys or ()) or key in SHARED}
    head_dim = source.head_dim
    if head_dim is None:
        if not WITH_HEAD_SIZE.isdisjoint(checked):
            return
        head_dim = 128  # nothing that is checked below depends on it
    beside = {"head_dim": head_dim, "max_position_embeddings": source.max_position_embeddings}
    RopeParameters.from_config(beside | {"rope_parameters": checked}, interface=ROPE_INIT_FUNCTIONS)
