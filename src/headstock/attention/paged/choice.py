"""Which function serves a call over pages, and how it is given them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, TypeAlias

import torch

from headstock.attention.blocked import blocked_attention
from headstock.attention.choice import AUTO, Chosen, reasons_against
from headstock.attention.contract import AttentionCore, AttentionFunction, AttentionOutput, contract_of
from headstock.attention.eager import eager_attention
from headstock.attention.paged.by_pages import read_by_pages
from headstock.attention.paged.by_varlen import objections_to_varlen, read_by_varlen
from headstock.attention.paged.call import PagedCall
from headstock.attention.paged.native import read_natively, side_by_side_in_shape
from headstock.attention.paged.whole import read_whole
from headstock.attention.situation import Situation, situation_of
from headstock.attention.varlen import varlen_attention
from headstock.errors import UnsupportedFeature
from headstock.registry import Link

__all__ = ["PAGED_RANKING", "choose_reader"]

Read: TypeAlias = Callable[[Chosen, PagedCall], AttentionOutput]

PAGED_RANKING = ("varlen", "blocked", "eager")
"""The names that `auto` tries first over pages, fastest first."""


class Reader(NamedTuple):
    """How a function reads pages, and the reasons against one call, a phrase each."""

    read: Read
    objections: Callable[[PagedCall], Iterable[str]] = lambda _: ()


def _objections_to_graphs(call: PagedCall) -> Iterator[str]:
    if call.lengths is None:
        yield "reads no pages in compiled code"


_READERS: dict[AttentionCore, Reader] = {
    blocked_attention: Reader(read_by_pages, _objections_to_graphs),
    eager_attention: Reader(read_whole),
    varlen_attention: Reader(read_by_varlen, objections_to_varlen),
}
_NATIVE = Reader(read_natively)
_TABLES = ("block_table", "lengths")


def choose_reader(
    interface: Mapping[str, AttentionFunction],
    implementation: str,
    call: PagedCall,
) -> tuple[Chosen, Read]:
    """The entry, or what `auto` stands for in this call, and how it reads.

    Raises:
        UnknownName: no implementation of that name.
        UnsupportedFeature: it cannot serve the call, or does not read pages.
    """
    situation = situation_of(call.query, *side_by_side_in_shape(call), call.request)
    situation = situation._replace(is_paged=True, is_named=implementation != AUTO, needs_gradient=_is_learned(call))
    rejected: list[str] = []
    for name in _ranked(interface) if implementation == AUTO else (implementation,):
        chosen = Chosen(name, interface[name], contract_of(interface[name]))
        reader = _READERS.get(chosen.contract.core, _NATIVE) if chosen.contract.core else _NATIVE
        reasons = _reasons(chosen, reader, call, situation)
        if not reasons:
            return chosen, reader.read
        rejected.append(f"{name!r}, which {' and '.join(reasons)}")
    raise UnsupportedFeature(
        f"attention function {implementation!r} must do over pages all that the call asks for, got "
        f"{'; '.join(rejected) or 'none that reads them'}; ask for less, choose another implementation ('eager' "
        "honours every feature), or declare(function, limits=Limits(paged=True)) where it takes block_table and lengths"
    )


def _ranked(interface: Mapping[str, AttentionFunction]) -> Iterator[str]:
    """The names that `auto` tries: of the entries of others those that read pages, in the order of the table."""
    for name in PAGED_RANKING:
        if name in interface:
            yield name
    for name in interface.names() if isinstance(interface, Link) else interface:
        if name not in PAGED_RANKING and contract_of(interface[name]).limits.paged:
            yield name


def _is_learned(call: PagedCall) -> bool:
    tensors = (call.query, call.pages.key_pages, call.pages.value_pages)
    return torch.is_grad_enabled() and (call.request.is_learned or any(each.requires_grad for each in tensors))


def _reasons(chosen: Chosen, reader: Reader, call: PagedCall, situation: Situation) -> list[str]:
    reasons = reasons_against(chosen.contract, call.request, situation, masked=call.mask is not None)
    if reasons:
        return reasons
    if reader is _NATIVE and not all(map(chosen.contract.takes, _TABLES)):
        return [f"does not take {' and '.join(_TABLES)}"]
    return [*reader.objections(call)]
