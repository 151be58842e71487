"""Numbers that a configuration must hold."""

from typing import Any

from headstock.errors import InvalidConfig

__all__ = ["integer_of"]


def integer_of(config: Any, name: str) -> int:
    """The positive integer of that name.

    Raises:
        InvalidConfig: it is missing, or none.
    """
    value = getattr(config, name, None)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidConfig(f"config.{name} must be a positive integer for this mask, got {value!r}; set it")
    return value
