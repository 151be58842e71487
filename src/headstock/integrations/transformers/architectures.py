"""Which models call the attention function that their configuration names, and which only say that they do."""

import inspect
import re
import sys
import warnings
from collections.abc import Iterator
from types import FrameType
from typing import Any

from headstock.errors import ConfigWarning

__all__ = ["picks_a_class", "uses_attention_interface", "warn_of"]

_OWN_ATTENTION = re.compile(r"^class \w*Attention\w*\((?:nn\.)?Module\):", re.MULTILINE)
_CLASSES = re.compile(r"_ATTENTION_CLASSES\[")
_TABLE = "ALL_ATTENTION_FUNCTIONS"
_LIBRARIES = ("headstock", "transformers")


def uses_attention_interface(model_class: type) -> bool:
    """Whether models of this class look their attention function up in transformers' table.

    Read off the module that defines the class: one with attention layers of its own that never names the table runs
    those, whatever implementation is asked for. A class without layers of its own is taken to use others that do.

    >>> from transformers import BloomForCausalLM, LlamaForCausalLM
    >>> uses_attention_interface(LlamaForCausalLM), uses_attention_interface(BloomForCausalLM)
    (True, False)
    """
    source = _source_of(model_class)
    return _OWN_ATTENTION.search(source) is None or _TABLE in source


def picks_a_class(model_class: type) -> bool:
    """Whether models of this class pick their attention layers from a dict of classes, which lacks other names."""
    return not uses_attention_interface(model_class) and _CLASSES.search(_source_of(model_class)) is not None


def warn_of(model: Any, implementation: str) -> None:
    """Warn where `model` will never call `implementation`, once for a model and its parts."""
    if uses_attention_interface(type(model)):
        return
    callers = list(_callers(sys._getframe(2)))
    if any(_builds(frame, model) for frame in callers):
        return
    names = [str(frame.f_globals.get("__name__", "")).partition(".")[0] for frame in callers]
    outside = next((place for place, name in enumerate(names) if name not in _LIBRARIES), 0)
    warnings.warn(
        f"{type(model).__name__} must look its attention function up by name for attn_implementation="
        f"{implementation!r} to have an effect, got a model with attention of its own: it runs that, as without "
        "headstock",
        ConfigWarning,
        stacklevel=3 + outside,
    )


def _callers(frame: FrameType | None) -> Iterator[FrameType]:
    """The frame and those that led to it, the nearest first."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def _builds(frame: FrameType, model: Any) -> bool:
    """Whether a model of the same architecture, which was warned of, is building `model` there, as a part of it."""
    owner = frame.f_locals.get("self") if frame.f_code.co_name == "__init__" else None
    return owner is not None and owner is not model and type(owner).__module__ == type(model).__module__


def _source_of(model_class: type) -> str:
    module = sys.modules.get(model_class.__module__)
    try:
        return "" if module is None else inspect.getsource(module)
    except (OSError, TypeError):  # written in a prompt, or compiled
        return ""
