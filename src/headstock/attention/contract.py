"""What an attention function is, the keywords that reach one, and what a function says or shows that it can do."""

import contextlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from jaxtyping import Float
from torch import Tensor, nn

from headstock.errors import InvalidComponent
from headstock.masks import ALL_MASK_ATTENTION_FUNCTIONS
from headstock.registry import Declaration, declaration_of, unknown_name

__all__ = [
    "CORES",
    "FEATURES",
    "MASK_FACTS",
    "SPELLINGS",
    "TRANSPORT",
    "AttentionCore",
    "AttentionFunction",
    "AttentionOutput",
    "Contract",
    "check_attention",
    "contract_of",
]

FEATURES = ("bias", "dropout", "log_sum_exp", "sinks", "softcap", "weights")
"""What a call may ask for beyond query, key, value and mask: honoured or refused, never dropped."""

SPELLINGS: Mapping[str, str] = {
    "softcap": "softcap",
    "sinks": "sinks",
    "s_aux": "sinks",
    "bias": "bias",
    "position_bias": "bias",
    "dropout": "dropout",
}
"""Keyword of a function to the feature that it carries; the second spellings are those of transformers."""

MASK_FACTS = frozenset({"is_causal", "sliding_window"})
"""Keywords that repeat what a mask says; where a mask is given they are not applied a second time."""

TRANSPORT = frozenset(
    {
        "cache_position",
        "encoder_attention_mask",
        "encoder_hidden_states",
        "layer_idx",
        "logits_to_keep",
        "output_hidden_states",
        "output_router_logits",
        "past_key_values",
        "position_embeddings",
        "position_ids",
        "return_dict",
        "token_type_ids",
        "use_cache",
    }
)
"""Keywords that models pass through every layer and that do not concern attention."""

_POSITIONAL = ("module", "query", "key", "value", "attention_mask")


class AttentionOutput(NamedTuple):
    """What attention computes.

    Attributes:
        output: the weighted values, in the dtype of the query.
        log_sum_exp: the natural logarithm of the softmax's denominator, sinks included; -inf for a row that sees
            nothing. None where the implementation does not give it.
        weights: the weights that multiplied the values (after dropout); None where not asked for.
    """

    output: Float[Tensor, "batch heads queries value_dim"]
    log_sum_exp: Float[Tensor, "batch heads queries"] | None = None
    weights: Float[Tensor, "batch heads queries keys"] | None = None


class AttentionFunction(Protocol):
    """What the table holds: the signature of transformers, so that a function written for it registers unchanged.

    query [batch, heads, queries, head_dim]; key, value [batch, kv_heads, keys, head_dim];
    returns (output [batch, queries, heads, head_dim], weights [batch, heads, queries, keys] or None).
    """

    def __call__(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        /,
        **keywords: Any,
    ) -> tuple[Tensor, Tensor | None]: ...


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
    ) -> AttentionOutput: ...


@dataclass(frozen=True)
class Contract:
    """What is known of one attention function.

    Attributes:
        function: the function itself.
        declared: its declaration, if it has one.
        mask: the representation that it is given, a name of `ALL_MASK_ATTENTION_FUNCTIONS`, or "none".
        features: what it honours.
        named: the keywords that its signature names.
        takes_any: whether its signature ends in `**keywords`.
        core: the strict form behind one of headstock's own functions.
    """

    function: Callable[..., Any]
    declared: Declaration | None
    mask: str
    features: frozenset[str]
    named: frozenset[str]
    takes_any: bool
    core: AttentionCore | None = None

    def spelling(self, feature: str) -> str:
        """The keyword that carries `feature` to this function."""
        spellings = [keyword for keyword, name in SPELLINGS.items() if name == feature]
        return next((keyword for keyword in spellings if keyword in self.named), feature)


CORES: dict[Callable[..., Any], AttentionCore] = {}
"""The strict form behind each of headstock's own functions; not an attribute, which `functools.wraps` would copy."""

_CONTRACT = "__headstock_contract__"


def contract_of(function: Callable[..., Any]) -> Contract:
    """What `function` declares, completed by what its signature shows.

    A function that declares no mask is given an additive one, which is right for functions that add their mask and loud
    in those that expect booleans. One that declares no features honours those that its signature names: a `**keywords`
    that may swallow a feature in silence counts for nothing.

    Example:
        >>> def softcapped(module, query, key, value, attention_mask, *, scaling=None, softcap=None): ...
        >>> contract_of(softcapped).mask, sorted(contract_of(softcapped).features)
        ('additive', ['softcap'])
    """
    known: Contract | None = getattr(function, _CONTRACT, None)
    declared = declaration_of(function)
    # functools.wraps copies attributes: what was read from one function says nothing of another.
    if known is not None and known.function is function and known.declared is declared:
        return known
    return _read_contract(function, declared)


def _read_contract(function: Callable[..., Any], declared: Declaration | None) -> Contract:
    parameters = list(signature_of(function).parameters.values())[len(_POSITIONAL) :]
    named = frozenset(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
    features = None if declared is None else declared.features
    contract = Contract(
        function=function,
        declared=declared,
        mask=(declared and declared.mask) or "additive",
        features=frozenset(SPELLINGS[name] for name in named if name in SPELLINGS) if features is None else features,
        named=named,
        takes_any=any(p.kind is p.VAR_KEYWORD for p in parameters),
        core=CORES.get(function),
    )
    with contextlib.suppress(AttributeError, TypeError):  # a bound method or a slotted object is read anew each time
        setattr(function, _CONTRACT, contract)
    return contract


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


def check_attention(name: str, function: Any) -> None:
    """Refuse what cannot be called as an attention function.

    Raises:
        InvalidComponent: it is a class, its signature does not fit, or its declaration uses unknown words.
    """
    if isinstance(function, type):
        raise InvalidComponent(
            f"attention function {name!r} must be a function or an object, got the class {function!r}"
        )
    signature = signature_of(function)
    _check_positional(name, signature)
    offered = {"scaling", "dropout", *SPELLINGS, *MASK_FACTS}
    for parameter in list(signature.parameters.values())[len(_POSITIONAL) :]:
        variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if parameter.default is parameter.empty and not variadic and parameter.name not in offered:
            raise InvalidComponent(
                f"attention function {name!r} must give each further parameter a default, got "
                f"{parameter.name!r} without; calls pass scaling and dropout, and features where they are asked for"
            )
    _check_declaration(name, declaration_of(function) or Declaration())
    contract_of(function)  # read now, so that a compiled call finds it read


def _check_positional(name: str, signature: inspect.Signature) -> None:
    kinds = [p.kind for p in signature.parameters.values()]
    positional = sum(k in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD) for k in kinds)
    if positional < len(_POSITIONAL) and inspect.Parameter.VAR_POSITIONAL not in kinds:
        raise InvalidComponent(
            f"attention function {name!r} must take ({', '.join(_POSITIONAL)}, *, scaling=None, dropout=0.0, "
            f"**keywords), got {signature}; give it these parameters"
        )


def _check_declaration(name: str, declared: Declaration) -> None:
    representations = [*ALL_MASK_ATTENTION_FUNCTIONS, "none"]
    if declared.mask is not None and declared.mask not in representations:
        raise InvalidComponent(
            unknown_name(f"the mask representation of attention function {name!r}", declared.mask, representations)
        )
    for feature in sorted(declared.features or ()):
        if feature not in FEATURES:
            raise InvalidComponent(unknown_name(f"a feature of attention function {name!r}", feature, FEATURES))
