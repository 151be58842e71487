"""`headstock explain`: which implementation a call would run, told from its sizes, also for a device elsewhere."""

import sys
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headstock.attention.auto.explaining import Asked
from headstock.attention.explain import Explanation, explained
from headstock.attention.request import request_of
from headstock.attention.situation import Situation
from headstock.attention.table import ALL_ATTENTION_FUNCTIONS
from headstock.cli.mask import USAGE, tensors_of
from headstock.errors import HeadstockError, InvalidConfig
from headstock.masks import Geometry, Mask, PreparedMask, prepare

__all__ = ["Request", "run"]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for on the command line; `shape` is batch, heads, queries, keys, head_dim."""

    shape: str
    mask: str | None = None
    tensors: tuple[str, ...] = ()
    device: str = "cpu"
    dtype: str = "float32"
    kv_heads: int | None = None
    value_dim: int | None = None
    implementation: str = "auto"
    softcap: float | None = None
    dropout: float = 0.0
    sinks: bool = False
    log_sum_exp: bool = False
    weights: bool = False
    training: bool = False


def run(request: Request) -> int:
    """Print the explanation; the exit status: 1 where nothing can serve the call, 2 where a word is refused."""
    try:
        asked = _asked(request)
    except HeadstockError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    _show(explained(asked))
    return 0


def _asked(request: Request) -> Asked:
    batch, heads, queries, keys, head_dim = _sizes(request.shape)
    kv_heads = heads if request.kv_heads is None else request.kv_heads
    if kv_heads < 1 or heads % kv_heads:
        raise InvalidConfig(f"--kv-heads must divide the heads, {heads}, got {kv_heads}; leave it out for as many")
    value_dim = head_dim if request.value_dim is None else request.value_dim
    situation = Situation(
        _device(request.device),
        _DTYPES[request.dtype],
        *(batch, heads, kv_heads, queries, keys, head_dim, value_dim),
        needs_gradient=request.training,
    )
    options = request_of(
        head_dim,
        scaling=None,
        dropout=request.dropout,
        softcap=request.softcap,
        sinks=torch.zeros(heads) if request.sinks else None,
        log_sum_exp=request.log_sum_exp,
        weights=request.weights,
    )
    prepared = _mask(request, batch, heads, queries, keys)
    return Asked(ALL_ATTENTION_FUNCTIONS, request.implementation, situation, options, prepared)


def _sizes(text: str) -> tuple[int, int, int, int, int]:
    try:
        batch, heads, queries, keys, head_dim = (int(each) for each in text.replace("x", ",").split(","))
    except ValueError:
        batch = heads = queries = keys = head_dim = 0
    if min(batch, heads, queries, keys, head_dim) < 1:
        raise InvalidConfig(
            f"--shape must be batch,heads,queries,keys,head_dim, five positive integers, got {text!r}; "
            "write it like 1,32,1,8192,128"
        )
    return batch, heads, queries, keys, head_dim


def _device(name: str) -> torch.device:
    try:
        return torch.device(name)
    except RuntimeError:
        raise InvalidConfig(f"--device must be a device of torch, got {name!r}; write it like cpu or cuda") from None


def _mask(request: Request, batch: int, heads: int, queries: int, keys: int) -> PreparedMask | None:
    if request.mask is None:
        return None
    offset = keys - queries if keys >= queries else 0
    geometry = Geometry(batch, queries, keys, offset, heads=heads)
    tensors = {name: each.expand(batch, -1) for name, each in tensors_of(request.tensors).items()}
    return prepare(Mask.parse(request.mask, tensors), geometry)


def _show(told: Explanation) -> None:
    console = Console(highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, show_header=True, header_style="bold")
    for heading in ("name", "about", "what of it"):
        table.add_column(heading, overflow="fold")
    names = [told.chosen, *sorted(told.rejected, key=lambda name: told.costs.get(name, float("inf")))]
    for name in names:
        what = Text(told.how, style="bold") if name == told.chosen else Text("; ".join(told.rejected[name]))
        table.add_row(name, _time(told.costs.get(name)), what)
    console.print(table)
    console.print()
    for line in _facts(told):
        console.print(Text(line))


def _facts(told: Explanation) -> list[str]:
    form = "none" if told.representation is None else told.representation
    size = "of unknown size" if told.bytes is None else f"{told.bytes:,} bytes"
    kernels = [] if told.kernels is None else [f"sdpa: {told.kernels}"]
    return [f"mask: {form}, {size}; {told.density:.2%} of the pairs visible", *kernels, *told.notes]


def _time(micros: float | None) -> str:
    if micros is None:
        return ""
    size, unit = next((size, unit) for size, unit in ((1e6, "s"), (1e3, "ms"), (0.0, "us")) if micros >= size)
    return f"{micros / (size or 1.0):.3g} {unit}"
