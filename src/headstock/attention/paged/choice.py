"""Which function serves a call over pages, and how it is given them."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from headstock.attention.blocked import blocked_attention
from headstock.attention.choice import AUTO, Chosen, reasons_against
from headstock.attention.contract import AttentionCore, AttentionFunction, AttentionOutput, contract_of
from headstock.attention.eager import eager_attention
from headstock.attention.paged.by_pages import read_by_pages
from headstock.attention.paged.call import PagedCall
from headstock.attention.paged.native import read_natively
from headstock.attention.paged.whole import read_whole
from headstock.attention.request import Request
from headstock.attention.situation import Situation, situation_of
from headstock.errors import UnsupportedFeature

__all__ = ["PAGED_RANKING", "choose_reader"]

Read: TypeAlias = Callable[[Chosen, PagedCall], AttentionOutput]

PAGED_RANKING = ("varlen", "blocked", "eager")
"""The names that `auto` tries over pages, fastest first."""


class Reader(NamedTuple):
    """How a function reads pages, and whether that works in compiled code."""

    read: Read
    in_graphs: bool = True


_READERS: dict[AttentionCore, Reader] = {
    blocked_attention: Reader(read_by_pages, in_graphs=False),
    eager_attention: Reader(read_whole),
}
_NATIVE = Reader(read_natively)
_TABLES = ("block_table", "lengths")


def choose_reader(
    interface: Mapping[str, AttentionFunction],
    implementation: str,
    request: Request,
    operands: tuple[Tensor, Tensor, Tensor],
    *,
    masked: bool,
) -> tuple[Chosen, Read]:
    """The entry, or what `auto` stands for in this call, and how it reads.

    `operands` are query, key and value, the latter two of the shapes that they would have side by side.

    Raises:
        UnknownName: no implementation of that name.
        UnsupportedFeature: it cannot serve the call, or does not read pages.
    """
    situation = situation_of(*operands)._replace(is_paged=True)
    rejected: list[str] = []
    for name in PAGED_RANKING if implementation == AUTO else (implementation,):
        if implementation == AUTO and name not in interface:
            continue
        chosen = Chosen(name, interface[name], contract_of(interface[name]))
        reader = _READERS.get(chosen.contract.core, _NATIVE) if chosen.contract.core else _NATIVE
        reasons = _reasons(chosen, reader, request, situation, masked=masked)
        if not reasons:
            return chosen, reader.read
        rejected.append(f"{name!r}, which {' and '.join(reasons)}")
    raise UnsupportedFeature(
        f"attention function {implementation!r} must do over pages all that the call asks for, got "
        f"{'; '.join(rejected)}; ask for less, choose another implementation ('eager' honours every feature), or "
        "declare(function, limits=Limits(paged=True)) where it takes block_table and lengths"
    )


def _reasons(chosen: Chosen, reader: Reader, request: Request, situation: Situation, *, masked: bool) -> list[str]:
    reasons = reasons_against(chosen.contract, request, situation, masked=masked)
    if reasons:
        return reasons
    if not reader.in_graphs and torch.compiler.is_compiling():
        return ["reads no pages in compiled code"]
    if reader is _NATIVE and not all(map(chosen.contract.takes, _TABLES)):
        return [f"does not take {' and '.join(_TABLES)}"]
    return []
