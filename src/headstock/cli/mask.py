"""`headstock mask`: a mask in text as a picture, and what becomes of it."""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.text import Text
from torch import Tensor

from headstock.errors import HeadstockError, InvalidConfig, MissingDependency
from headstock.masks import BlockPlan, Drawing, Geometry, Mask, PreparedMask, prepare

__all__ = ["Request", "run", "tensors_of"]

USAGE = 2  # what shells and typer report for arguments that are not understood
_COUNTED = 2**24  # pairs looked at one by one to tell how many are visible
_WORDS = {"true": True, "false": False}


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for on the command line.

    Attributes:
        text: the mask, as `Mask.parse` reads it.
        queries, keys: how many there are; None for as many keys as end with the last query.
        q_offset, kv_offset: the first absolute index of each.
        block_size: of the plan.
        size: the most cells along a side of the picture.
        tensors: what names in the text stand for, `ids=0,0,1,1`.
        svg, png: where images go.
    """

    text: str
    queries: int = 16
    keys: int | None = None
    q_offset: int = 0
    kv_offset: int = 0
    block_size: int = 128
    size: int = 64
    tensors: tuple[str, ...] = ()
    svg: Path | None = None
    png: Path | None = None

    @property
    def geometry(self) -> Geometry:
        """One batch row of it."""
        keys = max(0, self.q_offset + self.queries - self.kv_offset) if self.keys is None else self.keys
        return Geometry(1, self.queries, keys, q_offset=self.q_offset, kv_offset=self.kv_offset)


def run(request: Request) -> int:
    """Draw, then tell the facts; the exit status: 2 where the mask or a number is refused.

    Raises:
        MissingDependency: an image is asked for and matplotlib is not installed.
    """
    try:
        _show(request)
    except MissingDependency:
        raise
    except HeadstockError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    return 0


def _show(request: Request) -> None:
    prepared = prepare(Mask.parse(request.text, tensors_of(request.tensors)), request.geometry)
    drawing = prepared.draw(size=request.size)
    facts = _facts(prepared, prepared.plan(request.block_size))
    _save(request, drawing)
    print(drawing.text(ascii_only=not _spells("█▒·")), end="\n\n")
    console = Console(highlight=False, soft_wrap=True)
    for name, fact in facts:
        console.print(Text.assemble((f"{name:<12}", "bold"), fact))


def _facts(prepared: PreparedMask, plan: BlockPlan) -> list[tuple[str, str]]:
    return [
        ("visible", _visible(prepared, plan)),
        ("block plan", _planned(plan)),
        ("SDPA gets", _given_to_sdpa(prepared)),
    ]


def _visible(prepared: PreparedMask, plan: BlockPlan) -> str:
    """How many pairs, counted where they are few, between bounds otherwise."""
    pairs = prepared.geometry.q_length * prepared.geometry.kv_length
    if not pairs:
        return "no pairs"
    if pairs <= _COUNTED:
        count = int(prepared.dense().sum())
        return f"{count:,} of {pairs:,} pairs, {count / pairs:.2%}"
    most = round(plan.density * pairs)
    return f"{most - _partial_pairs(plan):,} to {most:,} of {pairs:,} pairs, at most {plan.density:.2%}"


def _partial_pairs(plan: BlockPlan) -> int:
    """Pairs in blocks of which some are hidden."""
    grid, partial = plan.grid, ~plan.is_full
    q_block = plan.block_rows()[partial] % grid.q_blocks
    queries = torch.clamp(grid.geometry.q_length - q_block * grid.q_size, max=grid.q_size)
    ends = torch.clamp(plan.ends[partial] * grid.kv_size, max=grid.geometry.kv_length)
    return int((queries * (ends - plan.starts[partial] * grid.kv_size)).sum())


def _planned(plan: BlockPlan) -> str:
    grid = plan.grid
    lengths = plan.ends - plan.starts
    full, partial = (int(lengths[chosen].sum()) for chosen in (plan.is_full, ~plan.is_full))
    empty = grid.q_blocks * grid.kv_blocks - full - partial
    return (
        f"{full:,} full, {partial:,} partial and {empty:,} empty blocks of {grid.q_size} x {grid.kv_size}; "
        f"density {plan.density:.4g}"
    )


def _given_to_sdpa(prepared: PreparedMask) -> str:
    simple = prepared.without_tensor()
    if simple is None:
        queries, keys = prepared.geometry.q_length, prepared.geometry.kv_length
        return f"a boolean mask, {queries} x {keys}: {queries * keys:,} bytes"
    return "is_causal=True and no mask" if simple.is_causal else "no mask, since it hides nothing"


def _save(request: Request, drawing: Drawing) -> None:
    if request.svg is not None:
        _write(request.svg, drawing.svg().encode())
    if request.png is not None:
        _write(request.png, drawing.png())


def _write(path: Path, image: bytes) -> None:
    try:
        path.write_bytes(image)
    except OSError as error:
        raise InvalidConfig(
            f"an image must go to a file that can be written, got {str(path)!r}: {error.strerror}; "
            "name a file in a folder that exists"
        ) from None


def tensors_of(given: tuple[str, ...]) -> dict[str, Tensor]:
    """What `ids=0,0,1,1` and `keep=true,true,false` name: tensors of one batch row.

    Raises:
        InvalidConfig: one is written otherwise.

    Example:
        >>> tensors_of(("ids=0,0,1", "keep=true,false"))
        {'ids': tensor([[0, 0, 1]]), 'keep': tensor([[ True, False]])}
    """
    return dict(map(_tensor, given))


def _tensor(text: str) -> tuple[str, Tensor]:
    name, _, entries = text.partition("=")
    words = [each.strip().lower() for each in entries.split(",")]
    try:
        values = [_WORDS[each] for each in words] if words[0] in _WORDS else [int(each) for each in words]
        if name.isidentifier():
            return name, torch.tensor([values])
    except (KeyError, ValueError, RuntimeError):
        pass
    raise InvalidConfig(
        f"--tensor must be a name and its integers, or its true and false, got {text!r}; "
        "write it like ids=0,0,1,1 or keep=true,true,false"
    )


def _spells(text: str) -> bool:
    """Whether the standard output can spell it."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
