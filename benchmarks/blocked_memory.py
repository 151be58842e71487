"""One forward and backward pass of block-sparse attention in a process of its own: seconds, and the peak of memory."""

import json
import sys
import time

import torch

from benchmarks.memory import memory
from headstock import attend
from headstock.masks import Geometry, Mask, causal, documents, prepare, sliding_window


def main(kind: str, batch: int, heads: int, tokens: int, head_dim: int) -> None:
    """Print the figures as JSON."""
    torch.set_num_threads(2)
    operands = [torch.randn(batch, heads, tokens, head_dim, requires_grad=True) for _ in range(3)]
    _pass([each[:1, :1, :256] for each in operands], causal() & sliding_window(32))  # loads what is loaded once
    before = memory("VmRSS")
    started = time.perf_counter()
    prepared = prepare(_mask(kind, tokens), Geometry(batch, tokens, tokens, heads=heads))
    prepared.causal_or_blocks()
    planned = time.perf_counter()
    output = attend(*operands, mask=prepared, implementation="blocked")
    done = time.perf_counter()
    torch.autograd.grad(output, operands, torch.ones(()).expand_as(output))
    ended = time.perf_counter()
    seconds = {"plan": planned - started, "forward": done - planned, "backward": ended - done}
    print(json.dumps({**seconds, "bytes": float(memory("VmHWM") - before)}))


def _pass(operands: list[torch.Tensor], mask: Mask) -> None:
    attend(*operands, mask=mask, implementation="blocked").sum().backward()


def _mask(kind: str, tokens: int) -> Mask:
    if kind == "window":
        return causal() & sliding_window(512)
    lengths = torch.randint(200, 2000, (tokens // 200 + 1,), generator=torch.Generator().manual_seed(0))
    return causal() & documents(torch.repeat_interleave(torch.arange(len(lengths)), lengths)[None, :tokens])


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
