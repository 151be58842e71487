"""`explain_paged`: which implementation a call over pages would run and why not the others."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from headstock.attention.auto.explaining import instead_of, reasons_of_others
from headstock.attention.auto.profiles import profile_of
from headstock.attention.bias.contract import BoundBias, ScoreBias
from headstock.attention.bias.evaluation import BiasFunction
from headstock.attention.choice import AUTO
from headstock.attention.contract import AttentionFunction
from headstock.attention.explain import Explanation, density_of
from headstock.attention.mask_size import bytes_of
from headstock.attention.paged.asking import asked_call
from headstock.attention.paged.call import PagedCall
from headstock.attention.paged.choice import choose_reader, judged_over_pages, situation_over_pages
from headstock.attention.paged.contract import Pages
from headstock.attention.paged.readers import Reader, reader_of
from headstock.attention.paged.whole import mask_of_whole
from headstock.attention.table import ALL_ATTENTION_FUNCTIONS
from headstock.errors import UnsupportedFeature
from headstock.masks import MaskLike, PreparedMask

__all__ = ["explain_paged"]


def explain_paged(
    query: Float[Tensor, "batch heads queries head_dim"],
    pages: Pages,
    *,
    mask: MaskLike | None = None,
    implementation: str = AUTO,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    sinks: Float[Tensor, " heads"] | None = None,
    bias: Float[Tensor, "..."] | ScoreBias | BoundBias | BiasFunction | None = None,
    return_lse: bool = False,
    return_weights: bool = False,
    interface: Mapping[str, AttentionFunction] | None = None,
) -> Explanation:
    """What `attend_paged` with the same arguments would run, and each other implementation with the reasons against it.

    No attention is computed and no page is read. Pairs count up to the longest row: what a row does not have is not
    visible. The bytes are those of the mask; None where it is made piece by piece.

    Raises:
        UnknownName, UnsupportedFeature, InvalidShape, InvalidConfig, InvalidComponent: as `attend_paged` would.
        UnsupportedFeature: the lengths cannot be read, as in compiled code and on the meta device.

    Example:
        >>> import torch
        >>> from headstock.caches import PagedKeyValues, PagePool
        >>> paged = PagedKeyValues.empty(PagePool.empty(pages=8, page_size=4, kv_heads=2, head_dim=16), batch=2)
        >>> paged.append(*torch.randn(2, 2, 2, 5, 16), counts=[5, 2])
        >>> told = explain_paged(torch.randn(2, 4, 1, 16), paged, softcap=30.0)
        >>> told.chosen, told.density, told.rejected["sdpa"]
        ('eager', 0.7, ('does not honour softcap', 'does not read pages'))
    """
    call = asked_call(
        query,
        pages,
        mask,
        scaling=scaling,
        dropout=dropout,
        softcap=softcap,
        sinks=sinks,
        bias=bias,
        log_sum_exp=return_lse,
        weights=return_weights,
    )
    if call.lengths is None:
        raise UnsupportedFeature(
            "explain_paged must be asked where the lengths of the rows can be read, got lengths on "
            f"{pages.lengths.device} that cannot be; ask outside of compiled code, about pages with values"
        )
    return _explained(ALL_ATTENTION_FUNCTIONS if interface is None else interface, implementation, call)


def _explained(interface: Mapping[str, AttentionFunction], name: str, call: PagedCall) -> Explanation:
    chosen, _ = choose_reader(interface, name, call)
    named, situation = None if name == AUTO else chosen, situation_over_pages(call, is_named=False)
    able, rejected = judged_over_pages(interface, call, situation)
    reader, prepared = reader_of(chosen), _mask_of(call)
    form = None if prepared is None else reader.representation or chosen.contract.mask
    return Explanation(
        chosen.name,
        reasons_of_others(chosen, named, able, rejected, situation),
        form,
        density_of(prepared),
        _bytes(prepared, form, reader, call),
        {each.chosen.name: each.cost for each in able},
        notes=(
            f"keys and values: {reader.told}",
            *instead_of(named, able),
            f"costs: {profile_of(situation.device.type).source}",
        ),
        is_named=named is not None,
    )


def _mask_of(call: PagedCall) -> PreparedMask | None:
    """What is visible of the longest row's keys; None where all is."""
    keep = torch.arange(call.longest, device=call.pages.lengths.device) < call.pages.lengths[:, None]
    return mask_of_whole(call, keep)


def _bytes(prepared: PreparedMask | None, form: str | None, reader: Reader, call: PagedCall) -> int | None:
    if prepared is None or form == "window":
        return 0
    return None if reader.gathers == "seen" else bytes_of(prepared, form, call.query.dtype)
