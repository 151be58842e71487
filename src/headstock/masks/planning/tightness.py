"""Which predicates intervals say everything of, by structure: their blocks need no second look."""

from collections.abc import Callable

from headstock.masks.contract import Predicate
from headstock.masks.predicate import Band, Conjunction, Judging, Negation, Pattern
from headstock.masks.structure import band_of

__all__ = ["is_tight"]

_Form = Callable[[Pattern], Judging]


def is_tight(predicate: Predicate, form_of: _Form) -> bool:
    """Whether a box that is called possible holds a visible pair, and one that is not called sure a hidden one."""
    if band_of(predicate) is not None:
        return True
    if isinstance(predicate, Negation):
        return is_tight(predicate.operand, form_of)
    if isinstance(predicate, Conjunction):
        return _joins_tightly(predicate, form_of)
    return isinstance(predicate, Pattern) and form_of(predicate).judges_tightly


def _joins_tightly(conjunction: Conjunction, form_of: _Form) -> bool:
    """Whether it holds a visible pair where each operand does; what all show is known where each is."""
    bands = [band for band in map(band_of, conjunction.operands) if band is not None]
    rest = [form_of(each) for each in conjunction.operands if band_of(each) is None and isinstance(each, Pattern)]
    if len(bands) + len(rest) < len(conjunction.operands) or not all(each.judges_tightly for each in rest):
        return False
    # The two nearest of two ranges that do not meet are visible if any pair is, and ranges that meet share an index.
    if all(each.is_connected for each in rest) and all(_holds_zero(each) for each in bands):
        return True
    return len(rest) == 1 and all(_covers(each, rest[0].hull()) for each in bands)


def _holds_zero(band: Band) -> bool:
    return (band.lower is None or band.lower <= 0) and (band.upper is None or band.upper >= 0)


def _covers(band: Band, hull: Band) -> bool:
    lower = band.lower is None or (hull.lower is not None and band.lower <= hull.lower)
    return lower and (band.upper is None or (hull.upper is not None and band.upper >= hull.upper))
