"""Caches among a layer's arguments: what recomputation would write a second time."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["CACHE_ARGUMENTS", "cache_arguments", "is_cache"]

# What layers call a cache that their forward writes: the names in transformers' models, and the singular of older ones.
CACHE_ARGUMENTS = frozenset(
    {
        "cache",
        "cache_layer",
        "cache_params",
        "kv_cache",
        "layer_past",
        "padding_cache",
        "past",
        "past_key_value",
        "past_key_values",
    }
)


def is_cache(value: object) -> bool:
    """Whether `value` is a key-value cache: an object with the methods `update` and `get_seq_length`."""
    # Instances only: a class among the arguments is not written.
    kind = type(value)
    return callable(getattr(kind, "update", None)) and callable(getattr(kind, "get_seq_length", None))


def cache_arguments(named: Mapping[str, Any]) -> Iterator[str]:
    """The names of the arguments that carry a cache, by their name or by what they are.

    A flag (`use_cache=True`, `cache=False`) is not a cache. Containers are searched.
    """
    for name, value in named.items():
        by_name = name in CACHE_ARGUMENTS and value is not None and not isinstance(value, bool)
        if by_name or _holds_cache(value):
            yield name


def _holds_cache(value: Any) -> bool:
    if isinstance(value, Mapping):
        return is_cache(value) or any(map(_holds_cache, value.values()))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return is_cache(value) or any(map(_holds_cache, value))
    return is_cache(value)
