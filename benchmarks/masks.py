"""Plans of masks: time against `create_block_mask` and the dense mask, and memory, up to four million tokens.

`BENCHMARK_COMPILED=1` adds `create_block_mask` compiled and warm, at some ten seconds of compilation for each mask.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from benchmarks.compare import Contestant, Result, Settings, Target, compared, interleaved
from benchmarks.memory import memory
from headstock.masks import (
    Geometry,
    Mask,
    bidirectional,
    blockwise,
    causal,
    chunked,
    dilated_window,
    documents,
    first_tokens,
    global_tokens,
    neighborhood,
    padding,
    plan,
    prefix_lm,
    prepare,
    sliding_window,
    to_block_mask,
    to_dense,
    tree,
)

__all__ = ["fresh", "run"]

Kind = Literal["window", "documents"]
BATCH = 2
LAYERS = 30
MEGABYTE = 10**6
SLOW_PAIRS = 2  # of what takes seconds
COMPILED = "BENCHMARK_COMPILED"
_ROOT = Path(__file__).parent.parent
# tokens, window, the most seconds, the most bytes
_LONG: list[tuple[Kind, int, int, float | None, float | None]] = [
    ("window", 131_072, 4096, 0.05, 40 * MEGABYTE),
    ("documents", 131_072, 4096, 0.05, 40 * MEGABYTE),
    ("documents", 1_000_000, 4096, None, None),
    ("window", 4 * 2**20, 8192, 5.0, 500 * MEGABYTE),
]


def run(settings: Settings) -> list[Result]:
    """Every pattern and the compositions in use at 8,192 tokens, then lengths that no dense mask fits in memory."""
    tokens = 512 if settings.tiny else 8192
    return [
        *(result for name, mask in _masks(tokens).items() for result in _planned(settings, name, mask, tokens)),
        *(result for case in (_LONG[:1] if settings.tiny else _LONG) for result in _long(settings, *case)),
        *_layers(settings, tokens),
    ]


def _ids(rows: int, tokens: int, longest: int) -> Tensor:
    """Documents of random lengths, from an eighth of the longest to the longest."""
    generator = torch.Generator().manual_seed(0)
    least = max(1, longest // 8)
    lengths = torch.randint(least, longest + 1, (rows, tokens // least + 1), generator=generator)
    numbers = torch.arange(lengths.shape[1])
    return torch.stack([torch.repeat_interleave(numbers, each)[:tokens] for each in lengths])


def _masks(tokens: int) -> dict[str, Mask]:
    unit = tokens // 16  # 512 of 8,192
    ids, keep = _ids(BATCH, tokens, 2 * unit), torch.arange(tokens) < torch.tensor([[tokens], [tokens // 2 + 7]])
    shuffled = torch.randperm(tokens, generator=torch.Generator().manual_seed(0))
    # A chain with a branch at every tenth token.
    parents = torch.arange(-1, tokens - 1) - torch.where(torch.arange(tokens) % 10 == 9, 5, 0)
    window, height = sliding_window(unit), tokens // 64
    return {
        "bidirectional": bidirectional(),
        "causal": causal(),
        "causal & window": causal() & window,
        "packed documents, 16 of equal length": causal() & documents((torch.arange(tokens) // unit).expand(BATCH, -1)),
        "documents": documents(ids),
        "causal & documents": causal() & documents(ids),
        "causal & documents & window": causal() & documents(ids) & window,
        "causal & documents, ids in any order": causal() & documents(shuffled[ids]),
        "blockwise, a third of the ids negative": blockwise(torch.where(ids % 3 == 0, -1, ids)),
        "causal & chunked": causal() & chunked(2 * unit),
        "chunked, a start for each row": causal() & chunked(2 * unit, torch.tensor([0, 100])),
        "prefix_lm": prefix_lm(2 * unit),
        "prefix_lm & window": prefix_lm(2 * unit) & sliding_window(unit, right=2 * unit),
        "prefix_lm | causal & window": prefix_lm(2 * unit) & sliding_window(2 * unit) | causal() & window,
        "first_tokens": first_tokens(4),
        "causal & (window | first_tokens)": causal() & (window | first_tokens(4)),
        "causal & (window | global_tokens)": causal() & (window | global_tokens([0, tokens // 2 + 5])),
        "causal & dilated": causal() & dilated_window(128, 4),
        "causal & padding": causal() & padding(keep),
        "neighborhood": neighborhood(height, 64, 6),
        "tree": tree(parents),
        "plain function, causal and window": Mask(lambda _b, _h, i, j: (j <= i) & (i - j < unit)),
        "plain function, documents": Mask(lambda b, _h, i, j: (j <= i) & (ids[b, i] == ids[b, j])),
    }


def _planned(settings: Settings, name: str, mask: Mask, tokens: int) -> list[Result]:
    geometry = Geometry(BATCH, tokens, tokens)
    runs: dict[str, Callable[[], Any]] = {
        "plan": lambda: plan(mask, geometry),
        "to_dense": lambda: to_dense(mask, geometry),
    }
    case = f"{name}, batch {BATCH}, {tokens} tokens"
    target = None if settings.tiny else Target(5e-3, of="value")
    results = _raced(settings, case, runs, targets={} if target is None else {"to_dense": target})
    return results + _block_masks(settings, case, mask, geometry)


def _block_masks(settings: Settings, case: str, mask: Mask, geometry: Geometry) -> list[Result]:
    """torch's `BlockMask` from the plan, and from every pair."""
    extent = (geometry.batch_size, 1, geometry.q_length, geometry.kv_length)
    ours, theirs = to_block_mask(mask, geometry), create_block_mask(mask, *extent, device="cpu")
    _same(ours, theirs, case)
    runs: dict[str, Callable[[], Any]] = {
        "to_block_mask": lambda: to_block_mask(mask, geometry),
        "create_block_mask": lambda: create_block_mask(mask, *extent, device="cpu"),
    }
    if COMPILED in os.environ:
        compiled = torch.compile(create_block_mask)
        runs["create_block_mask, compiled"] = lambda: compiled(mask, *extent, device="cpu")
        runs["create_block_mask, compiled"]()
    return _raced(replace(settings, pairs=min(settings.pairs, SLOW_PAIRS)), case, runs)


def _same(ours: BlockMask, theirs: BlockMask, case: str) -> None:
    """Refuse to race what differs."""
    for part in ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices"):
        left, right = getattr(ours, part), getattr(theirs, part)
        if not torch.equal(left.expand_as(right), right):
            raise AssertionError(f"{case}: the block mask of the plan must be create_block_mask's, and {part} is not")


def _long(
    settings: Settings, kind: Kind, tokens: int, size: int, seconds: float | None, most: float | None
) -> list[Result]:
    """A plan in a fresh process: its time against that of a sixteenth of the tokens, its memory against S x S bytes."""
    tokens, size = (tokens // 64, size // 64) if settings.tiny else (tokens, size)
    measured, short = (fresh(kind, each, size, settings.clock) for each in (tokens, tokens // 16))
    case = f"{kind} of up to {size}, causal, batch 1, {tokens} tokens, a fresh process"
    timed = {"plan": [measured["seconds"]], f"plan, {tokens // 16} tokens": [short["seconds"]]}
    kept = {"plan, memory": [measured["bytes"]], "dense mask": [float(tokens) ** 2]}
    limits = {} if seconds is None or settings.tiny else {f"plan, {tokens // 16} tokens": Target(seconds, of="value")}
    limits_of_memory = {} if most is None or settings.tiny else {"dense mask": Target(most, of="value")}
    return [
        *compared("masks", case, timed, targets=limits, note=f"{measured['runs']:.0f} runs of blocks"),
        *compared("masks", case, kept, targets=limits_of_memory, unit="B"),
    ]


def fresh(kind: Kind, tokens: int, size: int, clock: str = "wall") -> dict[str, float]:
    """Least seconds of five plans, and the bytes that the first added to the peak of its process."""
    code = f"from benchmarks.masks import measure; measure({kind!r}, {tokens}, {size}, {clock!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=_ROOT)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure(kind: Kind, tokens: int, size: int, clock: str) -> None:
    """Print what `fresh` reports; to be run in a process of its own."""
    torch.set_num_threads(1)
    mask = causal() & (sliding_window(size) if kind == "window" else documents(_ids(1, tokens, size)))
    small = causal() & (sliding_window(64) if kind == "window" else documents(_ids(1, 4096, 64)))
    plan(small, Geometry(1, 4096, 4096))  # what torch loads at first use is not the plan's
    geometry = Geometry(1, tokens, tokens)
    before = memory("VmRSS")
    found = plan(mask, geometry)
    extra = memory("VmHWM") - before  # an upper bound: importing may have needed more for a moment
    now = time.process_time if clock == "cpu" else time.perf_counter
    seconds = []
    for _ in range(5):
        started = now()
        plan(mask, geometry)
        seconds.append(now() - started)
    print(json.dumps({"seconds": min(seconds), "bytes": float(max(extra, 0)), "runs": len(found.starts)}))


def _layers(settings: Settings, tokens: int) -> list[Result]:
    """What a model pays for its mask in one forward, and what it would pay if each layer asked anew."""
    mask, geometry = causal() & sliding_window(tokens // 16), Geometry(BATCH, tokens, tokens)

    def once() -> None:
        prepared = prepare(mask, geometry)
        for _ in range(LAYERS):
            prepared.plan()

    def every_time() -> None:
        for _ in range(LAYERS):
            prepare(mask, geometry).plan()

    runs = {f"prepare, {LAYERS} layers": once, "one plan": lambda: plan(mask, geometry), "a plan a layer": every_time}
    return _raced(settings, f"causal & window, batch {BATCH}, {tokens} tokens", runs)


def _raced(
    settings: Settings, case: str, runs: dict[str, Callable[[], Any]], *, targets: dict[str, Target] | None = None
) -> list[Result]:
    contestants = [Contestant(name, "run()", {"run": each}) for name, each in runs.items()]
    return compared("masks", case, interleaved(contestants, settings), targets=targets)
