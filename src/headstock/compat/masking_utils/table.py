"""The table of mask functions under transformers' names."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from headstock.compat.masking_utils.dense import eager_mask, sdpa_mask
from headstock.compat.masking_utils.flash import flash_attention_mask
from headstock.compat.masking_utils.flex import flex_attention_mask
from headstock.errors import InvalidComponent
from headstock.masks.node import name_of
from headstock.registry import Interface, Registry

__all__ = ["ALL_MASK_ATTENTION_FUNCTIONS", "AttentionMaskInterface", "MaskFunction"]

#: `(batch_size, q_length, kv_length, q_offset, kv_offset, mask_function, attention_mask, **keywords)` to what the
#: attention function of the same name takes.
MaskFunction: TypeAlias = Callable[..., Any]

_ARGUMENTS = (
    *("batch_size", "q_length", "kv_length", "q_offset", "kv_offset", "mask_function", "attention_mask"),
    *("allow_is_causal_skip", "allow_is_bidirectional_skip", "local_size", "dtype", "config", "use_vmap", "device"),
)


def check_mask_function(name: str, component: Any) -> None:
    """Refuse what `create_*` could not call.

    Raises:
        InvalidComponent: it has no room for what they pass, by keyword.
    """
    try:
        signature = inspect.signature(component)
    except ValueError:  # some built-in functions have no signature to read
        return
    try:
        signature.bind(**dict.fromkeys(_ARGUMENTS))
    except TypeError as error:
        raise InvalidComponent(
            f"mask function {name!r} must take {', '.join(_ARGUMENTS)} by keyword, "
            f"got {name_of(component)}{signature}; "
            "take those that it needs and **kwargs"
        ) from error


MASK_FUNCTIONS: Registry[MaskFunction] = Registry(
    "mask function",
    check=check_mask_function,
    home=(__name__, "MASK_FUNCTIONS"),
    builtins={
        "eager": eager_mask,
        "flash_attention_2": flash_attention_mask,
        "flash_attention_3": flash_attention_mask,
        "flash_attention_4": flash_attention_mask,
        "flex_attention": flex_attention_mask,
        "sdpa": sdpa_mask,
    },
)


class AttentionMaskInterface(Interface[MaskFunction], registry=MASK_FUNCTIONS):
    """transformers' interface: mask functions by the name of the attention implementation that they serve.

    A local instance is used where it is passed: `create_causal_mask(..., mask_interface=local)`. A scope
    (`with ALL_MASK_ATTENTION_FUNCTIONS.override(sdpa=mine):`) reaches every call inside, of unchanged models too.

    >>> AttentionMaskInterface()["sdpa"] is sdpa_mask
    True
    >>> AttentionMaskInterface().valid_keys()[:2]
    ['eager', 'flash_attention_2']
    """

    @classmethod
    def register(  # type: ignore[override]  # with transformers' names of the parameters
        cls, key: str, value: Any = None, *, replace: bool = True, **declared: Any
    ) -> Any:
        """Enter `value` in the shared table; as in transformers, a name that is taken is replaced.

        Raises:
            InvalidComponent, FrozenTable, DuplicateName: as the strict interface.
        """
        if value is None:
            return lambda given: cls.register(key, given, replace=replace, **declared)
        return super().register(key, value, replace=replace, **declared)

    def valid_keys(self) -> list[str]:
        """Every name."""
        return list(self)

    @property
    def _global_mapping(self) -> Mapping[str, MaskFunction]:
        # Read by models of transformers that look a name up by themselves.
        return self.registry


ALL_MASK_ATTENTION_FUNCTIONS = AttentionMaskInterface()
"""The mask functions that every call uses which is given no table of its own."""
