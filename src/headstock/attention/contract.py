"""What an attention function is, the keywords that reach one, and what a function says or shows that it can do."""

import contextlib
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from headstock.attention.limits import UNLIMITED, Limits
from headstock.attention.words import POSITIONAL, SPELLINGS
from headstock.errors import InvalidComponent, UnsupportedFeature
from headstock.registry import Declaration, declaration_of

__all__ = [
    "CORES",
    "AttentionCore",
    "AttentionFunction",
    "AttentionOutput",
    "Contract",
    "contract_of",
    "further_parameters",
    "signature_of",
]

#: What the table holds: `(module, query, key, value, attention_mask, **keywords) -> (output, weights or None)`, the
#: signature of transformers, so that a function written for it registers unchanged. query [batch, heads, queries,
#: head_dim]; key, value [batch, kv_heads, keys, head_dim]; output [batch, queries, heads, head_dim]; weights [batch,
#: heads, queries, keys]. The ellipsis, since every function names the keywords that it takes.
AttentionFunction: TypeAlias = Callable[..., tuple[Tensor, Tensor | None]]


class AttentionOutput(NamedTuple):
    """What attention computes.

    Attributes:
        output: the weighted values, in the dtype of the query (under autocast: in autocast's).
        log_sum_exp: the natural logarithm of the softmax's denominator, sinks included; -inf for a row that sees
            nothing. None where the implementation does not give it.
        weights: the weights that multiplied the values (after dropout); None where the implementation does not give
            them.
    """

    output: Float[Tensor, "batch heads queries value_dim"]
    log_sum_exp: Float[Tensor, "batch heads queries"] | None = None
    weights: Float[Tensor, "batch heads queries keys"] | None = None


class AttentionCore(Protocol):
    """How headstock's own implementations are written: one layout, every option named, one kind of result."""

    def __call__(
        self,
        query: Float[Tensor, "batch heads queries head_dim"],
        key: Float[Tensor, "batch kv_heads keys head_dim"],
        value: Float[Tensor, "batch kv_heads keys value_dim"],
        mask: Any,
        /,
        *,
        scaling: float,
        dropout: float = 0.0,
        softcap: float | None = None,
        sinks: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> AttentionOutput:
        """Compute attention; `mask` is in the representation that the table's entry declares."""


@dataclass(frozen=True)
class Contract:
    """What is known of one attention function.

    Attributes:
        function: the function that it was read from.
        declared: its declaration, if it has one.
        mask: the representation that it is given, a name of `ALL_MASK_ATTENTION_FUNCTIONS`, or "none".
        features: what it honours.
        named: the keywords that its signature names.
        takes_any: whether its signature ends in `**keywords`.
        core: the strict form behind one of headstock's own functions.
        may_omit: options that `core` does extra work for, and is told whether they are wanted.
        limits: where it runs and with what.
    """

    function: Callable[..., Any]
    declared: Declaration | None
    mask: str
    features: frozenset[str]
    named: frozenset[str]
    takes_any: bool
    core: AttentionCore | None = None
    may_omit: frozenset[str] = frozenset()
    limits: Limits = UNLIMITED

    def takes(self, keyword: str) -> bool:
        """Whether the signature has room for `keyword`."""
        return self.takes_any or keyword in self.named

    def spelling(self, feature: str) -> str:
        """The keyword that carries `feature` to this function."""
        spellings = (keyword for keyword, meant in SPELLINGS.items() if meant == feature and keyword in self.named)
        return next(spellings, feature)


CORES: dict[Callable[..., Any], AttentionCore] = {}
"""The strict form behind each of headstock's own functions; not an attribute, which `functools.wraps` would copy."""

_CONTRACT = "__headstock_contract__"


def contract_of(function: Callable[..., Any]) -> Contract:
    """What `function` declares, completed by what its signature shows.

    A function that declares no mask is given an additive one, which is right for functions that add their mask and loud
    in those that expect booleans. One that declares no features honours those that its signature names: a `**keywords`
    that may swallow a feature in silence counts for nothing. A log-sum-exp comes from headstock's own functions alone,
    as the table's form has no place for one.

    Raises:
        InvalidComponent: the signature cannot be read.
        UnsupportedFeature: a partial inside of compiled code.

    Example:
        >>> def softcapped(module, query, key, value, attention_mask, *, scaling=None, softcap=None): ...
        >>> contract_of(softcapped).mask, sorted(contract_of(softcapped).features)
        ('additive', ['softcap'])
    """
    if isinstance(function, functools.partial) and torch.compiler.is_compiling():
        raise UnsupportedFeature(
            "an attention function in compiled code must be one that dynamo can read, got a partial, whose attributes "
            "it hides (torch 2.13); wrap it in a function"
        )
    # A method is made anew at each access: what was read of it is kept with the function behind it.
    holder = getattr(function, "__func__", function)
    known: Contract | None = getattr(holder, _CONTRACT, None)
    declared = declaration_of(function)
    # functools.wraps copies attributes: what was read from one function says nothing of another.
    if known is not None and known.function is holder and known.declared is declared:
        return known
    return _read_contract(function, holder, declared)


def _read_contract(function: Callable[..., Any], holder: Callable[..., Any], declared: Declaration | None) -> Contract:
    parameters = further_parameters(signature_of(function))
    named = frozenset(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
    shown = {SPELLINGS[name] for name in named if name in SPELLINGS}
    features = frozenset(shown if declared is None or declared.features is None else declared.features)
    core = CORES.get(function) if inspect.isfunction(function) else None  # objects may have no hash
    contract = Contract(
        function=holder,
        declared=declared,
        mask=(declared and declared.mask) or "additive",
        features=features if core is not None else features - {"log_sum_exp"},
        named=named,
        takes_any=any(p.kind is p.VAR_KEYWORD for p in parameters),
        core=core,
        may_omit=frozenset() if core is None else frozenset(inspect.signature(core).parameters) & {"log_sum_exp"},
        limits=_limits_of(declared),
    )
    with contextlib.suppress(AttributeError, TypeError):  # an object with slots is read anew each time
        setattr(holder, _CONTRACT, contract)
    return contract


def _limits_of(declared: Declaration | None) -> Limits:
    limits = declared and declared.limits
    return limits if isinstance(limits, Limits) else UNLIMITED


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """The signature that a call of `function` meets: of `forward` for a module.

    Raises:
        InvalidComponent: it cannot be read, as of many functions written in C.
    """
    try:
        return inspect.signature(function.forward if isinstance(function, nn.Module) else function)
    except (TypeError, ValueError):
        raise InvalidComponent(
            f"an attention function must have a readable signature, got {function!r}; wrap it in a function"
        ) from None


def further_parameters(signature: inspect.Signature) -> list[inspect.Parameter]:
    """The parameters behind those that `POSITIONAL` fills."""
    parameters = list(signature.parameters.values())
    filled = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][: len(POSITIONAL)]
    return [p for p in parameters if p not in filled]
