"""Sums of indices: which difference a comparison bounds."""

from typing import Any, NamedTuple

from torch import Tensor

from headstock.integrations.transformers.reading.terms import BATCH, KEY, QUERY, Term, same_term
from headstock.masks.predicate import Band

__all__ = ["Bound", "bound_of", "integer"]


class Bound(NamedTuple):
    """What a comparison says: the distance from query to key lies in `band`, counted in indices or in `positions`."""

    band: Band
    positions: Tensor | None


class _Sum(NamedTuple):
    """`number` and each of `atoms` times its factor."""

    atoms: list[tuple[Term, int]]
    number: int


def integer(value: Any) -> bool:
    """Whether it is a number of which a pattern can be made."""
    return isinstance(value, int) and not isinstance(value, bool)


def bound_of(comparison: Term) -> Bound | None:
    """The bound that `left <= right` or `left == right` sets; None where it is about something else."""
    left, right = comparison.parts
    if comparison.op == "le" and isinstance(left, Term) and left.op == "abs" and integer(right):
        return _within(left.parts[0], right)
    difference = _sum(Term("sub", left, right))
    if difference is None:
        return None
    if not difference.atoms and comparison.op == "le":
        return Bound(Band(None, None) if difference.number <= 0 else Band(1, 0), None)
    return _of_difference(difference, equal=comparison.op == "eq")


def _within(term: Any, most: int) -> Bound | None:
    difference = _sum(term)
    bound = None if difference is None else _of_difference(difference, equal=True)
    if bound is None or bound.band.lower is None or bound.band.upper is None:
        return None
    # |j - i - shift| <= most, where the two bounds are the shift
    return Bound(Band(bound.band.lower - most, bound.band.upper + most), bound.positions)


def _of_difference(difference: _Sum, *, equal: bool) -> Bound | None:
    """The band where `difference` is at most 0, or is 0."""
    if len(difference.atoms) == 1 and not equal:
        return _never_negative(difference)
    if len(difference.atoms) != 2:
        return None
    (first, factor), (second, other) = difference.atoms
    if factor != -other or abs(factor) != 1:
        return None
    places = _places(first, second)
    if places is None:
        return None
    key_first, positions = places
    sign = factor if key_first else other  # the factor of the key
    # The key less the query, times the factor of the key, is at most -number.
    bound = -sign * difference.number
    if equal:
        return Bound(Band(bound, bound), positions)
    return Bound(Band(None, bound) if sign > 0 else Band(bound, None), positions)


def _never_negative(difference: _Sum) -> Bound | None:
    """`number - index <= 0` with a number of at most 0: every index is at least that."""
    (atom, factor), number = difference.atoms[0], difference.number
    if atom.op == "index" and factor == -1 and number <= 0:
        return Bound(Band(None, None), None)
    return None


def _places(first: Term, second: Term) -> tuple[bool, Tensor | None] | None:
    """Whether the key comes first, and the table of positions in which both are looked up, if they are."""
    if first.op == second.op == "index":
        names = (first.parts[0], second.parts[0])
        if names == ("key", "query"):
            return True, None
        return (False, None) if names == ("query", "key") else None
    if first.op != "read" or second.op != "read" or len(first.parts) != 3 or len(second.parts) != 3:
        return None
    (table, row, place), (other, other_row, other_place) = first.parts, second.parts
    if table is not other or not same_term(row, BATCH) or not same_term(other_row, BATCH):
        return None
    if same_term(place, KEY) and same_term(other_place, QUERY):
        return True, table
    return (False, table) if same_term(place, QUERY) and same_term(other_place, KEY) else None


def _sum(term: Any) -> _Sum | None:
    if integer(term):
        return _Sum([], term)
    if not isinstance(term, Term):
        return None
    if term.op in {"index", "read"}:
        return _Sum([(term, 1)], 0)
    if term.op not in {"add", "sub"}:
        return None
    left, right = _sum(term.parts[0]), _sum(term.parts[1])
    if left is None or right is None:
        return None
    sign = 1 if term.op == "add" else -1
    atoms = list(left.atoms)
    for atom, factor in right.atoms:
        atoms = _added(atoms, atom, sign * factor)
    return _Sum(atoms, left.number + sign * right.number)


def _added(atoms: list[tuple[Term, int]], atom: Term, factor: int) -> list[tuple[Term, int]]:
    found = [(each, held + factor if same_term(each, atom) else held) for each, held in atoms]
    if not any(same_term(each, atom) for each, _ in atoms):
        found.append((atom, factor))
    return [(each, held) for each, held in found if held]
