"""Block-sparse attention as one operator of torch: tensors and numbers in, tensors out, with a fake and a backward."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from headstock.attention.blocked.backward import Saved
from headstock.attention.blocked.biases import BiasTiles
from headstock.attention.blocked.passes import Inputs, Wanted, bias_tiles, or_nothing, run_backward, run_forward
from headstock.attention.precision import accumulated
from headstock.errors import UnsupportedFeature
from headstock.masks.tracing import untraced

__all__ = ["attention", "attention_backward", "attention_with", "compute_attention", "compute_gradients"]

_INPUTS = (
    "Tensor query, Tensor key, Tensor value, Tensor first_block, Tensor kv_block, Tensor tile, Tensor tiles, "
    "Tensor? sinks, Tensor? bias, Tensor? distances, Tensor? first_distance, Tensor? seed, "
    "float scaling, float dropout, float softcap"
)


# `torch.library.custom_op` would import torch._dynamo, for more than a second, when it is first called.
_LIBRARY = torch.library.Library("headstock", "FRAGMENT")


def _operator(name: str, schema: str, body: Callable[..., Any], fake: Callable[..., Any]) -> OpOverload[..., Any]:
    """`body` as an operator that compiled frames call as a whole."""
    _LIBRARY.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))

    def run(*arguments: Any) -> Any:
        return untraced(body)(*arguments)  # asked in the call: dynamo may have been loaded since

    _LIBRARY.impl(name, run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"headstock::{name}", fake, lib=_LIBRARY)
    operator: OpOverload[..., Any] = getattr(torch.ops.headstock, name).default
    return operator


def compute_attention(*arguments: Any) -> tuple[Tensor, Tensor]:
    """What `attention` does, outside of torch's dispatcher."""
    inputs = Inputs(*arguments)
    return run_forward(inputs, bias_tiles(inputs, Wanted()))


def _fake_attention(*arguments: Any) -> tuple[Tensor, Tensor]:
    inputs = Inputs(*arguments)
    query, shape = inputs.query, inputs.query.shape[:3]
    return query.new_empty(*shape, inputs.value.shape[3]), query.new_empty(shape, dtype=accumulated(query.dtype))


attention = _operator("blocked_attention", f"({_INPUTS}) -> (Tensor, Tensor)", compute_attention, _fake_attention)
"""The output and the log-sum-exp; the arguments are those of `Inputs`."""


def compute_gradients(
    output: Tensor,
    log_sum_exp: Tensor,
    of_output: Tensor,
    of_log_sum_exp: Tensor | None,
    wanted: list[bool],
    *arguments: Any,
) -> list[Tensor]:
    """What `attention_backward` does, outside of torch's dispatcher."""
    inputs, chosen = Inputs(*arguments), Wanted(*wanted)
    saved = Saved(output, log_sum_exp, of_output, of_log_sum_exp)
    return run_backward(inputs, saved, chosen, bias_tiles(inputs, chosen))


def _fake_backward(*arguments: Any) -> list[Tensor]:
    wanted, inputs = Wanted(*arguments[4]), Inputs(*arguments[5:])
    given = [torch.empty_like(each, memory_format=torch.contiguous_format) for each in inputs[:3]]
    others = ((inputs.sinks, wanted.sinks), (inputs.bias, wanted.bias), (inputs.distances, wanted.distances))
    return given + [
        or_nothing(torch.empty_like(each) if chosen and each is not None else None, each, inputs.query)
        for each, chosen in others
    ]


attention_backward = _operator(
    "blocked_attention_backward",
    "(Tensor output, Tensor log_sum_exp, Tensor of_output, Tensor? of_log_sum_exp, bool[] wanted, "
    f"{_INPUTS}) -> Tensor[]",
    compute_gradients,
    _fake_backward,
)
"""The gradients of what may have one, in the order of `run_backward`."""


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)
    tensors = [each for each in inputs if isinstance(each, Tensor)]
    ctx.others = [None if isinstance(each, Tensor) else each for each in inputs]
    ctx.places = [place for place, each in enumerate(inputs) if isinstance(each, Tensor)]
    ctx.save_for_backward(*output, *tensors)


def _restored(ctx: Any) -> tuple[Tensor, Tensor, Inputs]:
    output, log_sum_exp, *tensors = ctx.saved_tensors
    arguments = list(ctx.others)
    for place, tensor in zip(ctx.places, tensors, strict=True):
        arguments[place] = tensor
    return output, log_sum_exp, Inputs(*arguments)


def _differentiate(ctx: Any, of_output: Tensor | None, of_log_sum_exp: Tensor | None) -> tuple[Any, ...]:
    output, log_sum_exp, inputs = _restored(ctx)
    names = Inputs._fields
    needed = dict(zip(names, ctx.needs_input_grad, strict=True))
    wanted = [needed["sinks"], needed["bias"], needed["distances"]]
    of_output = torch.zeros_like(output) if of_output is None else of_output
    found = attention_backward(output, log_sum_exp, of_output, of_log_sum_exp, wanted, *inputs)
    gradients = dict(zip(("query", "key", "value", "sinks", "bias", "distances"), found, strict=True))
    return tuple(gradients[name] if needed[name] and name in gradients else None for name in names)


def _refuse_second_derivative(_ctx: Any, *_gradients: Any) -> Any:
    raise UnsupportedFeature(
        "blocked attention must be differentiated once, got a second derivative; use the implementation 'eager' for one"
    )


torch.library.register_autograd("headstock::blocked_attention", _differentiate, setup_context=_keep, lib=_LIBRARY)
torch.library.register_autograd("headstock::blocked_attention_backward", _refuse_second_derivative, lib=_LIBRARY)


class _WithTiles(torch.autograd.Function):
    """The same outside of graphs, with a bias that no operator can be given: a plain function."""

    @staticmethod
    def forward(ctx: Any, tiles: BiasTiles, *arguments: Any) -> tuple[Tensor, Tensor]:
        output = run_forward(Inputs(*arguments), tiles)
        ctx.tiles = tiles
        _keep(ctx, arguments, output)
        return output

    @staticmethod
    def backward(ctx: Any, of_output: Tensor | None, of_log_sum_exp: Tensor | None) -> tuple[Any, ...]:
        output, log_sum_exp, inputs = _restored(ctx)
        names = Inputs._fields
        needed = dict(zip(names, ctx.needs_input_grad[1:], strict=True))
        of_output = torch.zeros_like(output) if of_output is None else of_output
        saved = Saved(output, log_sum_exp, of_output, of_log_sum_exp)
        with torch.no_grad():
            found = run_backward(inputs, saved, Wanted(sinks=needed["sinks"]), ctx.tiles)
        if torch.is_grad_enabled():
            sources = (*saved, *inputs[:3], inputs.sinks)
            found = [_Once.apply(each, *sources) for each in found]  # type: ignore[no-untyped-call]
        gradients = dict(zip(("query", "key", "value", "sinks"), found, strict=False))
        return None, *(gradients[name] if needed[name] and name in gradients else None for name in names)


class _Once(torch.autograd.Function):
    """A gradient that has none itself, by what it was computed from."""

    @staticmethod
    def forward(_ctx: Any, gradient: Tensor, *_sources: Tensor | None) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(_ctx: Any, *_gradients: Any) -> Any:
        return _refuse_second_derivative(_ctx)


def attention_with(tiles: BiasTiles, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """As `attention`, with the bias that `tiles` gives."""
    result: tuple[Tensor, Tensor] = _WithTiles.apply(tiles, *inputs)  # type: ignore[no-untyped-call]
    return result
