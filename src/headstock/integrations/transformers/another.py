"""Another implementation, set for a model while overrides hold that it would pass over: refused where it is to run."""

import functools
from collections.abc import Callable
from typing import Any

from torch import nn

from headstock.attention.settings import ATTENTION_SETTINGS
from headstock.errors import UnsupportedFeature
from headstock.integrations.transformers.naming import IMPLEMENTATIONS

__all__ = ["guarded_lookup", "implementation_of", "refuse_another"]


def implementation_of(module: nn.Module) -> str:
    """The name that the module's configuration says; "eager" where it says none."""
    name = getattr(getattr(module, "config", None), "_attn_implementation", None)
    return "eager" if name is None else str(name)


def refuse_another(module: nn.Module, _arguments: Any = None) -> None:
    """Refuse to run an overridden module that names an implementation of transformers' own; a forward hook too.

    Raises:
        UnsupportedFeature: it does.
    """
    implementation = implementation_of(module)
    if implementation not in IMPLEMENTATIONS:
        raise UnsupportedFeature(
            f"an overridden {type(module).__name__} must run headstock's attention, got attn_implementation="
            f"{implementation!r}, set since; undo the overrides, or call model.set_attn_implementation('headstock')"
        )


def guarded_lookup(original: Callable[..., Callable[..., Any]]) -> Callable[..., Callable[..., Any]]:
    """The look-up of attention functions in transformers, made to refuse others for modules that a block overrides.

    Blocks hold for one context alone, and leave nothing on a module that could look after it there.
    """

    @functools.wraps(original)
    def looked_up(self: Any, attn_implementation: Any, default: Any) -> Callable[..., Any]:
        function = original(self, attn_implementation, default)
        if attn_implementation in IMPLEMENTATIONS or not ATTENTION_SETTINGS.is_scoped():
            return function

        def refusing(module: nn.Module, *arguments: Any, **keywords: Any) -> Any:
            if ATTENTION_SETTINGS.scoped(module):
                refuse_another(module)
            return function(module, *arguments, **keywords)

        return refusing

    return looked_up
