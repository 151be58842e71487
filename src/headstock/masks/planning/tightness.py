"""Which predicates intervals say everything of, by structure: their blocks need no second look."""

from collections.abc import Callable
from typing import NamedTuple

from headstock.masks.contract import Predicate
from headstock.masks.predicate import Band, Conjunction, Judging, Junction, Negation, Pattern
from headstock.masks.structure import band_of

__all__ = ["Tightness", "tightness"]

_Form = Callable[[Pattern], Judging]


class Tightness(NamedTuple):
    """What verdicts on boxes leave no doubt about.

    Attributes:
        possible: whether a box that is called possible holds a visible pair.
        sure: whether a box that is not called sure holds a hidden pair.
    """

    possible: bool
    sure: bool


def tightness(predicate: Predicate, form_of: _Form) -> Tightness:
    """Of the verdicts on any box, read from the structure of what gives them."""
    if band_of(predicate) is not None:
        return Tightness(True, True)
    if isinstance(predicate, Negation):
        possible, sure = tightness(predicate.operand, form_of)
        return Tightness(possible=sure, sure=possible)
    if isinstance(predicate, Junction):
        of_operands = [tightness(each, form_of) for each in predicate.operands]
        if isinstance(predicate, Conjunction):
            # A box is full where it is for each operand; what it holds is each operand's, but at other pairs perhaps.
            return Tightness(_joins_tightly(predicate, form_of), all(each.sure for each in of_operands))
        return Tightness(all(each.possible for each in of_operands), False)
    tight = isinstance(predicate, Pattern) and form_of(predicate).judges_tightly
    return Tightness(tight, tight)


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
