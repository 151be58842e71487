"""`transformers.modeling_utils`: its table of attention functions, and what it means by no mask."""

import functools
import logging
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from headstock.attention import AttentionFunction
from headstock.attention import AttentionInterface as StrictInterface
from headstock.attention.eager import eager
from headstock.attention.sdpa import sdpa
from headstock.errors import UnknownName
from headstock.masks import Geometry, Mask, PreparedMask, causal, prepare
from headstock.registry import Link, declare, unknown_name

__all__ = ["ALL_ATTENTION_FUNCTIONS", "AttentionInterface", "sdpa_attention_forward"]

_log = logging.getLogger(__name__)


def sdpa_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | Mask | PreparedMask | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **keywords: Any,
) -> tuple[Tensor, None]:
    """The attention function `sdpa` with the meaning that transformers gives to no mask.

    Without a mask several queries see the keys up to their own index, the first of both having index 0, unless
    `is_causal` (where that is None, `module.is_causal`) is False; one query sees every key. `sliding_window` says
    nothing: transformers leaves a mask out only where the window hides nothing. Everything else is `sdpa`'s.

    Raises:
        UnsupportedFeature: a feature or a keyword that transformers' function would drop.

    Example:
        >>> import torch
        >>> query, key, value = torch.randn(3, 1, 2, 5, 8)
        >>> causal_output, _ = sdpa_attention_forward(torch.nn.Module(), query, key, value, None)
        >>> full_output, _ = sdpa_attention_forward(torch.nn.Module(), query, key, value, None, is_causal=False)
        >>> torch.equal(causal_output[:, -1], full_output[:, -1]), torch.equal(causal_output, full_output)
        (True, False)
    """
    keywords.pop("sliding_window", None)
    if keywords.pop("output_attentions", False):
        _log_once("attention function 'sdpa' returns no weights; 'eager' does")
    if is_causal is None:
        is_causal = getattr(module, "is_causal", True)
    (batch, heads, queries, _), keys = query.shape, key.shape[2]
    if attention_mask is None and is_causal and queries > 1:
        attention_mask = prepare(causal(), Geometry(batch, queries, keys, heads=heads), device=query.device)
    output, _ = sdpa(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **keywords)
    return output, None


declare(sdpa_attention_forward, mask="causal_or_dense", features={"bias", "dropout"})


class _AsTransformers(StrictInterface):
    """The entries that mean something else in transformers, in front of the shared table; pickles by name."""

    def __reduce__(self) -> str:  # type: ignore[override]  # a global variable
        return "_AS_TRANSFORMERS"


_AS_TRANSFORMERS = _AsTransformers()
_AS_TRANSFORMERS["sdpa"] = sdpa_attention_forward


class AttentionInterface(StrictInterface):
    """transformers' interface over headstock's shared table, with transformers' `sdpa` in front of headstock's.

    Example:
        >>> AttentionInterface()["sdpa"] is sdpa_attention_forward
        True
        >>> AttentionInterface().get_interface("eager", default=len) is len
        True
    """

    def __init__(self, *, parent: Link[AttentionFunction] | None = None) -> None:
        super().__init__(parent=_AS_TRANSFORMERS if parent is None else parent)

    @classmethod
    def register(  # type: ignore[override]  # with transformers' names of the parameters
        cls, key: str, value: Any = None, *, replace: bool = True, **declared: Any
    ) -> Any:
        """Enter `value` in headstock's shared table; as in transformers, a name that is taken is replaced.

        Raises:
            InvalidComponent, FrozenTable, DuplicateName: as the strict interface.
        """
        if value is None:
            return lambda given: cls.register(key, given, replace=replace, **declared)
        entered = super().register(key, value, replace=replace, **declared)
        _AS_TRANSFORMERS.pop(key, None)
        return entered

    def get_interface(self, attn_implementation: str | None, default: Callable[..., Any]) -> Callable[..., Any]:
        """The function of that name, or `default`, a model's own, for None and for "eager".

        A function that was put in the place of headstock's own "eager" comes before `default`. The prefix `paged|` is
        taken off a name that is not registered with it.

        Raises:
            UnknownName: no function has that name.
        """
        if attn_implementation is None:
            _log_once("an attention function was asked for by the name None: goes on with the model's own")
            return default
        if attn_implementation.startswith("paged|") and attn_implementation not in self:
            _log_once(f"the prefix of {attn_implementation!r} is no longer needed: goes on without")
            attn_implementation = attn_implementation.removeprefix("paged|")
        found: AttentionFunction | None = self.get(attn_implementation)
        if attn_implementation == "eager" and (found is None or found is eager):
            return default
        if found is None:
            raise UnknownName(unknown_name(self.kind, attn_implementation, self))
        return found

    def valid_keys(self) -> list[str]:
        """Every name."""
        return list(self)


ALL_ATTENTION_FUNCTIONS = AttentionInterface()
"""The attention functions that every model shares which has no table of its own."""


@functools.cache
def _log_once(text: str) -> None:
    _log.warning(text)
