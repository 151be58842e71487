"""`explain`: which implementation a call would run and why not the others, told before anything runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from headstock.attention.auto.explaining import Asked, judged
from headstock.attention.auto.fast_path import Kernels
from headstock.attention.auto.report import lines
from headstock.attention.bias.binding import bias_of
from headstock.attention.bias.contract import BoundBias, ScoreBias
from headstock.attention.bias.evaluation import BiasFunction
from headstock.attention.call import bound_mask, bound_request, is_learned
from headstock.attention.choice import AUTO
from headstock.attention.contract import AttentionFunction
from headstock.attention.mask_size import ROWS, bytes_of, rows_of
from headstock.attention.request import request_of
from headstock.attention.shapes import check_inputs
from headstock.attention.situation import situation_of
from headstock.attention.table import ALL_ATTENTION_FUNCTIONS
from headstock.masks import MaskLike, PreparedMask

__all__ = ["Explanation", "density_of", "explain", "explained"]


@dataclass(frozen=True)
class Explanation:
    """What a call would do.

    Attributes:
        chosen: the name of the implementation.
        rejected: each other name with the reasons against it.
        representation: the form in which the chosen one is given the mask, None where there is no mask.
        density: visible pairs of query and key, as a share of all; 1.0 where there are none.
        bytes: size of the mask in that form (its numbers, expanded); None for a form that is not headstock's own.
        costs: microseconds that the cost model reckons with, for each entry that can serve the call.
        kernels: which fused kernel SDPA will take and why not the others; None where torch's own cannot serve the call.
        notes: what else decides how fast the call is: where the costs come from, settings of the process, what "auto"
            would choose in place of a named one.
        is_named: whether the call names the implementation; it was found by "auto" otherwise.
    """

    chosen: str
    rejected: dict[str, tuple[str, ...]]
    representation: str | None
    density: float
    bytes: int | None
    costs: dict[str, float] = field(default_factory=dict)
    kernels: Kernels | None = None
    notes: tuple[str, ...] = ()
    is_named: bool = False

    @property
    def how(self) -> str:
        """How the implementation was come by, in a word."""
        return "named" if self.is_named else "chosen"

    def __str__(self) -> str:
        size = "of unknown size" if self.bytes is None else f"{self.bytes:,} bytes"
        form = "no mask" if self.representation is None else f"mask as {self.representation}, {size}"
        rows = [(self.chosen, f"{self.how}: {form}, {self.density:.1%} of the pairs visible")]
        rows += [(name, "; ".join(reasons)) for name, reasons in self.rejected.items()]
        told = [] if self.kernels is None else [f"sdpa {self.kernels}"]
        return "\n".join([lines(rows), *told, *self.notes])


def explain(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: MaskLike | None = None,
    implementation: str = AUTO,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    bias: Tensor | ScoreBias | BoundBias | BiasFunction | None = None,
    q_offset: Any = None,
    return_lse: bool = False,
    return_weights: bool = False,
    interface: Mapping[str, AttentionFunction] | None = None,
) -> Explanation:
    """What `attend` with the same arguments would run, and each other implementation with the reasons against it.

    No attention is computed. The shapes are those of `attend`.

    Raises:
        UnknownName, UnsupportedFeature, InvalidShape, InvalidConfig: as `attend` would.

    Example:
        >>> import torch
        >>> from headstock.masks import causal
        >>> query, key, value = torch.randn(3, 1, 2, 5, 8)
        >>> told = explain(query, key, value, mask=causal(), softcap=30.0)
        >>> told.chosen, told.rejected["sdpa"], told.density, told.bytes
        ('eager', ('does not honour softcap',), 0.6, 25)
    """
    added = bias_of(bias)
    check_inputs(query, key, value, sinks, added)
    request = request_of(
        query.shape[3],
        scaling=scaling,
        dropout=dropout,
        softcap=softcap,
        sinks=sinks,
        bias=added,
        log_sum_exp=return_lse,
        weights=return_weights,
        mask_is_learned=is_learned(mask),
    )
    table = ALL_ATTENTION_FUNCTIONS if interface is None else interface
    operands = query, key, value
    prepared = bound_mask(mask, query, key, q_offset)
    bound_request(request, prepared, query, key, q_offset)
    is_kept = isinstance(mask, PreparedMask)
    situation = situation_of(*operands, request)
    return explained(Asked(table, implementation, situation, request, prepared, is_kept, operands))


def explained(asked: Asked) -> Explanation:
    """The explanation of a call of which tensors need not exist.

    Raises:
        UnknownName, UnsupportedFeature: as `attend` would.
    """
    verdict, prepared = judged(asked), asked.prepared
    representation = None if prepared is None else verdict.chosen.contract.mask
    return Explanation(
        verdict.chosen.name,
        verdict.rejected,
        representation,
        density_of(prepared),
        bytes_of(prepared, representation, asked.situation.dtype),
        verdict.costs,
        verdict.kernels,
        verdict.notes,
        asked.implementation != AUTO,
    )


def density_of(prepared: PreparedMask | None) -> float:
    """Visible pairs as a share of all."""
    if prepared is None or 0 in prepared.geometry.shape:
        return 1.0
    if prepared.given is None:
        seen = prepared.seen_keys()
        return int(seen.sum()) / (seen.numel() * prepared.geometry.kv_length)
    rows = prepared.geometry.q_length
    parts = (rows_of(prepared, start) for start in range(0, rows, ROWS))
    return round(sum(part.double().mean().item() * part.shape[2] for part in parts) / rows, 12)
