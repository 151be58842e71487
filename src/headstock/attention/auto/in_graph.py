"""`auto` in code that is being compiled: by structure, so that one graph serves every length."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from torch import Tensor

from headstock.attention.auto.costs import Cost
from headstock.attention.auto.defaults import CPU
from headstock.attention.auto.figures import ALL, BLOCK, Figures, hull_of, roughly
from headstock.attention.auto.model import microseconds
from headstock.attention.auto.profiles import default_profile
from headstock.attention.auto.ranking import BUILT_IN
from headstock.attention.choice import Chosen, reasons_against
from headstock.attention.contract import AttentionFunction, contract_of
from headstock.attention.request import Request
from headstock.attention.situation import Situation, situation_of
from headstock.attention.words import TRANSPORT
from headstock.errors import UnsupportedFeature
from headstock.masks import PreparedMask
from headstock.masks.predicate import Pattern, leaves
from headstock.registry import Link

__all__ = ["cheapest", "choose_in_graph", "names_from", "price_in_graph", "with_known_lengths"]

_DENSE: Final = ("sdpa", "eager", "blocked")
_SPARSE: Final = ("blocked", "sdpa", "eager")
_SHORT: Final = 512
"""Keys up to which no blocks pay, where their number is known to the graph."""
_OPEN: Final = 2048
"""What a length counts as that the graph keeps open, where costs are compared."""
_ON_ONE_THREAD: Final = replace(CPU, threads=False)  # their number is no constant of a graph


def choose_in_graph(
    interface: Mapping[str, AttentionFunction],
    request: Request,
    operands: tuple[Tensor, Tensor, Tensor],
    prepared: PreparedMask | None,
    keywords: Mapping[str, Any],
) -> Chosen:
    """The first that can serve the call: blocks where the mask is a band of bounded width, else torch's kernels.

    No length is looked at that the graph does not know to be constant, and nothing is timed or kept: every look-up is
    a guard of the graph. Entries are asked until one can; one that declares a lower cost than this one has is taken in
    its place.

    Raises:
        UnsupportedFeature: no entry can serve the call.
    """
    situation = situation_of(*operands, request)
    masked = prepared is not None

    def objections(entry: Chosen) -> list[str]:
        contract = entry.contract
        unknown = [f"does not know {each}" for each in keywords if each not in contract.named and each not in TRANSPORT]
        return reasons_against(contract, request, situation, masked=masked) + unknown

    def price(entry: Chosen) -> float:
        known = with_known_lengths(situation)
        return price_in_graph(entry, known, request, _figures(prepared, known))

    rejected = []
    for name in names_from(interface, _SPARSE if _is_narrow(prepared) else _DENSE):
        entry = Chosen(name, interface[name], contract_of(interface[name]))
        reasons = objections(entry)
        if not reasons:
            return cheapest(entry, interface, objections, price)
        rejected.append(f"{name!r}, which {' and '.join(reasons)}")
    raise UnsupportedFeature(
        f"attention function 'auto' must find one that does all that the call asks for, got {'; '.join(rejected)}; "
        "ask for less, or name another implementation"
    )


def cheapest(
    usual: Chosen,
    interface: Mapping[str, AttentionFunction],
    objections: Callable[[Chosen], list[str]],
    price: Callable[[Chosen], float],
) -> Chosen:
    """What structure chose, or the cheapest of those that declare to cost less and can serve the call.

    Where nobody declares a cost, nothing is priced. What stands under a name of headstock's own took its place.
    """
    best, least = usual, -1.0
    for name in names_from(interface, ()):
        if name in BUILT_IN:
            continue
        entry = Chosen(name, interface[name], contract_of(interface[name]))
        declared = entry.contract.declared
        if name == usual.name or declared is None or not isinstance(declared.cost, Cost) or objections(entry):
            continue
        least = price(usual) if least < 0.0 else least
        cost = price(entry)
        if cost < least:
            best, least = entry, cost
    return best


def price_in_graph(entry: Chosen, situation: Situation, request: Request, figures: Figures) -> float:
    """Microseconds by the declared cost, or by headstock's own figures."""
    on_cpu = situation.device.type == "cpu"
    profile = _ON_ONE_THREAD if on_cpu else default_profile(situation.device.type)
    return microseconds(profile, entry.name, entry.contract, situation, request, figures)


def with_known_lengths(situation: Situation) -> Situation:
    """The call at lengths that make no guard: those that the graph keeps open count as `_OPEN`, such a batch as 1."""
    # Imported here: it brings sympy, which is loaded already where something compiles.
    from torch.fx.experimental.symbolic_shapes import has_static_value

    return situation._replace(
        batch=situation.batch if has_static_value(situation.batch) else 1,
        queries=situation.queries if has_static_value(situation.queries) else _OPEN,
        keys=situation.keys if has_static_value(situation.keys) else _OPEN,
    )


def _figures(prepared: PreparedMask | None, situation: Situation) -> Figures:
    """The mask by its structure: a triangle, a band, or anything."""
    if prepared is None:
        return ALL
    known = prepared.without_tensor()
    if known is not None:
        return Figures("causal", 0.5) if known.is_causal else ALL
    rough, band = roughly(prepared, is_kept=True), hull_of(prepared)
    if band.lower is None or band.upper is None:
        return rough
    return rough._replace(share=min(1.0, (band.upper - band.lower + BLOCK) / max(situation.keys, 1)))


def names_from(interface: Mapping[str, AttentionFunction], first: tuple[str, ...]) -> Iterator[str]:
    """The names of `first` that the table has, then the others in its order; plug-ins that are not loaded stay so."""
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
