"""The kinds of call, each compared with the definition where it is not refused."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from headstock.attention import (
    ALL_ATTENTION_FUNCTIONS,
    AUTO,
    AttentionOutput,
    alibi,
    attend,
    attend_packed,
    attend_paged,
    contract_of,
)
from headstock.attention.call import Call, bound_mask
from headstock.attention.check import run_checked
from headstock.attention.request import Request
from headstock.caches import PagedKeyValues, PagePool
from headstock.errors import UnsupportedFeature, WrongResult
from headstock.masks import (
    Geometry,
    causal,
    documents,
    first_tokens,
    padding,
    prefix_lm,
    sliding_window,
    to_block_mask,
)

__all__ = ["KINDS", "Kind", "Place"]

BATCH, HEADS, LENGTH, SIZE = 2, 4, 24, 32


class Place(NamedTuple):
    """Where a cell is: an implementation on a device."""

    name: str
    device: torch.device

    @property
    def dtype(self) -> torch.dtype:
        """float32, or what the implementation takes."""
        dtypes = None if self.name == AUTO else contract_of(ALL_ATTENTION_FUNCTIONS[self.name]).limits.dtypes
        return torch.float32 if dtypes is None or "float32" in dtypes else torch.bfloat16

    def random(self, *shape: int, dtype: torch.dtype | None = None, seed: int = 0) -> Tensor:
        """Random numbers, the same for each place."""
        numbers = torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))
        return numbers.to(self.device, self.dtype if dtype is None else dtype)


class Kind(NamedTuple):
    """One row of the matrix; `run` raises where the call is refused, or wrong."""

    group: str
    name: str
    run: Callable[[Place], None]


class Sizes(NamedTuple):
    """The sizes of one call."""

    queries: int = LENGTH
    keys: int = LENGTH
    kv_heads: int = HEADS
    head_dim: int = SIZE
    value_dim: int = SIZE


_USUAL = Sizes()


def operands(place: Place, sizes: Sizes, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value."""
    queries, keys, kv_heads, head_dim, value_dim = sizes
    return (
        place.random(BATCH, HEADS, queries, head_dim, dtype=dtype, seed=1),
        place.random(BATCH, kv_heads, keys, head_dim, dtype=dtype, seed=2),
        place.random(BATCH, kv_heads, keys, value_dim, dtype=dtype, seed=3),
    )


def checked(
    options: Callable[[Place], dict[str, Any]] = lambda _: {},
    *,
    sizes: Sizes = _USUAL,
    dtype: torch.dtype | None = None,
    learned: bool = False,
) -> Callable[[Place], None]:
    """A checked call; `learned` compares gradients too."""

    def run(place: Place) -> None:
        given = options(place)
        tensors = (*operands(place, sizes, dtype), *given.values())
        for each in tensors if learned else ():
            if isinstance(each, Tensor) and each.is_floating_point():
                each.requires_grad_()
        query, key, value, *_ = tensors
        attend(query, key, value, implementation=place.name, checked=True, **given)

    return run


def _autocast(place: Place) -> None:
    with torch.autocast(place.device.type, torch.bfloat16):
        checked(dtype=torch.float32)(place)


def _dropout(place: Place) -> None:
    """Values that are the unit matrix show the weights: each is 0, or divided by what is left."""
    query, key, _ = operands(place, _USUAL)
    value = torch.eye(LENGTH, dtype=query.dtype, device=place.device).expand(BATCH, HEADS, -1, -1)
    found = attend(query, key, value, implementation=place.name, dropout=0.25).double()
    weights = attend(query.double(), key.double(), value.double(), implementation="eager") / 0.75
    unit = 32 * torch.finfo(query.dtype).eps
    if not bool(((found == 0) | ((found - weights).abs() <= unit * weights + unit / LENGTH)).all()):
        raise WrongResult(f"dropout by {place.name} must leave each weight out, or divide it, got other numbers")
    share = (found == 0).double().mean().item()
    # 4,608 weights: twelve standard deviations of the share are 0.077.
    if abs(share - 0.25) > 0.077:
        raise WrongResult(f"dropout by {place.name} must leave out a quarter of the weights, got {share:.3f}")


def _packed(place: Place) -> None:
    query, key, value = (each[0].transpose(0, 1) for each in operands(place, _USUAL))
    starts = torch.tensor([0, 5, 5, LENGTH], device=place.device)
    attend_packed(query, key, value, starts, mask=causal(), implementation=place.name, checked=True)


def _paged(place: Place) -> None:
    query, key, value = operands(place, Sizes(queries=1))
    pool = PagePool.empty(4, 256, HEADS, SIZE, dtype=place.dtype, device=place.device)
    pages = PagedKeyValues.empty(pool, BATCH)
    pages.append(key, value, counts=[LENGTH, 7])
    attend_paged(query, pages, mask=causal() & sliding_window(6), implementation=place.name, checked=True)


class Causal(nn.Module):
    """A call as a module, to be compiled and exported."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """[batch, heads, queries, head_dim]"""
        return attend(query, key, value, mask=causal(), implementation=self.name)


def traced(trace: Callable[[nn.Module, tuple[Tensor, ...]], Callable[..., Tensor]]) -> Callable[[Place], None]:
    """A call that `trace` makes a program of, compared with the definition as checked calls are."""

    def run(place: Place) -> None:
        query, key, value = operands(place, _USUAL)
        mask, request = bound_mask(causal(), query, key), Request(SIZE**-0.5)
        torch._dynamo.reset()
        try:
            found = trace(Causal(place.name), (query, key, value))(query, key, value)
        except torch._dynamo.exc.Unsupported as error:  # dynamo's own, for what traced code raises
            if UnsupportedFeature.__name__ not in str(error):
                raise
            raise UnsupportedFeature(str(error)) from error
        call = Call(query, key, value, mask, request)
        run_checked(place.name, call, "dense_or_additive", lambda: AttentionOutput(found))

    return run


def _by_compiling(module: nn.Module, _given: tuple[Tensor, ...]) -> Callable[..., Tensor]:
    compiled: Callable[..., Tensor] = torch.compile(module, fullgraph=True, backend="eager")
    return compiled


def _by_exporting(module: nn.Module, given: tuple[Tensor, ...]) -> Callable[..., Tensor]:
    exported: Callable[..., Tensor] = torch.export.export(module, given).module()
    return exported


def _by_func(place: Place) -> None:
    query, key, value = operands(place, _USUAL)

    def loss(query: Tensor, name: str = place.name) -> Tensor:
        return attend(query, key, value, mask=causal(), implementation=name).float().square().sum()

    _compare(place, torch.func.grad(loss)(query), torch.func.grad(lambda query: loss(query, "eager"))(query))


def _compare(place: Place, found: Tensor, expected: Tensor) -> None:
    """Two results in one dtype, each right up to a few hundred roundings of numbers of a few units."""
    if not torch.allclose(found, expected, rtol=0, atol=500 * torch.finfo(found.dtype).eps):
        raise WrongResult(
            f"{place.name} must give what eager does, got {(found - expected).abs().max().item():.1e} off"
        )


def _ids(place: Place) -> Tensor:
    return (torch.arange(LENGTH, device=place.device) // 7).expand(BATCH, -1)


def _keep(place: Place, *lengths: int) -> Tensor:
    return torch.arange(LENGTH, device=place.device) < torch.tensor(lengths, device=place.device)[:, None]


def _per_head(place: Place) -> Tensor:
    return place.random(BATCH, HEADS, LENGTH, LENGTH, dtype=torch.float32) > 0


def _every_third(_b: Any, _h: Any, i: Any, j: Any) -> Any:
    return (i - j) % 3 == 0


def _falling(_b: Any, _h: Any, i: Any, j: Any) -> Any:
    return (j - i) / 8


def _blocks(place: Place) -> Any:
    return to_block_mask(_WINDOW, Geometry(BATCH, LENGTH, LENGTH), device=place.device)


_WINDOW = causal() & sliding_window(6)
_FEW = Sizes(queries=4)
_MASKS: dict[str, Callable[[Place], None]] = {
    "no mask": checked(),
    "causal": checked(lambda _: {"mask": causal()}),
    "causal, fewer queries than keys": checked(lambda _: {"mask": causal()}, sizes=_FEW),
    "causal, more queries than keys": checked(lambda _: {"mask": causal()}, sizes=Sizes(keys=9)),
    "window": checked(lambda _: {"mask": _WINDOW}),
    "window to both sides": checked(lambda _: {"mask": sliding_window(4, right=3)}),
    "window and first tokens": checked(lambda _: {"mask": causal() & (sliding_window(6) | first_tokens(2))}),
    "prefix": checked(lambda _: {"mask": prefix_lm(5)}),
    "documents": checked(lambda at: {"mask": causal() & documents(_ids(at))}),
    "padding": checked(lambda at: {"mask": padding(_keep(at, LENGTH, 9))}),
    "padding, a row without keys": checked(lambda at: {"mask": causal() & padding(_keep(at, LENGTH, 0))}),
    "a function of the indices": checked(lambda _: {"mask": _every_third}),
    "booleans for each head": checked(lambda at: {"mask": _per_head(at)}),
    "numbers that are added": checked(lambda at: {"mask": at.random(LENGTH, LENGTH)}),
    "BlockMask": checked(
        lambda at: {"mask": to_block_mask(_WINDOW, Geometry(BATCH, LENGTH, LENGTH), device=at.device)}
    ),
    "an offset for each row": checked(
        lambda at: {"mask": _WINDOW, "q_offset": torch.tensor([3, 20], device=at.device)}, sizes=_FEW
    ),
}
_FEATURES: dict[str, Callable[[Place], None]] = {
    "scaling": checked(lambda _: {"scaling": 0.3}),
    "scaling below 0": checked(lambda _: {"scaling": -0.3, "mask": causal()}),
    "softcap": checked(lambda _: {"softcap": 2.0}),
    "sinks": checked(lambda at: {"sinks": at.random(HEADS)}),
    "bias": checked(lambda at: {"bias": at.random(1, HEADS, LENGTH, LENGTH)}),
    "bias by distance (alibi)": checked(lambda at: {"bias": alibi(at.random(HEADS).abs()), "mask": causal()}),
    "bias as a function": checked(lambda _: {"bias": _falling}),
    "log-sum-exp": checked(lambda _: {"return_lse": True}),
    "weights": checked(lambda _: {"return_weights": True}),
    "dropout": _dropout,
}
_SHAPES: dict[str, Callable[[Place], None]] = {
    "grouped heads": checked(lambda _: {"mask": causal()}, sizes=Sizes(kv_heads=2)),
    "one query": checked(lambda _: {"mask": causal()}, sizes=Sizes(queries=1, kv_heads=1)),
    "values of another size": checked(sizes=Sizes(value_dim=16)),
    "head size 5": checked(sizes=Sizes(head_dim=5, value_dim=5)),
    "head size 320": checked(sizes=Sizes(head_dim=320, value_dim=320)),
    "no keys": checked(sizes=Sizes(keys=0)),
}
_DTYPES: dict[str, Callable[[Place], None]] = {
    **{
        str(dtype).removeprefix("torch."): checked(lambda _: {"mask": causal()}, dtype=dtype)
        for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16)
    },
    "autocast to bfloat16": _autocast,
}
_GRADIENTS: dict[str, Callable[[Place], None]] = {
    "gradients": checked(lambda _: {"mask": causal()}, learned=True),
    "gradients, grouped heads": checked(lambda _: {"mask": _WINDOW}, sizes=Sizes(kv_heads=2), learned=True),
    "gradients of sinks": checked(lambda at: {"sinks": at.random(HEADS)}, learned=True),
    "gradients of a bias": checked(lambda at: {"bias": at.random(1, HEADS, LENGTH, LENGTH)}, learned=True),
    "gradients of numbers that are added": checked(lambda at: {"mask": at.random(LENGTH, LENGTH)}, learned=True),
    "torch.func.grad": _by_func,
}
_PLACES: dict[str, Callable[[Place], None]] = {
    "torch.compile(fullgraph=True)": traced(_by_compiling),
    "torch.export": traced(_by_exporting),
    "attend_packed": _packed,
    "attend_paged": _paged,
}

KINDS: tuple[Kind, ...] = tuple(
    Kind(group, name, run)
    for group, kinds in {
        "mask": _MASKS,
        "feature": _FEATURES,
        "shape": _SHAPES,
        "dtype": _DTYPES,
        "gradient": _GRADIENTS,
        "surroundings": _PLACES,
    }.items()
    for name, run in kinds.items()
)
"""The rows."""
