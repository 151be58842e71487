"""The shared tables of mask representations and of mask patterns."""

import inspect
from typing import Any

from headstock.errors import InvalidComponent
from headstock.masks import patterns
from headstock.masks.contract import MaskPattern, MaskRepresentation
from headstock.masks.mask import Mask
from headstock.masks.node import name_of
from headstock.masks.representations import (
    to_additive,
    to_block_mask,
    to_block_mask_or_tiles,
    to_causal_or_blocks,
    to_causal_or_dense,
    to_dense,
    to_dense_or_additive,
    to_plan,
    to_varlen,
    to_varlen_parts,
    to_window,
)
from headstock.registry import Interface, Registry


def check_representation(name: str, component: Any) -> None:
    """Refuse what cannot be called as `component(mask, geometry, dtype=..., device=...)`.

    Raises:
        InvalidComponent: it cannot.
    """
    try:
        signature = inspect.signature(component)
    except ValueError:  # some built-in functions have no signature to read
        return
    try:
        signature.bind(None, None, dtype=None, device=None)
    except TypeError as error:
        raise InvalidComponent(
            f"mask representation {name!r} must be a function (mask, geometry, *, dtype, device), "
            f"got {name_of(component)}{signature}; take these four, `dtype` and `device` as keywords"
        ) from error


def check_pattern(name: str, component: Any) -> None:
    """Refuse what cannot be a function of a pattern's arguments.

    Raises:
        InvalidComponent: it is a mask itself, which can be called too.
    """
    if isinstance(component, Mask):
        raise InvalidComponent(
            f"mask pattern {name!r} must be a function that returns a Mask, got {component!r}; "
            "register the function, not the mask that it returns"
        )


MASK_REPRESENTATIONS: Registry[MaskRepresentation] = Registry(
    "mask representation",
    check=check_representation,
    home=(__name__, "MASK_REPRESENTATIONS"),
    builtins={
        "additive": to_additive,
        "block_mask": to_block_mask,
        "block_mask_or_tiles": to_block_mask_or_tiles,
        "causal_or_blocks": to_causal_or_blocks,
        "causal_or_dense": to_causal_or_dense,
        "dense": to_dense,
        "dense_or_additive": to_dense_or_additive,
        "plan": to_plan,
        "varlen": to_varlen,
        "varlen_parts": to_varlen_parts,
        "window": to_window,
        # The keys that transformers' attention functions go by.
        "eager": to_additive,
        "flash_attention_2": to_varlen,
        "flash_attention_3": to_varlen,
        "flash_attention_4": to_varlen,
        "flex_attention": to_block_mask,
        "sdpa": to_causal_or_dense,
    },
)

# The entry point group `headstock.masks` holds patterns: what a plug-in author calls a mask.
MASK_PATTERNS: Registry[MaskPattern] = Registry(
    "mask pattern",
    check=check_pattern,
    entry_points="headstock.masks",
    home=(__name__, "MASK_PATTERNS"),
    builtins={
        "bidirectional": patterns.bidirectional,
        "blockwise": patterns.blockwise,
        "causal": patterns.causal,
        "chunked": patterns.chunked,
        "dilated_window": patterns.dilated_window,
        "documents": patterns.documents,
        "first_tokens": patterns.first_tokens,
        "global_tokens": patterns.global_tokens,
        "neighborhood": patterns.neighborhood,
        "padding": patterns.padding,
        "prefix_lm": patterns.prefix_lm,
        "sliding_window": patterns.sliding_window,
        "tree": patterns.tree,
    },
)


class AttentionMaskInterface(Interface[MaskRepresentation], registry=MASK_REPRESENTATIONS):
    """Mask representations by name: functions `(mask, geometry, *, dtype, device)`, exact or refused.

    `dense`, `additive`, `dense_or_additive` and `causal_or_dense` are tensors, `block_mask` is torch's, `plan` the
    blocks that are not empty, `causal_or_blocks` these with the entries of the partial ones, `varlen` packed sequences,
    `varlen_parts` several calls of them, `window` a kernel's own arguments. transformers' names for its attention
    functions stand for what these take.

    >>> names = AttentionMaskInterface()
    >>> sorted(name for name in names if not name.startswith("flash"))  # doctest: +NORMALIZE_WHITESPACE
    ['additive', 'block_mask', 'block_mask_or_tiles', 'causal_or_blocks', 'causal_or_dense', 'dense',
     'dense_or_additive', 'eager', 'flex_attention', 'plan', 'sdpa', 'varlen', 'varlen_parts', 'window']
    >>> names["flash_attention_2"] is names["varlen"]
    True
    """


class MaskPatternInterface(Interface[MaskPattern], registry=MASK_PATTERNS):
    """Mask patterns by name: functions of the pattern's own arguments that return a `Mask`.

    >>> MaskPatternInterface()["sliding_window"](512)
    sliding_window(size=512)
    """


ALL_MASK_ATTENTION_FUNCTIONS = AttentionMaskInterface()
ALL_MASK_PATTERNS = MaskPatternInterface()
