"""How each function reads pages, and what speaks against that in one call."""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple, TypeAlias

from headstock.attention.auto.costs import Cost
from headstock.attention.blocked import blocked_attention
from headstock.attention.choice import Chosen
from headstock.attention.contract import AttentionCore, AttentionOutput
from headstock.attention.eager import eager_attention
from headstock.attention.paged.by_pages import read_by_pages
from headstock.attention.paged.by_varlen import objections_to_varlen, read_by_varlen
from headstock.attention.paged.call import PagedCall
from headstock.attention.paged.native import read_natively
from headstock.attention.paged.whole import read_whole
from headstock.attention.varlen import varlen_attention

__all__ = ["Read", "Reader", "reader_of"]

Read: TypeAlias = Callable[[Chosen, PagedCall], AttentionOutput]


class Reader(NamedTuple):
    """How a function reads pages.

    Attributes:
        read: computes a call.
        told: what becomes of keys and values, in words.
        gathers: which tokens are put side by side first; "unknown" of a function that does not say what it costs.
        objections: the reasons against one call, a phrase each.
        representation: the form in which it is given the mask, where it is not that of calls without pages.
    """

    read: Read
    told: str
    gathers: Literal["all", "seen", "none", "unknown"]
    objections: Callable[[Chosen, PagedCall], Iterable[str]] = lambda _chosen, _call: ()
    representation: str | None = None


def reader_of(chosen: Chosen) -> Reader:
    """How an entry of the table reads pages."""
    core = chosen.contract.core
    found = None if core is None else _READERS.get(core)
    if found is not None:
        return found
    declared = chosen.contract.declared
    return _NATIVE if declared is not None and isinstance(declared.cost, Cost) else _NATIVE_OF_UNKNOWN_COST


def _objections_to_graphs(_chosen: Chosen, call: PagedCall) -> Iterator[str]:
    if call.lengths is None:
        yield "reads no pages in compiled code"


_TABLES = ("block_table", "lengths")


def _objections_to_signature(chosen: Chosen, _call: PagedCall) -> Iterator[str]:
    if not all(map(chosen.contract.takes, _TABLES)):
        yield f"does not take {' and '.join(_TABLES)}"


_READERS: dict[AttentionCore, Reader] = {
    blocked_attention: Reader(
        read_by_pages, "the pages that hold a key which is seen are put side by side", "seen", _objections_to_graphs
    ),
    eager_attention: Reader(read_whole, "all tokens are put side by side", "all"),
    varlen_attention: Reader(
        read_by_varlen, "read where they lie", "none", lambda _chosen, call: objections_to_varlen(call), "window"
    ),
}
_NATIVE = Reader(read_natively, "read where they lie", "none", _objections_to_signature)
_NATIVE_OF_UNKNOWN_COST = _NATIVE._replace(gathers="unknown")
