"""flash_attention_2, flash_attention_3 and flash_attention_4: the kernels of Dao-AILab/flash-attention."""

from collections.abc import Iterator
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from headstock.attention.adapter import table_form
from headstock.attention.bias import BIAS_FORMS, BoundBias
from headstock.attention.contract import AttentionCore, AttentionFunction, AttentionOutput
from headstock.attention.flash.arguments import launch
from headstock.attention.flash.kernel import Kernel
from headstock.attention.flash.packages import PACKAGES, look
from headstock.attention.flash.sinks import with_sinks
from headstock.attention.flash.slopes import slopes_of
from headstock.attention.flash.tokens import Operands, TokenCall, TokenOptions, attend_tokens, window_of_parts
from headstock.attention.limits import Limits, missing_packages
from headstock.attention.precision import autocast_like_sdpa
from headstock.attention.request import Request
from headstock.attention.situation import Situation
from headstock.attention.words import EMPTY_ROWS
from headstock.errors import MissingDependency, UnsupportedFeature
from headstock.masks import Varlen

__all__ = ["flash_attention_2", "flash_attention_3", "flash_attention_4", "flash_core", "flash_limits"]

_COMMON = (EMPTY_ROWS, "log_sum_exp", "sinks", "softcap")
_FEATURES = {2: ("bias", BIAS_FORMS, "dropout", *_COMMON), 3: _COMMON, 4: _COMMON}
_DEVICES = {2: (8, 0), 3: (9, 0), 4: (9, 0)}


def flash_core(generation: int) -> AttentionCore:
    """The strict form of one generation."""

    def core(
        query: Float[Tensor, "batch heads queries head_dim"],
        key: Float[Tensor, "batch kv_heads keys head_dim"],
        value: Float[Tensor, "batch kv_heads keys value_dim"],
        mask: tuple[Varlen, ...] | None = None,
        *,
        scaling: float,
        dropout: float = 0.0,
        softcap: float | None = None,
        sinks: Float[Tensor, " heads"] | None = None,
        bias: Float[Tensor, "..."] | BoundBias | None = None,
        log_sum_exp: bool = True,
    ) -> AttentionOutput:
        kernel = _found(generation)
        window = window_of_parts(mask)
        if window is not None and "window_size" not in kernel.takes:
            raise UnsupportedFeature(
                f"{kernel.name} must be given a mask without a window, got window_size {window}; install a later "
                "version, or use the implementation 'blocked'"
            )
        operands = Operands(*autocast_like_sdpa(query, key, value))
        request = Request(scaling, dropout=dropout, softcap=softcap, sinks=sinks, log_sum_exp=log_sum_exp)
        learns = torch.is_grad_enabled() and any(each is not None and each.requires_grad for each in (*operands, sinks))
        own_sinks = kernel.takes_sinks(request, learns=learns)
        options = TokenOptions(
            scaling,
            dropout,
            softcap,
            sinks if own_sinks else None,
            slopes_of(bias, mask, query.shape[1], log_sum_exp=log_sum_exp or sinks is not None),
            log_sum_exp or (sinks is not None and not own_sinks),
        )

        def computed(call: TokenCall) -> tuple[Tensor, Tensor | None]:
            return launch(kernel, call)

        result = attend_tokens(
            computed,
            operands,
            mask,
            options,
            takes_rows=kernel.rows is not None,
            equal_head_dims=generation != 4,
        )
        return result if sinks is None or own_sinks else with_sinks(result, sinks)

    core.__doc__ = f"""softmax(softcap(scaling * query key^T) + bias, over the visible keys and the sink) value.

    By flash attention {generation} (Dao et al. 2022, arXiv:2205.14135), in float16 or bfloat16, with sums in float32.
    A row that sees no key gives zeros, zero gradients and, without a sink, a log-sum-exp of -inf.

    Args:
        query: what looks.
        key: what is looked at; kv_heads divides heads, and no key is copied for a group.
        value: what is weighted.
        mask: calls over packed sequences, as `to_varlen_parts` gives them. None: every key.
        scaling: factor of the scores.
        dropout: probability with which a weight is set to zero.
        softcap: scores become softcap * tanh(scores / softcap).
        sinks: one logit per head that takes part in the softmax and has no value.
        bias: `alibi(slopes)`, bound to the call.
        log_sum_exp: whether the log-sum-exp is wanted; without it None may be given.

    Raises:
        MissingDependency: it is not installed.
        UnsupportedFeature: the version that is installed does not know what is asked for.
    """
    return cast(AttentionCore, core)


def _found(generation: int) -> Kernel:
    found = look(generation)
    if isinstance(found, str):
        package = PACKAGES[generation]
        raise MissingDependency(
            f"flash_attention_{generation} must have {package.module} installed, got one that {found}; "
            f"{package.install}"
        )
    return found


def flash_limits(generation: int) -> Limits:
    """What one generation runs on; which features it has is asked of what is found in the call."""
    package = PACKAGES[generation]
    # What `torch.compile` traces must not read the table of packages.
    name = package.alternatives

    def further(situation: Situation, request: Request) -> Iterator[str]:
        if missing_packages((name,)):
            return
        found = look(generation, is_named=situation.is_named)
        if isinstance(found, str):
            yield found
            return
        yield from _against_device(generation, situation)
        yield from found.reasons_against(situation, request)

    return Limits(
        devices=frozenset({"cuda"}),
        compute_capability=_DEVICES[generation],
        dtypes=frozenset({"bfloat16", "float16"}),
        head_dim_most=256,
        transforms=False,
        export=False,
        packages=(name,),
        install=package.install,
        further=further,
    )


def _against_device(generation: int, situation: Situation) -> Iterator[str]:
    # What runs elsewhere is asked about without the device.
    if situation.device.type != "cuda" or generation == 2 or not torch.cuda.is_available():
        return
    major = torch.cuda.get_device_capability(situation.device)[0]
    if generation == 3 and major != 9:
        yield "runs on compute capability 9.0 alone (Hopper)"
    sizes = situation.head_dim, situation.value_dim
    if generation == 4 and major > 9 and max(sizes) > 128 and sizes != (192, 128):
        yield f"takes head sizes up to 128 on this device, or 192 with values of 128 (got {sizes[0]} and {sizes[1]})"


def flash_entry(generation: int, *, limits: Limits | None = None, name: str | None = None) -> AttentionFunction:
    """The table's form of one generation, with other limits where they are given."""
    return table_form(
        name or f"flash_attention_{generation}",
        flash_core(generation),
        mask="varlen_parts",
        features=_FEATURES[generation],
        limits=limits or flash_limits(generation),
    )


flash_attention_2 = flash_entry(2)
"""Flash attention 2 (the package flash-attn)."""

flash_attention_3 = flash_entry(3)
"""Flash attention 3 (the module flash_attn_interface), for Hopper."""

flash_attention_4 = flash_entry(4)
"""Flash attention 4 (the package flash-attn-4), for Hopper and Blackwell."""
