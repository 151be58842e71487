"""transformers' mixin of configuration classes with rotary embeddings."""

import logging
import warnings
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from headstock.compat.modeling_rope_utils.checking import check_set
from headstock.errors import ConfigWarning, InvalidConfig
from headstock.rope import read_rope, rope_layer_types

__all__ = ["RotaryEmbeddingConfigMixin", "rope_config_validation"]

_log = logging.getLogger(__name__)
# Variants whose length in training transformers fills in where a config leaves it out.
WITH_ORIGINAL_LENGTH = ("llama3", "yarn", "longrope")


class RotaryEmbeddingConfigMixin:
    """For configuration classes: brings `self.rope_parameters` into today's layout, in place, and checks them.

    The methods read `rope_parameters`, `rope_theta`, `partial_rotary_factor`, `layer_types`, `head_dim` and the like of
    the object, as in transformers. What transformers logs about impossible values is an error here.

    >>> class Config(RotaryEmbeddingConfigMixin):
    ...     head_dim, max_position_embeddings = 64, 2048
    ...     rope_parameters = None
    >>> config = Config()
    >>> config.convert_rope_params_to_dict(rope_scaling={"type": "linear", "factor": 2.0}, rope_theta=5e5, other=1)
    {'other': 1}
    >>> config.rope_parameters
    {'type': 'linear', 'factor': 2.0, 'rope_theta': 500000.0, 'rope_type': 'linear'}
    """

    default_theta: Any = 10_000.0
    default_rope_type: str = "default"
    ignore_keys_at_rope_validation: Collection[str] = set()
    if TYPE_CHECKING:  # the configuration's own
        rope_parameters: dict[str, Any] | None
        max_position_embeddings: int

    def nested_rope_parameter_keys(self, rope_parameters: Mapping[str, Any]) -> list[str]:
        """The keys that are layer types declared by the configuration; none where one set serves all layers."""
        declared = getattr(self, "_rope_type_labels", None) or getattr(self, "layer_types", None) or ()
        return [key for key in rope_parameters if key in declared]

    def convert_rope_params_to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """Move older keywords, such as `rope_scaling`, into `self.rope_parameters`; return the other ones."""
        given = kwargs.pop("rope_scaling", None) or self.rope_parameters
        self.rope_parameters = {} if given is None else given
        theta = kwargs.pop("rope_theta", getattr(self, "rope_theta", self.default_theta))
        partial = kwargs.pop("partial_rotary_factor", getattr(self, "partial_rotary_factor", None))
        for each in _sets(self, self.rope_parameters):
            _fill(each, rope_theta=theta, **({} if partial is None else {"partial_rotary_factor": partial}))
        if partial is not None:
            known = {"partial_rotary_factor"}
            self.ignore_keys_at_rope_validation = known | set(self.ignore_keys_at_rope_validation or ())
        self.standardize_rope_params()
        return kwargs

    def standardize_rope_params(self) -> None:
        """Complete `self.rope_parameters`, in place: the name of the variant, theta, and what else stands outside."""
        theta, partial = getattr(self, "rope_theta", None), getattr(self, "partial_rotary_factor", None)
        parameters = getattr(self, "rope_parameters", None) or {}
        if not parameters and not theta:
            _log.warning("there are no RoPE parameters to bring into today's layout")
            return
        nested = bool(self.nested_rope_parameter_keys(parameters))
        for each in _sets(self, parameters):
            _fill(each, rope_type=each.get("type", "default"), rope_theta=theta)
            _fill(each, **({} if partial is None else {"partial_rotary_factor": partial}))
            if each["rope_type"] == "default":
                each["rope_type"] = self.default_rope_type
            if each["rope_type"] in WITH_ORIGINAL_LENGTH:
                _complete_length(self, each, outer_wins=not nested)
        self.rope_parameters = parameters

    def validate_rope(self) -> None:
        """Check every set of `self.rope_parameters` with the method `_validate_<rope_type>_rope_parameters`.

        Raises:
            InvalidConfig: a value is missing or impossible.
            UnknownName: no variant and no method has that name.

        Warns:
            ConfigWarning: a key is unknown or two fields disagree.
        """
        parameters = getattr(self, "rope_parameters", None)
        for each in _sets(self, parameters) if parameters else ():
            rope_type = each.setdefault("rope_type", each.get("type", "default"))
            own = getattr(self, f"_validate_{rope_type}_rope_parameters", None)
            if own is not None:
                own(each, ignore_keys=self.ignore_keys_at_rope_validation)
            else:
                _check(self, each, self.ignore_keys_at_rope_validation)

    def _validate_default_rope_parameters(
        self, rope_parameters: dict[str, Any], ignore_keys: Collection[str] | None = None
    ) -> None:
        _check(self, rope_parameters, ignore_keys)

    _validate_axial_rope_parameters = _validate_default_rope_parameters
    _validate_linear_rope_parameters = _validate_default_rope_parameters
    _validate_dynamic_rope_parameters = _validate_default_rope_parameters
    _validate_yarn_rope_parameters = _validate_default_rope_parameters
    _validate_longrope_rope_parameters = _validate_default_rope_parameters
    _validate_llama3_rope_parameters = _validate_default_rope_parameters
    _validate_proportional_rope_parameters = _validate_default_rope_parameters

    @staticmethod
    def _check_received_keys(
        rope_type: str,
        received_keys: Iterable[str],
        required_keys: Iterable[str],
        optional_keys: Iterable[str] | None = None,
        ignore_keys: Collection[str] | None = None,
    ) -> None:
        """For validating methods of one's own: `received_keys` must hold the required ones, and others are warned of.

        Raises:
            InvalidConfig: a required key is missing.
        """
        received, required = set(received_keys), set(required_keys)
        if "type" in received:  # the older spelling of `rope_type`, which must then be there too
            received, required = received - {"type"}, required | {"rope_type"}
        received -= set(ignore_keys or ())
        if missing := sorted(required - received):
            raise InvalidConfig(
                f"the parameters of rope_type {rope_type!r} must have the keys {missing}, got none; add them"
            )
        if unknown := sorted(received - required - set(optional_keys or ()) - {"partial_rotary_factor"}):
            warnings.warn(f"rope_type {rope_type!r} knows no keys {unknown}", ConfigWarning, stacklevel=2)


def rope_config_validation(config: Any, ignore_keys: Collection[str] | None = None) -> None:
    """Check what `config` says about RoPE; one with the methods of the mixin is standardised first, in place.

    `ignore_keys` are remembered as the configuration's own (transformers 5.23 takes them and forgets them).

    Raises:
        InvalidConfig, UnknownName: as `RotaryEmbeddingConfigMixin.validate_rope`.
    """
    if ignore_keys:
        known = getattr(config, "ignore_keys_at_rope_validation", None) or ()
        config.ignore_keys_at_rope_validation = {*known, *ignore_keys}
    if hasattr(config, "standardize_rope_params"):
        config.standardize_rope_params()
    if isinstance(config, RotaryEmbeddingConfigMixin):
        config.validate_rope()
        return
    for layer_type in rope_layer_types(config) or (None,):
        source = read_rope(config, layer_type)
        if source is not None:
            check_set(source, {"rope_type": source.rope_type} | dict(source.fields), ignore_keys)


def _sets(config: RotaryEmbeddingConfigMixin, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """The sets of parameters themselves, without those that are null: layers without RoPE."""
    keys = config.nested_rope_parameter_keys(parameters)
    return [each for each in map(parameters.get, keys) if each is not None] if keys else [parameters]


def _fill(parameters: dict[str, Any], **values: Any) -> None:
    for name, value in values.items():
        parameters.setdefault(name, value)


def _complete_length(config: RotaryEmbeddingConfigMixin, parameters: dict[str, Any], *, outer_wins: bool) -> None:
    name = "original_max_position_embeddings"
    outer = getattr(config, name, None)
    if outer_wins and outer is not None:  # Phi-3 states it outside
        parameters[name] = outer
    elif name not in parameters:
        parameters[name] = config.max_position_embeddings


def _check(
    config: RotaryEmbeddingConfigMixin, parameters: Mapping[str, Any], ignore_keys: Collection[str] | None
) -> None:
    """Check one set, the configuration's own or another, against the head size and the length that it says."""
    own = config.rope_parameters or {}
    names = [name for name in config.nested_rope_parameter_keys(own) if own[name] is parameters]
    labels = config.nested_rope_parameter_keys(own)
    source = read_rope(config, next(iter(names or labels), None))
    if source is not None:
        check_set(source, parameters, ignore_keys)
