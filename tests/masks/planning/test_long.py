"""Plans of sequences that no dense mask fits in memory."""

import resource
from pathlib import Path

import torch
from torch import Tensor

from headstock.masks import BlockPlan, Geometry, causal, documents, plan, sliding_window

MILLION = 1_000_000
BLOCK = 128


def packed(tokens: int) -> Tensor:
    """Documents of 300 to 5,000 tokens, `[1, tokens]`; their ids in any order."""
    lengths = torch.randint(300, 5001, (tokens // 300,))
    return torch.repeat_interleave(torch.randperm(len(lengths)), lengths)[None, :tokens]


def check_runs(found: BlockPlan, ids: Tensor) -> None:
    """Each row of blocks against the documents of its queries: from the first's beginning, in runs that rise."""
    begins = torch.cat([torch.tensor([0]), ids.diff().nonzero()[:, 0] + 1])
    first = begins[torch.searchsorted(begins, torch.arange(len(ids)), right=True) - 1]  # of each token's document
    queries = torch.arange(0, len(ids), BLOCK)
    rows = found.block_rows()
    assert torch.equal(found.starts[found.first_run[:-1]], first[queries] // BLOCK)
    last_of_row = found.first_run[1:] - 1
    assert torch.equal(found.ends[last_of_row], torch.arange(len(queries)) + 1)
    inside = rows[1:] == rows[:-1]
    assert torch.equal(found.starts[1:][inside], found.ends[:-1][inside])  # documents are contiguous: no gaps
    # Full: one document holds all queries and keys of the run, and the keys end before the queries begin.
    full, q_last = found.is_full, torch.clamp(queries + BLOCK, max=len(ids)) - 1
    assert full.any()
    assert (first[q_last[rows[full]]] <= found.starts[full] * BLOCK).all()
    assert (found.ends[full] * BLOCK - 1 <= queries[rows[full]]).all()


def test_a_million_tokens_of_documents() -> None:
    ids = packed(MILLION)
    check_runs(plan(causal() & documents(ids), Geometry(1, MILLION, MILLION)), ids[0])


def test_four_million_tokens_of_a_window() -> None:
    tokens, size = 4 * 2**20, 8192
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = plan(causal() & sliding_window(size), Geometry(1, tokens, tokens))
    blocks = tokens // BLOCK
    row = torch.arange(blocks)
    # Query q sees keys from q - size + 1 on: the first of a row of blocks those of `size / BLOCK` blocks before.
    assert torch.equal(found.starts[found.first_run[:-1]], torch.clamp(row - size // BLOCK, min=0))
    assert torch.equal(found.ends[found.first_run[1:] - 1], row + 1)
    if Path("/proc/self/status").is_file():  # where the unit is known: KiB
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500 * 10**6 / 1024
