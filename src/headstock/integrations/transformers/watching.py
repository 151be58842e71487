"""Watches which models are given headstock's names, to warn of those that would never call them."""

import functools
from collections.abc import Callable, Container
from typing import Any

from headstock.integrations.transformers.architectures import picks_a_class, warn_of

__all__ = ["unwatch", "watch"]

#: Every model asks it, when it is built and when its implementation is set, whether it may have what it asks for.
_METHOD = "get_correct_attn_implementation"

_replaced: list[tuple[Callable[..., Any], Callable[..., Any]]] = []


def watch(names: Container[str]) -> None:
    """Warn from now on of models that ask for one of `names` and have attention of their own.

    Those that pick their layers by the name (falcon, gpt_neo, gptj) would fail: they get what they have without one.
    """
    from transformers import PreTrainedModel

    if _replaced:
        return
    original = getattr(PreTrainedModel, _METHOD)

    @functools.wraps(original)
    def watched(self: Any, requested_attention: str | None, *arguments: Any, **keywords: Any) -> Any:
        if requested_attention in names:
            warn_of(self, str(requested_attention))
            if picks_a_class(type(self)):  # by the name: what it is built with where none is asked for
                requested_attention = None
        return original(self, requested_attention, *arguments, **keywords)

    _replaced.append((original, watched))
    setattr(PreTrainedModel, _METHOD, watched)


def unwatch() -> None:
    """Put the method back; one that someone else has wrapped since goes on, and asks after no names."""
    from transformers import PreTrainedModel

    original, watched = _replaced.pop()
    if getattr(PreTrainedModel, _METHOD) is watched:
        setattr(PreTrainedModel, _METHOD, original)
