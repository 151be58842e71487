"""Block-sparse attention as one operator of torch: tensors and numbers in, tensors out, with a fake and a backward."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from headstock.attention.blocked.backward import Saved, backward
from headstock.attention.blocked.biases import BiasTiles, DenseTiles, DistanceTiles
from headstock.attention.blocked.call import BlockedCall, Numbers
from headstock.attention.blocked.forward import forward
from headstock.attention.precision import accumulated, without_autocast
from headstock.errors import UnsupportedFeature
from headstock.masks import TiledPlan

__all__ = ["Inputs", "attention", "attention_with"]

_INPUTS = (
    "Tensor query, Tensor key, Tensor value, Tensor first_block, Tensor kv_block, Tensor tile, Tensor tiles, "
    "Tensor? sinks, Tensor? bias, Tensor? distances, Tensor? first_distance, Tensor? seed, "
    "float scaling, float dropout, float softcap"
)


class Inputs(NamedTuple):
    """The arguments of the operator.

    Attributes:
        query, key, value: [batch, heads, queries, head_dim], [batch, kv_heads, keys, head_dim or value_dim].
        first_block, kv_block, tile, tiles: a `TiledPlan`.
        sinks: a logit for each head.
        bias: what is added to the scores, four dimensions, of size 1 where it says the same.
        distances, first_distance: the same as a table by head and distance, from the first one on (for each batch row).
        seed: of dropout.
        scaling, dropout, softcap: the numbers; 0.0 asks for none of the latter.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    first_block: Tensor
    kv_block: Tensor
    tile: Tensor
    tiles: Tensor
    sinks: Tensor | None
    bias: Tensor | None
    distances: Tensor | None
    first_distance: Tensor | None
    seed: Tensor | None
    scaling: float
    dropout: float
    softcap: float

    @property
    def plan(self) -> TiledPlan:
        """The plan."""
        return TiledPlan(self.first_block, self.kv_block, self.tile, self.tiles)


class Wanted(NamedTuple):
    """Of which of the tensors that may have a gradient one is wanted."""

    sinks: bool = False
    bias: bool = False
    distances: bool = False


def call_of(inputs: Inputs, bias: BiasTiles | None) -> BlockedCall:
    """The call that the operator's arguments say."""
    query, key, plan = inputs.query, inputs.key, inputs.plan
    batch, kv_heads = key.shape[:2]
    units = query.shape[1] if plan.heads > 1 else kv_heads
    return BlockedCall(
        _in_rows(query).reshape(batch * units, query.shape[1] // max(units, 1), *query.shape[2:]),
        _in_rows(key).reshape(batch * kv_heads, *key.shape[2:]),
        _in_rows(inputs.value).reshape(batch * kv_heads, *inputs.value.shape[2:]),
        plan,
        Numbers(inputs.scaling, inputs.dropout, inputs.softcap),
        batch,
        bias,
        int(inputs.seed) if inputs.seed is not None else 0,
    )


def _in_rows(tensor: Tensor) -> Tensor:
    """The tensor with the last dimension together, as kernels read it."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _bias_tiles(inputs: Inputs, wanted: Wanted) -> DenseTiles | DistanceTiles | None:
    heads, kv_heads = inputs.query.shape[1], inputs.key.shape[1]
    units = heads if inputs.plan.heads > 1 else kv_heads
    if inputs.bias is not None:
        return DenseTiles(inputs.bias, heads // units, units, wants_gradient=wanted.bias)
    if inputs.distances is None or inputs.first_distance is None:
        return None
    first = inputs.first_distance
    return DistanceTiles(inputs.distances, first, heads // units, units, wants_gradient=wanted.distances)


def run_forward(
    inputs: Inputs, bias: BiasTiles | None
) -> tuple[Float[Tensor, "batch heads queries value_dim"], Float[Tensor, "batch heads queries"]]:
    """The output in the dtype of the query, and the log-sum-exp."""
    shape = inputs.query.shape[:3]
    with without_autocast(inputs.query.device):
        output, log_sum_exp = forward(call_of(inputs, bias))
    output, log_sum_exp = output.view(*shape, output.shape[-1]), log_sum_exp.view(shape)
    if inputs.sinks is not None:
        # A sink takes its share of the softmax and adds nothing.
        joint = torch.logaddexp(log_sum_exp, inputs.sinks.to(log_sum_exp.dtype)[:, None])
        output *= (log_sum_exp - joint).exp_().nan_to_num_(0.0).unsqueeze(-1)
        log_sum_exp = joint
    return output.to(inputs.query.dtype), log_sum_exp


def run_backward(inputs: Inputs, saved: Saved, wanted: Wanted, bias: BiasTiles | None) -> list[Tensor]:
    """The gradients of query, key, value, sinks, bias and distances; an empty tensor for each that is not wanted."""
    with without_autocast(inputs.query.device):
        call = call_of(inputs, bias)
        shape, last = call.query.shape[:3], saved.output.shape[-1]
        found = backward(
            call,
            Saved(
                saved.output.reshape(*shape, last),
                saved.log_sum_exp.reshape(shape),
                _in_rows(saved.of_output).reshape(*shape, last),
                None if saved.of_log_sum_exp is None else saved.of_log_sum_exp.reshape(shape),
            ),
        )
        of_sinks = _of_sinks(inputs.sinks, saved) if wanted.sinks and inputs.sinks is not None else None
    operands = (inputs.query, inputs.key, inputs.value)
    gradients = [each.view(like.shape).to(like.dtype) for each, like in zip(found, operands, strict=True)]
    tiles = bias.gradient if isinstance(bias, DenseTiles | DistanceTiles) else None
    others = (
        (inputs.sinks, of_sinks),
        (inputs.bias, tiles if wanted.bias else None),
        (inputs.distances, tiles if wanted.distances else None),
    )
    return gradients + [_or_nothing(each, like, inputs.query) for like, each in others]


def _of_sinks(sinks: Float[Tensor, " heads"], saved: Saved) -> Float[Tensor, " heads"]:
    # A sink's weight is exp(sink - log_sum_exp), and its value is zero.
    logs = saved.log_sum_exp
    share = torch.linalg.vecdot(saved.of_output.to(logs.dtype), saved.output.to(logs.dtype))
    if saved.of_log_sum_exp is not None:
        share = share - saved.of_log_sum_exp
    weights = (sinks.to(logs.dtype)[:, None] - logs).exp()
    of_sinks: Tensor = -(weights * share).sum((0, 2))
    return of_sinks


def _or_nothing(gradient: Tensor | None, like: Tensor | None, query: Tensor) -> Tensor:
    return query.new_empty(0) if gradient is None or like is None else gradient.to(like.dtype)


@torch.library.custom_op("headstock::blocked_attention", mutates_args=(), schema=f"({_INPUTS}) -> (Tensor, Tensor)")
def attention(*arguments: Any) -> tuple[Tensor, Tensor]:
    """The output and the log-sum-exp; the arguments are those of `Inputs`."""
    inputs = Inputs(*arguments)
    return run_forward(inputs, _bias_tiles(inputs, Wanted()))


@attention.register_fake
def _(*arguments: Any) -> tuple[Tensor, Tensor]:
    inputs = Inputs(*arguments)
    query, shape = inputs.query, inputs.query.shape[:3]
    return query.new_empty(*shape, inputs.value.shape[3]), query.new_empty(shape, dtype=accumulated(query.dtype))


@torch.library.custom_op(
    "headstock::blocked_attention_backward",
    mutates_args=(),
    schema="(Tensor output, Tensor log_sum_exp, Tensor of_output, Tensor? of_log_sum_exp, bool[] wanted, "
    f"{_INPUTS}) -> Tensor[]",
)
def attention_backward(
    output: Tensor,
    log_sum_exp: Tensor,
    of_output: Tensor,
    of_log_sum_exp: Tensor | None,
    wanted: list[bool],
    *arguments: Any,
) -> list[Tensor]:
    """The gradients of what may have one, in the order of `run_backward`."""
    inputs, chosen = Inputs(*arguments), Wanted(*wanted)
    saved = Saved(output, log_sum_exp, of_output, of_log_sum_exp)
    return run_backward(inputs, saved, chosen, _bias_tiles(inputs, chosen))


@attention_backward.register_fake
def _(*arguments: Any) -> list[Tensor]:
    wanted, inputs = Wanted(*arguments[4]), Inputs(*arguments[5:])
    given = [torch.empty_like(each, memory_format=torch.contiguous_format) for each in inputs[:3]]
    others = ((inputs.sinks, wanted.sinks), (inputs.bias, wanted.bias), (inputs.distances, wanted.distances))
    return given + [
        _or_nothing(torch.empty_like(each) if chosen and each is not None else None, each, inputs.query)
        for each, chosen in others
    ]


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


attention.register_autograd(_differentiate, setup_context=_keep)
attention_backward.register_autograd(_refuse_second_derivative)


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
