"""Tokens with equal labels that follow each other, matched between queries and keys."""

from typing import NamedTuple, Self

import torch
from jaxtyping import Bool, Int, Int32
from torch import Tensor

from headstock.errors import UnsupportedFeature
from headstock.masks.mask import Mask
from headstock.masks.predicate import Band
from headstock.masks.segments import Parts, told
from headstock.masks.sequences import Places
from headstock.masks.windows import KernelWindow, Span, shared_window

__all__ = ["CUMULATIVE_LENGTHS", "Packed", "Runs", "Tokens", "cumulative", "longest", "unless_all"]

CUMULATIVE_LENGTHS = "cumulative lengths"
"""What messages call the representation."""


class Tokens(NamedTuple):
    """The tokens of one side, row after row."""

    number: Int[Tensor, " tokens"]
    position: Int[Tensor, " tokens"]
    labels: Int[Tensor, "tokens labels"]

    @classmethod
    def of(cls, parts: Parts, places: Places, *, keys: bool) -> Self:
        """Those that may be seen, or see; the first label is the batch row."""
        batch_idx, index = places
        labels = [batch_idx, *parts.labels(batch_idx, index)]
        kept = (parts.keeps_key if keys else parts.keeps)(batch_idx, index).flatten()
        tokens = cls(
            torch.arange(index.numel(), device=index.device),
            index.flatten(),
            torch.stack([each.flatten().long() for each in labels], 1),
        )
        return tokens if bool(kept.all()) else tokens.at(kept)

    def at(self, chosen: Bool[Tensor, " tokens"] | Int[Tensor, " chosen"]) -> Self:
        """Some of them."""
        return type(self)(*(each[chosen] for each in self))


class Runs(NamedTuple):
    """Tokens with equal labels that follow each other."""

    start: Int[Tensor, " runs"]
    length: Int[Tensor, " runs"]

    @classmethod
    def of(cls, tokens: Tokens) -> Self:
        """All runs, in order."""
        begins = torch.ones_like(tokens.number, dtype=torch.bool)
        begins[1:] = (tokens.labels[1:] != tokens.labels[:-1]).any(1)
        start = begins.nonzero().squeeze(1)
        return cls(start, torch.diff(start, append=start.new_tensor([len(tokens.number)])))

    def span(self, tokens: Tokens, chosen: Int[Tensor, " chosen"]) -> Span:
        """The extent of some of them."""
        start, length = self.start[chosen], self.length[chosen]
        return Span(tokens.position[start], tokens.position[start + length - 1], length)


class Packed(NamedTuple):
    """Queries and keys in the order of their sequences: the runs of queries, each with its keys."""

    queries: Tokens
    keys: Tokens
    q_runs: Runs
    k_runs: Runs

    @classmethod
    def of(cls, mask: Mask, queries: Tokens, keys: Tokens) -> Self:
        """Match the runs, and leave out keys that no query asks for; a sequence may have no keys."""
        q_runs, k_runs = Runs.of(queries), Runs.of(keys)
        match = _matching(mask, queries.labels[q_runs.start], keys.labels[k_runs.start])
        found = match >= 0
        count = q_runs.length.new_zeros(len(match)).masked_scatter(found, k_runs.length[match[found]])
        start = count.cumsum(0) - count
        old = torch.zeros_like(start).masked_scatter(found, k_runs.start[match[found]])
        order = torch.repeat_interleave(old - start, count) + torch.arange(int(count.sum()), device=count.device)
        return cls(queries, keys.at(order), q_runs, Runs(start, count))

    def window(self, band: Band) -> KernelWindow | str:
        """The window of all sequences, else the rule that they break."""
        seen = self.k_runs.length.nonzero().squeeze(1)
        return shared_window(band, self.q_runs.span(self.queries, seen), self.k_runs.span(self.keys, seen))

    def trimmed(self, band: Band) -> tuple[Tokens, Tokens]:
        """Without the tokens of either end of a sequence that see nothing, or that nothing sees."""
        seen = self.k_runs.length.nonzero().squeeze(1)
        queries, keys = self.q_runs.span(self.queries, seen), self.k_runs.span(self.keys, seen)
        q_kept = torch.ones_like(self.queries.position, dtype=torch.bool)
        k_kept = torch.ones_like(self.keys.position, dtype=torch.bool)
        in_seen = torch.repeat_interleave(self.k_runs.length > 0, self.q_runs.length)
        q_index = self.queries.position[in_seen]
        if band.upper is not None:
            q_kept[in_seen] &= q_index + band.upper >= keys.first.repeat_interleave(queries.length)
            k_kept &= self.keys.position <= (queries.last + band.upper).repeat_interleave(keys.length)
        if band.lower is not None:
            q_kept[in_seen] &= q_index + band.lower <= keys.last.repeat_interleave(queries.length)
            k_kept &= self.keys.position >= (queries.first + band.lower).repeat_interleave(keys.length)
        return self.queries.at(q_kept), self.keys.at(k_kept)


def _matching(
    mask: Mask, queries: Int[Tensor, "q_runs labels"], keys: Int[Tensor, "k_runs labels"]
) -> Int[Tensor, " q_runs"]:
    """The run of keys of each run of queries, -1 for none.

    Raises:
        UnsupportedFeature: one side has several runs that the other one asks for.
    """
    codes = _codes(torch.cat([queries, keys]))
    q_code, k_code = codes.split([len(queries), len(keys)])
    total = len(codes)
    in_queries, in_keys = torch.bincount(q_code, minlength=total), torch.bincount(k_code, minlength=total)
    if bool(((in_queries > 1) & (in_keys > 0) | (in_keys > 1) & (in_queries > 0)).any()):
        raise UnsupportedFeature(
            f"the tokens of one document must follow each other to have {CUMULATIVE_LENGTHS}, got an id in several "
            f"places of a row in {told(mask.predicate)}; give each run of tokens an id of its own, or use a "
            "representation that takes any mask, such as 'plan'"
        )
    run = torch.full_like(in_keys, -1)
    run[k_code] = torch.arange(len(k_code), device=run.device)
    return run[q_code]


def _codes(labels: Int[Tensor, "runs labels"]) -> Int[Tensor, " runs"]:
    """One number for each combination of labels, below the number of runs."""
    codes = torch.zeros_like(labels[:, 0])
    # Columns sort faster than rows.
    for column in labels.unbind(1):
        values, found = torch.unique(column, return_inverse=True)
        codes = torch.unique(codes * len(values) + found, return_inverse=True)[1]
    return codes


def cumulative(lengths: Int[Tensor, " sequences"]) -> Int32[Tensor, " sequences_and_one"]:
    """Where each sequence begins, and the last one ends."""
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).to(torch.int32)


def longest(lengths: Int[Tensor, " sequences"]) -> int:
    """The largest length; 0 where there is none."""
    return int(lengths.max()) if len(lengths) else 0


def unless_all(numbers: Int[Tensor, " tokens"], total: int) -> Int[Tensor, " tokens"] | None:
    """The numbers of some of `total` tokens; None where they are all of them, in order."""
    everything = len(numbers) == total and bool((numbers == torch.arange(total, device=numbers.device)).all())
    return None if everything else numbers
