"""Layers of one forward that ask for the same: what was chosen for the first of them runs for the others too."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from headstock.attention import AttentionFunction
from headstock.attention.call import Call
from headstock.attention.choice import Chosen
from headstock.attention.contract import AttentionCore
from headstock.attention.kernel_call import KernelCall, kernel_call
from headstock.attention.precision import autocasts
from headstock.attention.run import core_arguments, empty_rows, zeroed
from headstock.attention.sdpa import sdpa_attention
from headstock.attention.transformations import is_transformed
from headstock.attention.words import TRANSPORT
from headstock.integrations.transformers.keywords import PASSED_OVER
from headstock.masks.tracing import is_readable
from headstock.registry import CHANGES, Link

__all__ = ["LayerCall", "LayerCalls", "key_of"]

#: What says nothing to headstock's own functions beside a mask of the mask function.
_SILENT = PASSED_OVER | TRANSPORT | {"sliding_window"}
_PLAIN = (bool, int, float, str)


class LayerCall(NamedTuple):
    """A call that was chosen and bound, for the tensors of any layer that asks for the same.

    Attributes:
        core: the function.
        mask: as the function takes it.
        options: its keywords.
        empty: the rows that are zero because they see nothing.
    """

    core: AttentionCore
    mask: Any
    options: dict[str, Any]
    empty: Bool[Tensor, "#batch #heads queries"] | None

    def __call__(
        self,
        query: Float[Tensor, "batch heads queries head_dim"],
        key: Float[Tensor, "batch kv_heads keys head_dim"],
        value: Float[Tensor, "batch kv_heads keys value_dim"],
    ) -> Float[Tensor, "batch heads queries value_dim"]:
        """The output."""
        output = self.core(query, key, value, self.mask, **self.options).output
        if self.empty is not None:
            output = zeroed(output, self.empty)
        return output


Again: TypeAlias = LayerCall | KernelCall


class LayerCalls:
    """What the layers of one forward have called, by `key_of`.

    It is forgotten where an entry of the table has changed since, or another scope over it is seen.
    """

    def __init__(self) -> None:
        self._seen: tuple[object, int, dict[Any, Again]] = (None, 0, {})

    def of(self, interface: Link[AttentionFunction], key: Any) -> Again | None:
        """What was kept under `key`."""
        entries, changes, calls = self._seen
        if entries is not interface.derived() or changes != CHANGES.count:
            return None
        return calls.get(key)

    def keep(self, interface: Link[AttentionFunction], key: Any, chosen: Chosen, call: Call) -> Again | None:
        """Keep a call of headstock's own functions, which read nothing off their module, for its output alone.

        None where it is something else.
        """
        contract = chosen.contract
        if contract.core is None or call.own or call.request.weights:
            return None
        entries, seen = interface.derived(), self._seen
        if seen[0] is not entries or seen[1] != CHANGES.count:  # replaced, since another thread may be at the former
            self._seen = seen = (entries, CHANGES.count, {})
        empty = empty_rows(contract, call)
        if empty is not None and empty.device.type == "cpu" and is_readable(empty) and not empty.any():
            empty = None
        mask, options = core_arguments(contract, call)
        whole = LayerCall(contract.core, mask, options, empty)
        kept: Again = whole
        if _is_kernels_alone(whole):
            kept = kernel_call(call.query, call.key, mask, scaling=options["scaling"], dropout=options["dropout"])
        seen[2][key] = kept
        return kept


def _is_kernels_alone(call: LayerCall) -> bool:
    """Whether `sdpa_attention` does no more for the call than torch's kernel, outside of autocast."""
    if call.core is not sdpa_attention or call.empty is not None:
        return False
    shown = None if call.mask is None else call.mask.attention_mask
    is_plain = call.options["scaling"] > 0.0 and call.options["bias"] is None
    return is_plain and (shown is None or shown.dtype == torch.bool)


def key_of(
    implementation: str,
    operands: tuple[Tensor, Tensor, Tensor],
    numbers: Mapping[str, float | None],
    keywords: Mapping[str, Any],
) -> tuple[Any, ...] | None:
    """All that decides what a layer runs, beside its mask and the table; None where more does, which is looked at anew.

    `operands` are query, key and value, `numbers` scaling and dropout.
    """
    query, key, value = operands
    if torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad):
        return None
    if torch.compiler.is_compiling() or is_transformed() or autocasts(query.device):
        return None
    said = []
    for name, given in keywords.items():
        if given is not None and name not in _SILENT:
            if not isinstance(given, _PLAIN):
                return None
            said.append((name, given))
    sizes = query.shape, key.shape, value.shape
    kinds = query.dtype, key.dtype, value.dtype, query.device, key.device, value.device
    return implementation, sizes, kinds, *numbers.values(), *said
