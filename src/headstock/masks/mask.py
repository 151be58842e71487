"""`Mask`: a predicate over four indices, with an algebra."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import torch

from headstock.errors import InvalidComponent
from headstock.masks.contract import Predicate, Verdict
from headstock.masks.predicate import Conjunction, Disjunction, Negation, name_of, same_part, hash_of_part, text_of


@final
@dataclass(frozen=True, eq=False, repr=False)
class Mask:
    """What may attend to what: a function `(batch_idx, head_idx, q_idx, kv_idx) -> bool` of absolute indices, True = may attend.

    Its meaning is scalar: what the function says of one quadruple, as under `torch.vmap` (FlexAttention's `mask_mod`). Masks
    combine with `&`, `|` and `~`, print as they are written, and are equal when their structure is (tensors by
    content, functions by identity). A mask never changes.

    Raises:
        InvalidComponent: the predicate is not a function of four indices.

    >>> from headstock.masks import causal, sliding_window
    >>> causal() & ~sliding_window(2)
    causal() & ~sliding_window(size=2)
    >>> Mask(lambda batch_idx, head_idx, q_idx, kv_idx: q_idx == kv_idx)(0, 0, 3, 3)
    True
    """

    predicate: Predicate

    def __post_init__(self) -> None:
        if isinstance(self.predicate, Mask):
            object.__setattr__(self, "predicate", self.predicate.predicate)
        elif not torch.compiler.is_compiling():
            _check_predicate(self.predicate)

    def __call__(self, batch_idx: Any, head_idx: Any, q_idx: Any, kv_idx: Any) -> Verdict:
        """Say whether the query may attend to the key."""
        verdict: Verdict = self.predicate(batch_idx, head_idx, q_idx, kv_idx)
        return verdict

    def __and__(self, other: "Mask") -> "Mask":
        if not isinstance(other, Mask):
            return NotImplemented
        return Mask(Conjunction((*_operands(self, Conjunction), *_operands(other, Conjunction))))

    def __or__(self, other: "Mask") -> "Mask":
        if not isinstance(other, Mask):
            return NotImplemented
        return Mask(Disjunction((*_operands(self, Disjunction), *_operands(other, Disjunction))))

    def __invert__(self) -> "Mask":
        inner = self.predicate
        return Mask(inner.operand if isinstance(inner, Negation) else Negation(inner))

    @property
    def __name__(self) -> str:
        return repr(self)

    def __repr__(self) -> str:
        return text_of(self.predicate)

    def __eq__(self, other: object) -> bool:
        return same_part(self.predicate, other.predicate) if isinstance(other, Mask) else NotImplemented

    def __hash__(self) -> int:
        return hash(("Mask", hash_of_part(self.predicate)))


def leaves(predicate: Predicate) -> Iterator[Predicate]:
    """Every pattern and plain function that a predicate is built of, in order."""
    if isinstance(predicate, Conjunction | Disjunction):
        for operand in predicate.operands:
            yield from leaves(operand)
    elif isinstance(predicate, Negation):
        yield from leaves(predicate.operand)
    else:
        yield predicate


def _operands(mask: Mask, connective: type[Conjunction] | type[Disjunction]) -> tuple[Predicate, ...]:
    inner = mask.predicate
    return inner.operands if isinstance(inner, connective) else (inner,)


def _check_predicate(predicate: object) -> None:
    rule = "must be a function (batch_idx, head_idx, q_idx, kv_idx) -> bool"
    if not callable(predicate):
        raise InvalidComponent(f"a mask's predicate {rule}, got {predicate!r}; a tensor goes to `prepare` as it is")
    try:
        signature = inspect.signature(predicate)
    except ValueError:  # some built-in functions have no signature to read
        return
    try:
        signature.bind(0, 0, 0, 0)
    except TypeError as error:
        raise InvalidComponent(
            f"a mask's predicate {rule}, got {name_of(predicate)}{signature}; take four indices"
        ) from error
