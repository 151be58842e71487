"""`dynamic_rope_update`: a module that reads its frequencies from a buffer finds those of the running length there."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from headstock.errors import InvalidComponent
from headstock.registry import declare
from headstock.rope.contract import canonical
from headstock.rope.variant import Variant, ask, known_variant

__all__ = ["dynamic_rope_update"]

F = TypeVar("F", bound=Callable[..., Any])


def dynamic_rope_update(rope_forward: F) -> F:
    """Decorate a rotary module's forward so that it finds the frequencies of its positions in its buffer.

    It serves modules written for transformers: a forward `(self, x, position_ids, layer_type=None)` that reads
    `inv_freq` and `attention_scaling`, and `rope_type` and `config` beside them. With a `layer_type`, `rope_type` is a
    mapping, and the names of the others begin with it: `sliding_attention_inv_freq`.

    Before the forward runs, the buffer holds what the variant of the table gives for the largest position and one, and
    `attention_scaling` its factor: both follow from the length alone, whatever the calls before. The buffer is written
    in place, so that a CUDA graph finds it. Frequencies that no length changes are left as the module made them. A
    buffer that a model's change of dtype has rounded is replaced once by one in float32.

    The module is written to, so no two threads may run one module at a time; `RotaryEmbedding` writes nothing.

    Raises:
        InvalidComponent: the module lacks an attribute, or has no frequencies for the `layer_type`.
        InvalidConfig: its configuration states no valid parameters.

    Example:
        >>> class Rotary(nn.Module):
        ...     def __init__(self, config):
        ...         super().__init__()
        ...         self.config, self.rope_type, self.attention_scaling = config, "dynamic", 1.0
        ...         self.register_buffer("inv_freq", torch.empty(2), persistent=False)
        ...     @dynamic_rope_update
        ...     def forward(self, x, position_ids):
        ...         return position_ids[..., None] * self.inv_freq
        >>> inside = {"rope_type": "dynamic", "factor": 2.0}
        >>> rotary = Rotary({"head_dim": 4, "max_position_embeddings": 8, "rope_parameters": inside})
        >>> rotary(torch.empty(0), torch.tensor([[3]])), rotary(torch.empty(0), torch.tensor([[15]]))
        (tensor([[[3.0000, 0.0300]]]), tensor([[[15.0000,  0.0500]]]))
    """

    @functools.wraps(rope_forward)
    def updated(self: nn.Module, x: Tensor, position_ids: Tensor, layer_type: str | None = None) -> Any:
        source = ask(self, _source, layer_type)
        if source is not None and position_ids.numel() > 0:
            _write(self, "" if layer_type is None else f"{layer_type}_", source, position_ids)
        if layer_type is None:
            return rope_forward(self, x, position_ids)
        return rope_forward(self, x, position_ids, layer_type=layer_type)

    return updated  # type: ignore[return-value]


declare(dynamic_rope_update, kind="decorator")


@dataclass(frozen=True)
class _Source:
    """Where frequencies come from that are to be written; without a variant from the module's own originals."""

    variant: Variant | None
    attention_scaling: Any = None


# The own factor of each module, by kind of layer, whose constant frequencies an entry or scope has replaced.
_REPLACED: "WeakKeyDictionary[nn.Module, dict[str | None, Any]]" = WeakKeyDictionary()


def _source(module: nn.Module, layer_type: str | None) -> _Source | None:
    """What is to be written before the module's forward runs; None where its buffer is right as it is."""
    from headstock.rope.table import ROPE_INIT_FUNCTIONS, ROPE_VARIANTS

    name = canonical(_rope_type(module, layer_type), ROPE_INIT_FUNCTIONS)
    function = ROPE_INIT_FUNCTIONS[name]
    variant = known_variant(module, function, module.config, layer_type, ROPE_INIT_FUNCTIONS)
    replaced = _REPLACED.get(module, {})
    is_shared = ROPE_VARIANTS._flat.get(name) is function  # what is registered, behind scopes and local entries
    if is_shared and not variant.depends_on_length:
        return _Source(None, replaced[layer_type]) if layer_type in replaced else None
    _check_attributes(module, layer_type)
    if not is_shared and layer_type not in replaced:
        _REPLACED.setdefault(module, {})[layer_type] = getattr(module, _named("attention_scaling", layer_type))
    return _Source(variant)


def _rope_type(module: nn.Module, layer_type: str | None) -> Any:
    if not hasattr(module, "rope_type") or not hasattr(module, "config"):
        _check_attributes(module, layer_type)
    stated: Any = module.rope_type
    if layer_type is None and not isinstance(stated, Mapping):
        return stated
    found = stated.get(layer_type) if isinstance(stated, Mapping) else None
    if found is None:
        raise InvalidComponent(
            f"the rope_type of {type(module).__name__} must name a variant for layer type {layer_type!r}, got "
            f"{stated!r}; give a layer_type that it has"
        )
    return found


def _check_attributes(module: nn.Module, layer_type: str | None) -> None:
    needed = ["config", "rope_type", *(_named(each, layer_type) for each in ("attention_scaling", "inv_freq"))]
    missing = [each for each in needed if not hasattr(module, each)]
    if missing:
        raise InvalidComponent(
            f"{type(module).__name__} must have {', '.join(needed)} for dynamic_rope_update, got none of "
            f"{', '.join(missing)}; set them in its constructor"
        )


def _named(attribute: str, layer_type: str | None) -> str:
    return attribute if layer_type is None else f"{layer_type}_{attribute}"


def _write(module: nn.Module, prefix: str, source: _Source, position_ids: Tensor) -> None:
    buffer: Tensor = getattr(module, f"{prefix}inv_freq")
    with torch.no_grad():
        if source.variant is None:
            inv_freq, factor = getattr(module, f"{prefix}original_inv_freq"), source.attention_scaling
        else:
            # A tensor, so that nothing waits for its value and no graph depends on it.
            length = position_ids.max().to(torch.int64) + 1
            inv_freq, factor = source.variant.parameters.frequencies(length, position_ids.device)
        if buffer.dtype.itemsize < inv_freq.dtype.itemsize:
            setattr(module, f"{prefix}inv_freq", inv_freq.to(device=buffer.device, copy=True))
        else:
            buffer.copy_(inv_freq)
    setattr(module, f"{prefix}attention_scaling", factor)
