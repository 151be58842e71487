"""A flash attention that was found: its functions, and what their signatures say that they can do."""

import inspect
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch._library.custom_ops import CustomOpDef

from headstock.attention.bias import Alibi, BoundBias
from headstock.attention.request import Request
from headstock.attention.situation import Situation

__all__ = ["Kernel", "kernel_of"]

_SINKS = ("learnable_sink", "s_aux", "sinks")
_LOG_SUM_EXP = ("return_attn_probs", "return_softmax_lse", "return_lse")
_NEEDED = frozenset(
    {"alibi_slopes", "causal", "deterministic", "dropout_p", "softcap", "window_size", *_LOG_SUM_EXP, *_SINKS}
)


class Kernel(NamedTuple):
    """The functions of one flash attention.

    Attributes:
        name: what messages call it, with its version.
        generation: 2, 3 or 4.
        version: that of flash attention 2, as far as it is numbers; empty where none is told.
        packed: its function over packed tokens.
        rows: its function over batch rows; None: it has none with the same arguments.
        takes: the arguments of `packed`.
        is_traceable: whether `torch.compile` sees an operator in it.
    """

    name: str
    generation: int
    version: tuple[int, ...]
    packed: Callable[..., Any]
    rows: Callable[..., Any] | None
    takes: frozenset[str]
    is_traceable: bool

    @property
    def sinks(self) -> str | None:
        """Its argument for sinks."""
        return next((name for name in _SINKS if name in self.takes), None)

    @property
    def flag(self) -> str | None:
        """Its argument that asks for the log-sum-exp."""
        return next((name for name in _LOG_SUM_EXP if name in self.takes), None)

    @property
    def gives_log_sum_exp(self) -> bool:
        """Whether it can be asked for the log-sum-exp, or gives it in every call, as flash attention 3 did at first."""
        return self.flag is not None or self.generation == 3

    @property
    def differentiates_log_sum_exp(self) -> bool:
        """Whether a gradient of the log-sum-exp arrives: others take it and drop it in silence."""
        return self.generation == 4 and "return_lse" in self.takes

    def takes_sinks(self, request: Request, *, learns: bool) -> bool:
        """Whether sinks are handed to the kernel itself: it rounds them, and its log-sum-exp is unlike ours."""
        sinks = request.sinks
        return (
            self.sinks is not None
            and sinks is not None
            and sinks.dtype == torch.bfloat16
            and not learns
            and not request.log_sum_exp
        )

    def reasons_against(self, situation: Situation, request: Request) -> Iterator[str]:
        """Why it cannot serve a call, a phrase each."""
        learns = situation.needs_gradient
        if self.generation == 2 and (0,) < self.version < (2, 1):
            yield f"needs flash-attn 2.1, which aligns masks at the last key (this is {self.name})"
        if situation.is_compiling and not self.is_traceable:
            yield f"does not work inside of compiled code ({self.name})"
        if learns:
            yield from self._against_learning(request)
        yield from self._against_features(request)
        if request.sinks is not None:
            yield from self._against_sinks(request, learns=learns)
        if request.bias is not None:
            yield from self._against_bias(request.bias)
        if not situation.is_named:
            yield from self._against_surprises(request)

    def _against_surprises(self, request: Request) -> Iterator[str]:
        """What depends on the mask, which may be refused in the call: for one that knows its name alone."""
        if request.bias is not None:
            yield "serves alibi under some masks alone (name it where they suit)"
        if "window_size" not in self.takes:
            yield f"knows no windows (name {self.name} where there are none)"

    def _against_learning(self, request: Request) -> Iterator[str]:
        if self.generation == 3 and self.sinks is not None:
            yield f"has no gradients ({self.name} is built for inference)"
        if request.log_sum_exp and not self.differentiates_log_sum_exp:
            yield f"gives a log-sum-exp without a gradient ({self.name})"
        if self.generation == 4 and request.softcap is not None and "score_mod_bwd" not in self.takes:
            yield f"has no gradient under softcap ({self.name})"
        if torch.are_deterministic_algorithms_enabled() and "deterministic" not in self.takes:
            yield f"has no deterministic gradient ({self.name})"

    def _against_features(self, request: Request) -> Iterator[str]:
        wanted = {"softcap": request.softcap is not None, "dropout_p": request.dropout > 0.0}
        for argument, is_wanted in wanted.items():
            if is_wanted and argument not in self.takes:
                yield f"does not honour {argument.removesuffix('_p')} ({self.name})"
        if request.softcap is not None and request.dropout > 0.0:
            yield f"does not honour softcap together with dropout ({self.name})"
        if request.dropout == 1.0:
            yield f"drops less than every weight ({self.name})"
        if request.log_sum_exp and not self.gives_log_sum_exp:
            yield f"does not honour log_sum_exp ({self.name})"

    def _against_sinks(self, request: Request, *, learns: bool) -> Iterator[str]:
        if learns and not self.differentiates_log_sum_exp:
            yield f"has no gradient beside sinks ({self.name})"
        elif not self.gives_log_sum_exp and not self.takes_sinks(request, learns=learns):
            taken = "does not honour sinks" if self.sinks is None else "takes sinks in bfloat16 alone"
            yield f"{taken} ({self.name})"

    def _against_bias(self, bias: Any) -> Iterator[str]:
        form = bias.bias if isinstance(bias, BoundBias) else bias
        if "alibi_slopes" not in self.takes:
            yield f"does not honour bias ({self.name})"
        elif not isinstance(form, Alibi):
            yield "takes no bias but alibi"
        elif torch.is_grad_enabled() and form.requires_grad:
            yield "has no gradient of alibi's slopes"


def kernel_of(generation: int, module: ModuleType) -> Kernel | None:
    """What a module offers; None where it has no function over packed tokens whose signature can be read."""
    packed: Any = getattr(module, "flash_attn_varlen_func", None)
    takes = _arguments(packed)
    if "cu_seqlens_q" not in takes:
        return None
    rows = getattr(module, "flash_attn_func", None)
    version = str(getattr(module, "__version__", ""))
    return Kernel(
        f"{module.__name__} {version}".strip(),
        generation,
        _numbers(version),
        packed,
        rows if _arguments(rows) & _NEEDED == takes & _NEEDED else None,
        takes,
        _is_traceable(packed),
    )


def _arguments(function: Any) -> frozenset[str]:
    if not callable(function):
        return frozenset()
    try:
        return frozenset(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return frozenset()


def _numbers(version: str) -> tuple[int, ...]:
    found: list[int] = []
    for part in version.split("."):
        if not part.isdecimal():
            break
        found.append(int(part))
    return tuple(found)


def _is_traceable(function: Any) -> bool:
    """Whether the module of a function has made an operator of its forward pass."""
    module = sys.modules.get(getattr(function, "__module__", ""))
    forward = getattr(module, "_flash_attn_forward", None)
    return isinstance(forward, CustomOpDef)
