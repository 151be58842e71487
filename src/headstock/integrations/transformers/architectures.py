"""Which models call the attention function that their configuration names, and which only say that they do."""

import inspect
import re
import sys
import warnings
from typing import Any

from headstock.errors import ConfigWarning

__all__ = ["picks_a_class", "uses_attention_interface", "warn_of"]

_OWN_ATTENTION = re.compile(r"^class \w*Attention\w*\((?:nn\.)?Module\):", re.MULTILINE)
_CLASSES = re.compile(r"_ATTENTION_CLASSES\[")
_TABLE = "ALL_ATTENTION_FUNCTIONS"


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
    """Warn where `model` will never call `implementation`."""
    if not uses_attention_interface(type(model)):
        warnings.warn(
            f"{type(model).__name__} must look its attention function up by name for attn_implementation="
            f"{implementation!r} to have an effect, got a model with attention of its own: it runs that, as without "
            "headstock",
            ConfigWarning,
            stacklevel=3,
        )


def _source_of(model_class: type) -> str:
    module = sys.modules.get(model_class.__module__)
    try:
        return "" if module is None else inspect.getsource(module)
    except (OSError, TypeError):  # written in a prompt, or compiled
        return ""
