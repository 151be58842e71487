"""`Mask`: a predicate of four indices, with an algebra."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import torch

from headstock.errors import InvalidComponent
from headstock.masks.contract import Index, MaskPattern, Predicate, Verdict
from headstock.masks.node import Node, hash_of, name_of, same, text_of
from headstock.masks.predicate import Conjunction, Disjunction, Junction, Negation


@final
@dataclass(frozen=True, eq=False, repr=False)
class Mask:
    """What may attend to what: a function `(batch_idx, head_idx, q_idx, kv_idx) -> bool` of absolute indices.

    True = the query may attend to the key. The meaning is scalar: what the function says of one quadruple, as under
    `torch.vmap` (FlexAttention's `mask_mod`). Masks combine with `&`, `|` and `~`, print as they are written, and are
    equal where their structure is, tensors by content and functions by identity. A mask never changes.

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
        elif not isinstance(self.predicate, Node) and not torch.compiler.is_compiling():
            _check_predicate(self.predicate)

    def __call__(self, batch_idx: Index, head_idx: Index, q_idx: Index, kv_idx: Index) -> Verdict:
        """Say whether the query may attend to the key."""
        return self.predicate(batch_idx, head_idx, q_idx, kv_idx)

    def __and__(self, other: object) -> "Mask":
        return _joined(self, other, Conjunction) if isinstance(other, Mask) else NotImplemented

    def __or__(self, other: object) -> "Mask":
        return _joined(self, other, Disjunction) if isinstance(other, Mask) else NotImplemented

    def __invert__(self) -> "Mask":
        return self.complement()

    def complement(self) -> "Mask":
        """The mask that shows what this one hides: `~mask`, in words that `torch.compile` can trace.

        Dynamo (torch 2.13) cannot trace `~` on any object of a class written in Python. It is needed only where the
        mask is put together inside a compiled function.

        >>> from headstock.masks import causal
        >>> causal().complement() == ~causal()
        True
        """
        inner = self.predicate
        return Mask(inner.operand if isinstance(inner, Negation) else Negation(inner))

    @classmethod
    def parse(
        cls,
        text: str,
        values: Mapping[str, object] | None = None,
        *,
        patterns: Mapping[str, MaskPattern] | None = None,
    ) -> "Mask":
        """The mask that a text says: patterns with their arguments, joined by `&`, then `|`, and turned by `~`.

        Nothing in the text is evaluated. Arguments are integers, lists of them, and the names of `values`, by which
        tensors come in; a value that is a mask stands where a pattern may.

        Raises:
            InvalidConfig: the text is none of this, or a pattern refuses its arguments.
            UnknownName: `patterns` (None: the shared `ALL_MASK_PATTERNS`) has no such name.
            UnsupportedFeature: while compiling.

        >>> Mask.parse("causal & (sliding_window(512) | first_tokens(4))")
        causal() & (sliding_window(size=512) | first_tokens(count=4))
        >>> Mask.parse("causal & padding(keep)", {"keep": torch.ones(2, 5, dtype=torch.bool)})
        causal() & padding(keep=bool[2, 5])
        """
        from headstock.masks.table import ALL_MASK_PATTERNS
        from headstock.masks.text import parse_mask

        return parse_mask(text, ALL_MASK_PATTERNS if patterns is None else patterns, values)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, patterns: Mapping[str, MaskPattern] | None = None) -> "Mask":
        """The mask that `to_dict` wrote.

        Raises:
            InvalidConfig: the data are of no form that `to_dict` writes, or a pattern refuses its arguments.
            UnknownName: `patterns` (None: the shared `ALL_MASK_PATTERNS`) has no such name.
        """
        from headstock.masks.data import mask_from_data
        from headstock.masks.table import ALL_MASK_PATTERNS

        return mask_from_data(data, ALL_MASK_PATTERNS if patterns is None else patterns)

    def to_dict(self) -> dict[str, Any]:
        """The mask as nested dictionaries of JSON's types, tensors as lists.

        Raises:
            UnsupportedFeature: it holds a plain function, which has no name to be found again by.

        >>> from headstock.masks import causal, sliding_window
        >>> (causal() & ~sliding_window(4)).to_dict()
        {'and': [{'pattern': 'causal'}, {'not': {'pattern': 'sliding_window', 'size': 4}}]}
        """
        from headstock.masks.data import mask_to_data

        return mask_to_data(self)

    @property
    def __name__(self) -> str:
        return repr(self)

    def __repr__(self) -> str:
        return text_of(self.predicate)

    def __eq__(self, other: object) -> bool:
        return same(self.predicate, other.predicate) if isinstance(other, Mask) else NotImplemented

    def __hash__(self) -> int:
        return hash(("Mask", hash_of(self.predicate)))


def _joined(left: Mask, right: Mask, junction: type[Junction]) -> Mask:
    return Mask(junction((*_operands(left, junction), *_operands(right, junction))))


def _operands(mask: Mask, junction: type[Junction]) -> tuple[Predicate, ...]:
    # Both connectives are associative, and nested ones of a kind are one.
    return mask.predicate.operands if isinstance(mask.predicate, junction) else (mask.predicate,)


def _check_predicate(predicate: object) -> None:
    rule = "a mask's predicate must be a function (batch_idx, head_idx, q_idx, kv_idx) -> bool"
    if not callable(predicate):
        raise InvalidComponent(f"{rule}, got {predicate!r}; pass a tensor to `prepare` as it is")
    try:
        signature = inspect.signature(predicate)
    except ValueError:  # some built-in functions have no signature to read
        return
    try:
        signature.bind(0, 0, 0, 0)
    except TypeError as error:
        raise InvalidComponent(f"{rule}, got {name_of(predicate)}{signature}; take the four indices") from error
