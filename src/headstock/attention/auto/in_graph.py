"""`auto` in code that is being compiled: by structure, so that one graph serves every length."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from torch import Tensor

from headstock.attention.auto.figures import hull_of
from headstock.attention.choice import Chosen, reasons_against
from headstock.attention.contract import AttentionFunction, contract_of
from headstock.attention.request import Request
from headstock.attention.situation import situation_of
from headstock.attention.words import TRANSPORT
from headstock.errors import UnsupportedFeature
from headstock.masks import PreparedMask
from headstock.masks.predicate import Pattern, leaves
from headstock.registry import Link

__all__ = ["choose_in_graph"]

_DENSE: Final = ("sdpa", "eager", "blocked")
_SPARSE: Final = ("blocked", "sdpa", "eager")
_SHORT: Final = 512
"""Keys up to which no blocks pay, where their number is known to the graph."""


def choose_in_graph(
    interface: Mapping[str, AttentionFunction],
    request: Request,
    operands: tuple[Tensor, Tensor, Tensor],
    prepared: PreparedMask | None,
    keywords: Mapping[str, Any],
) -> Chosen:
    """The first that can serve the call: blocks where the mask is a band of bounded width, else torch's kernels.

    No length is looked at that the graph does not know to be constant, and nothing is timed or kept: every look-up is
    a guard of the graph. Entries are asked until one can.

    Raises:
        UnsupportedFeature: no entry can serve the call.
    """
    situation = situation_of(*operands, request)
    rejected = []
    for name in _order(interface, _SPARSE if _is_narrow(prepared) else _DENSE):
        function = interface[name]
        contract = contract_of(function)
        reasons = reasons_against(contract, request, situation, masked=prepared is not None)
        reasons += [
            f"does not know {each}" for each in keywords if each not in contract.named and each not in TRANSPORT
        ]
        if not reasons:
            return Chosen(name, function, contract)
        rejected.append(f"{name!r}, which {' and '.join(reasons)}")
    raise UnsupportedFeature(
        f"attention function 'auto' must find one that does all that the call asks for, got {'; '.join(rejected)}; "
        "ask for less, or name another implementation"
    )


def _order(interface: Mapping[str, AttentionFunction], first: tuple[str, ...]) -> Iterator[str]:
    for name in first:
        if name in interface:
            yield name
    for name in interface.names() if isinstance(interface, Link) else interface:
        if name not in first:
            yield name


def _is_narrow(prepared: PreparedMask | None) -> bool:
    """Whether the mask is built of patterns and surely hides what lies far off the diagonal on both sides."""
    if prepared is None or prepared.given is not None:
        return False
    for leaf in leaves(prepared.mask.predicate):
        if not isinstance(leaf, Pattern):
            return False
    band = hull_of(prepared)
    return band.lower is not None and band.upper is not None and not _is_short(prepared.geometry.kv_length)


def _is_short(length: int) -> bool:
    """Whether a length is known to be small; one that the graph keeps open gets no guard."""
    # Imported here: it brings sympy, which is loaded already where something compiles.
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return bool(statically_known_true(length <= _SHORT))
