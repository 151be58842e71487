"""Watches which models are given headstock's names, and what runs in the place of them."""

import functools
from collections.abc import Callable, Container
from typing import Any

from headstock.integrations.transformers.another import guarded_lookup
from headstock.integrations.transformers.architectures import picks_a_class, warn_of

__all__ = ["unwatch", "watch"]

#: Every model asks it, when it is built and when its implementation is set, whether it may have what it asks for.
_METHOD = "get_correct_attn_implementation"

_replaced: list[tuple[type, str, Callable[..., Any], Callable[..., Any]]] = []


def watch(names: Container[str]) -> None:
    """Warn from now on of models that ask for one of `names` and have attention of their own.

    Those that pick their layers by the name (falcon, gpt_neo, gptj) would fail: they get what they have without one.
    Another implementation is refused in layers that a block overrides.
    """
    from transformers import AttentionInterface, PreTrainedModel

    if not _replaced:
        _replace(PreTrainedModel, _METHOD, lambda original: _watched(original, names))
        _replace(AttentionInterface, "get_interface", guarded_lookup)


def unwatch() -> None:
    """Put the methods back; one that someone else has wrapped since goes on, and asks after no names."""
    for owner, name, original, wrapped in _replaced:
        if getattr(owner, name) is wrapped:
            setattr(owner, name, original)
    _replaced.clear()


def _replace(owner: type, name: str, wrapper: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    original = getattr(owner, name)
    wrapped = wrapper(original)
    _replaced.append((owner, name, original, wrapped))
    setattr(owner, name, wrapped)


def _watched(original: Callable[..., Any], names: Container[str]) -> Callable[..., Any]:
    @functools.wraps(original)
    def watched(self: Any, requested_attention: str | None, *arguments: Any, **keywords: Any) -> Any:
        if requested_attention in names:
            warn_of(self, str(requested_attention))
            if picks_a_class(type(self)):  # by the name: what it is built with where none is asked for
                requested_attention = None
        return original(self, requested_attention, *arguments, **keywords)

    return watched
