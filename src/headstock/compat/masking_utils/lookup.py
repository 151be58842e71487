"""Which function makes the mask of an attention implementation."""

from typing import Any

import torch
from torch import Tensor

from headstock.attention import ALL_ATTENTION_FUNCTIONS
from headstock.attention.contract import contract_of
from headstock.compat.masking_utils.asking import Asked
from headstock.compat.masking_utils.functions import causal_mask_function
from headstock.compat.masking_utils.table import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface, MaskFunction
from headstock.errors import InvalidConfig, UnknownName
from headstock.masks import ALL_MASK_ATTENTION_FUNCTIONS as ALL_REPRESENTATIONS
from headstock.masks import CausalOrDense, PreparedMask
from headstock.masks.contract import MaskRepresentation, Predicate
from headstock.registry import unknown_name

__all__ = ["as_mask_function", "find_representation", "mask_function_for"]


def mask_function_for(config: Any, interface: AttentionMaskInterface | None) -> MaskFunction:
    """The mask function of `config._attn_implementation`.

    It is the entry of `interface` (None: the shared one), else what headstock's attention function of that name
    declares to take, else headstock's representation of that name, else the additive one for an attention function that
    declares nothing. The prefix `paged|` is one of layout. transformers makes no mask at all where it finds no entry,
    so that padding is attended to.

    Raises:
        InvalidConfig: the configuration names no implementation.
        UnknownName: none of them has the name.
    """
    name = getattr(config, "_attn_implementation", None)
    if not isinstance(name, str):
        raise InvalidConfig(
            f"config._attn_implementation must name an attention implementation, got {name!r}; set it, as to 'sdpa'"
        )
    table = ALL_MASK_ATTENTION_FUNCTIONS if interface is None else interface
    if name not in table:
        name = name.removeprefix("paged|")
    found: MaskFunction | None = table.get(name)
    if found is not None:
        return found
    if _representation_name(name) == "none":
        return _no_mask
    representation = find_representation(name)
    if representation is None:
        raise UnknownName(
            f"{unknown_name(table.kind, name, table)}; "
            f"AttentionMaskInterface.register({name!r}, sdpa_mask) makes boolean masks for it"
        )
    return as_mask_function(representation)


def find_representation(name: str) -> MaskRepresentation | None:
    """Headstock's representation that the attention function of that name takes, or that has the name."""
    found: MaskRepresentation | None = ALL_REPRESENTATIONS.get(_representation_name(name))
    return found


def _representation_name(name: str) -> str:
    attention = ALL_ATTENTION_FUNCTIONS.get(name)
    if attention is None:
        return name
    contract = contract_of(attention)
    declares = contract.declared is not None and contract.declared.mask is not None
    return contract.mask if declares or name not in ALL_REPRESENTATIONS else name


def as_mask_function(representation: MaskRepresentation) -> MaskFunction:
    """One of headstock's representations in the form that `create_*` call."""

    def mask_of(
        batch_size: int,
        q_length: int,
        kv_length: int,
        q_offset: Any = 0,
        kv_offset: int = 0,
        mask_function: Predicate = causal_mask_function,
        attention_mask: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
        **kwargs: Any,
    ) -> Any:
        asked = Asked.of((batch_size, q_length, kv_length, q_offset, kv_offset), mask_function, attention_mask, device)
        prepared = asked.without_idle_padding().prepared
        made = representation(prepared, prepared.geometry, dtype=dtype, device=prepared.device)
        if isinstance(made, CausalOrDense):
            made = made.attention_mask if made.attention_mask is not None else _none_or_dense(asked, prepared, kwargs)
        return made.expand(batch_size, -1, -1, -1) if isinstance(made, Tensor) and made.ndim == 4 else made

    return mask_of


def _none_or_dense(asked: Asked, prepared: PreparedMask, allowed: dict[str, Any]) -> Tensor | None:
    """Nothing, where the caller takes that for what the mask says."""
    causal, full = (bool(allowed.get(f"allow_is_{kind}_skip")) for kind in ("causal", "bidirectional"))
    return None if asked.needs_no_mask(allowed.get("local_size"), causal=causal, full=full) else prepared.dense()


def _no_mask(**_: Any) -> None:
    """For attention functions that declare to need none."""
