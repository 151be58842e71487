"""One way to read a field, whether the configuration is a mapping or an object; reading never changes it."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

from headstock.errors import InvalidConfig

__all__ = ["View", "whole_number"]

# What reading a field can raise: transformers' heterogeneous configs answer RuntimeError for a field that differs
# between layers, and ValueError for a layer type whose layers differ.
UNREADABLE = (AttributeError, LookupError, RuntimeError, TypeError, ValueError)
# transformers names the two thetas of a class "global" and "local" in some `default_theta`.
SCOPE_OF_LAYER_TYPE = {"full_attention": "global", "sliding_attention": "local"}


class View:
    """The fields of a configuration; one that is absent, None, or refuses to be read, is None."""

    def __init__(self, config: object, overrides: Mapping[str, Any] | None = None) -> None:
        self._config = config
        self._overrides = overrides or {}

    def get(self, name: str) -> Any:
        """The field, or None."""
        if name in self._overrides:
            return self._overrides[name]
        if isinstance(self._config, Mapping):
            return self._config.get(name)
        try:
            return getattr(self._config, name, None)
        except UNREADABLE:
            return None

    def first(self, *names: str) -> Any:
        """The first of these fields that is there."""
        return next((value for value in map(self.get, names) if value is not None), None)

    def whole(self, *names: str) -> int | None:
        """The first of these fields that is there, a whole number above 0.

        Raises:
            InvalidConfig: it is not one.
        """
        name = next((name for name in names if self.get(name) is not None), None)
        return None if name is None else whole_number(name, self.get(name))

    def labels(self) -> tuple[str, ...]:
        """The kinds of layer that are declared, each once; DeepSeek-V4 and LFM3 name their sets themselves."""
        names = self.names("_rope_type_labels") or self.names("layer_types")
        return tuple(dict.fromkeys(name for name in names if isinstance(name, str)))

    def names(self, field: str) -> Sequence[Any]:
        """The entries of a list; none where the field is no list."""
        value = self.get(field)
        return value if isinstance(value, Sequence) and not isinstance(value, str) else ()

    def default_theta(self, layer_type: str | None) -> Any:
        """The `default_theta` of a class: a number, or numbers per layer type or per "global" and "local"."""
        default = self.get("default_theta")
        if not isinstance(default, Mapping):
            return default
        return default.get(layer_type, default.get(SCOPE_OF_LAYER_TYPE.get(layer_type or "", "global")))

    def of_layer(self, layer_type: str) -> Self:
        """The fields as the layers of one type have them, where `per_layer_config` says that they differ.

        Raises:
            InvalidConfig: it is a mapping, but not of indices to mappings.
        """
        overrides = dict(self._overrides)
        if layer_type == "full_attention" and self.get("global_head_dim") is not None:
            overrides["head_dim"] = self.get("global_head_dim")  # Gemma 4's older spelling
        per_layer = self.get("per_layer_config")
        if isinstance(per_layer, Mapping):
            return type(self)(self._config, overrides | self._agreed(per_layer, layer_type))
        try:
            return type(self)(self._config if per_layer is None else per_layer[layer_type], overrides)
        except UNREADABLE:
            return type(self)(self._config, overrides)

    def _agreed(self, per_layer: Mapping[Any, Any], layer_type: str) -> dict[str, Any]:
        """The overrides that all layers of one type share; None for those in which they differ."""
        try:
            by_index = {int(index): dict(overrides) for index, overrides in per_layer.items()}
        except (TypeError, ValueError) as error:
            raise InvalidConfig(
                f"per_layer_config must have a mapping of fields for each index of a layer, got {dict(per_layer)}"
            ) from error
        mine = [by_index.get(i, {}) for i, kind in enumerate(self.names("layer_types")) if kind == layer_type]
        names = {name for overrides in mine for name in overrides}
        return {
            name: mine[0][name] if all(name in each and each[name] == mine[0].get(name) for each in mine) else None
            for name in names
        }


def whole_number(name: str, value: object) -> int:
    """`value` as an int.

    Raises:
        InvalidConfig: it is not a whole number above 0.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1 or value < 1:
        raise InvalidConfig(f"{name} must be a whole number above 0, got {value!r}")
    return int(value)
