"""What of boxes is certain from the parts of a mask: a visible pair in one, a hidden pair in one."""

from functools import reduce
from typing import NamedTuple

from jaxtyping import Bool
from torch import Tensor

from headstock.masks.contract import Predicate
from headstock.masks.planning.judge import IndexBoxes, Judge
from headstock.masks.planning.tightness import Tightness
from headstock.masks.planning.truth import Truth
from headstock.masks.predicate import Conjunction, Junction, Negation

__all__ = ["Certainty", "certainty"]


class Certainty(NamedTuple):
    """Of boxes of pairs.

    Attributes:
        verdict: what intervals say.
        seen: whether some pair surely is visible.
        hidden: whether some pair surely is not.
    """

    verdict: Truth
    seen: Bool[Tensor, "..."]
    hidden: Bool[Tensor, "..."]

    def __invert__(self) -> "Certainty":
        return Certainty(~self.verdict, self.hidden, self.seen)

    def __and__(self, other: "Certainty") -> "Certainty":
        # Where one shows all pairs, the other's visible one is seen.
        seen = (self.verdict.sure & other.seen) | (other.verdict.sure & self.seen)
        return Certainty(self.verdict & other.verdict, seen, self.hidden | other.hidden)

    def __or__(self, other: "Certainty") -> "Certainty":
        return ~(~self & ~other)

    def read_by(self, tight: Tightness) -> "Certainty":
        """With what else the verdict says where it leaves no doubt."""
        seen, hidden = self.verdict.sure | self.seen, ~self.verdict.possible | self.hidden
        return Certainty(
            self.verdict,
            self.verdict.possible if tight.possible else seen,
            ~self.verdict.sure if tight.sure else hidden,
        )


def certainty(judge: Judge, predicate: Predicate, indices: IndexBoxes) -> Certainty:
    """What is certain of boxes, each of which holds a pair."""
    if isinstance(predicate, Negation):
        return ~certainty(judge, predicate.operand, indices)
    if isinstance(predicate, Junction) and not judge.is_band(predicate):
        parts = [certainty(judge, each, indices) for each in judge.joined(predicate)]
        found = reduce(Certainty.__and__ if isinstance(predicate, Conjunction) else Certainty.__or__, parts)
    else:
        verdict = judge.verdict(predicate, indices)
        found = Certainty(verdict, verdict.sure, ~verdict.possible)
    return found.read_by(judge.tightness_of(predicate))
