"""From a mask to packed sequences: runs of tokens with equal labels, matched between queries and keys."""

from typing import NamedTuple, Self

import torch
from jaxtyping import Bool, Int, Int32
from torch import Tensor

from headstock.errors import UnsupportedFeature
from headstock.masks.contract import Predicate
from headstock.masks.geometry import Geometry
from headstock.masks.mask import Mask
from headstock.masks.predicate import Band, patterns_of
from headstock.masks.segments import Parts, parts_of, told
from headstock.masks.sequences import Places, Within
from headstock.masks.tracing import is_readable
from headstock.masks.varlen import Varlen
from headstock.masks.windows import KernelWindow, Span, shared_window, window_of_lengths

__all__ = ["varlen_of"]

_WHAT = "cumulative lengths"
_LARGEST = 2**31 - 1


def varlen_of(mask: Mask, geometry: Geometry, device: torch.device | None) -> Varlen:
    """See `to_varlen`."""
    if geometry.batch_size * max(geometry.q_length, geometry.kv_length) > _LARGEST:
        raise UnsupportedFeature(
            f"the tokens of all batch rows must be at most {_LARGEST} to have {_WHAT} in int32, got "
            f"{geometry.batch_size} rows of {max(geometry.q_length, geometry.kv_length)}; pack fewer rows at once"
        )
    parts = parts_of(*_within(mask, geometry), _WHAT)
    q_offset, kv_offset = geometry.q_offset, geometry.kv_offset
    without_values = not (isinstance(mask.predicate, Within) or parts.labelled or parts.kept)
    if without_values and not isinstance(q_offset, Tensor) and not isinstance(kv_offset, Tensor):
        window = window_of_lengths(parts.band, q_offset, geometry.q_length, kv_offset, geometry.kv_length)
        if isinstance(window, KernelWindow):
            return _of_whole_rows(window, geometry, device)
    _check_readable(mask, geometry)
    return _of_values(mask, parts, geometry, device)


def _of_whole_rows(window: KernelWindow, geometry: Geometry, device: torch.device | None) -> Varlen:
    """Every batch row is a sequence of all its tokens."""
    batch_size, q_length, kv_length = geometry.batch_size, geometry.q_length, geometry.kv_length
    rows = torch.arange(batch_size + 1, dtype=torch.int32, device=device)
    return Varlen(
        rows * q_length, rows * kv_length, q_length, kv_length, *window, None, None, (batch_size, q_length, kv_length)
    )


def _check_readable(mask: Mask, geometry: Geometry) -> None:
    tensors = [tensor for pattern in patterns_of(mask.predicate) for tensor in pattern.tensors()]
    tensors += [each for each in (geometry.q_offset, geometry.kv_offset) if isinstance(each, Tensor)]
    if torch.compiler.is_compiling() or not all(map(is_readable, tensors)):
        raise UnsupportedFeature(
            f"the values that {_WHAT} depend on must be read before compiling, got {told(mask.predicate, geometry)}; "
            "call `prepare(mask, geometry).varlen()` outside of the compiled function"
        )


class _Tokens(NamedTuple):
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


class _Runs(NamedTuple):
    """Tokens with equal labels that follow each other."""

    start: Int[Tensor, " runs"]
    length: Int[Tensor, " runs"]

    @classmethod
    def of(cls, tokens: _Tokens) -> Self:
        """All runs, in order."""
        begins = torch.ones_like(tokens.number, dtype=torch.bool)
        begins[1:] = (tokens.labels[1:] != tokens.labels[:-1]).any(1)
        start = begins.nonzero().squeeze(1)
        return cls(start, torch.diff(start, append=start.new_tensor([len(tokens.number)])))

    def span(self, tokens: _Tokens, chosen: Int[Tensor, " chosen"]) -> Span:
        """The extent of some of them."""
        start, length = self.start[chosen], self.length[chosen]
        return Span(tokens.position[start], tokens.position[start + length - 1], length)


class _Packed(NamedTuple):
    """Queries and keys in the order of their sequences: the runs of queries, each with its keys."""

    queries: _Tokens
    keys: _Tokens
    q_runs: _Runs
    k_runs: _Runs

    @classmethod
    def of(cls, mask: Mask, queries: _Tokens, keys: _Tokens) -> Self:
        """Match the runs, and leave out keys that no query asks for; a sequence may have no keys."""
        q_runs, k_runs = _Runs.of(queries), _Runs.of(keys)
        match = _matching(mask, queries.labels[q_runs.start], keys.labels[k_runs.start])
        found = match >= 0
        count = q_runs.length.new_zeros(len(match)).masked_scatter(found, k_runs.length[match[found]])
        start = count.cumsum(0) - count
        old = torch.zeros_like(start).masked_scatter(found, k_runs.start[match[found]])
        order = torch.repeat_interleave(old - start, count) + torch.arange(int(count.sum()), device=count.device)
        return cls(queries, keys.at(order), q_runs, _Runs(start, count))

    def window(self, band: Band) -> KernelWindow | str:
        """The window of all sequences, else the rule that they break."""
        seen = self.k_runs.length.nonzero().squeeze(1)
        return shared_window(band, self.q_runs.span(self.queries, seen), self.k_runs.span(self.keys, seen))

    def trimmed(self, band: Band) -> tuple[_Tokens, _Tokens]:
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


def _of_values(mask: Mask, parts: Parts, geometry: Geometry, device: torch.device | None) -> Varlen:
    q_places, kv_places = _places(mask, geometry, device)
    queries, keys = _Tokens.of(parts, q_places, keys=False), _Tokens.of(parts, kv_places, keys=True)
    packed = _Packed.of(mask, queries, keys)
    window = packed.window(parts.band)
    if isinstance(window, str):
        packed = _Packed.of(mask, *packed.trimmed(parts.band))
        window = packed.window(parts.band)
    if isinstance(window, str):
        raise UnsupportedFeature(
            f"{window} to have {_WHAT}, got {told(mask.predicate, geometry)}; hide padding from queries too, by "
            "blockwise(torch.where(keep, 0, -1)), or use a representation that takes any mask, such as 'plan'"
        )
    extent = (geometry.batch_size, geometry.q_length, geometry.kv_length)
    return Varlen(
        _cumulative(packed.q_runs),
        _cumulative(packed.k_runs),
        _longest(packed.q_runs),
        _longest(packed.k_runs),
        *window,
        _unless_all(packed.queries.number, extent[0] * extent[1]),
        _unless_all(packed.keys.number, extent[0] * extent[2]),
        extent,
    )


def _within(mask: Mask, geometry: Geometry) -> tuple[Predicate, Geometry]:
    """The predicate that holds for positions in sequences, and an extent that has them all."""
    if not isinstance(mask.predicate, Within):
        return mask.predicate, geometry
    most = geometry.q_length + geometry.kv_length
    return mask.predicate.predicate, Geometry(mask.predicate.sequences, most, most)


def _places(mask: Mask, geometry: Geometry, device: torch.device | None) -> tuple[Places, Places]:
    """The batch row and the absolute index of queries and keys, `[batch, length]`."""
    rows = torch.arange(geometry.batch_size, device=device)[:, None]
    queries, keys = (each.expand(len(rows), -1) for each in (geometry.q_idx(device), geometry.kv_idx(device)))
    if isinstance(mask.predicate, Within):
        return mask.predicate.queries.at(queries), mask.predicate.keys.at(keys)
    return Places(rows.expand_as(queries), queries), Places(rows.expand_as(keys), keys)


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
            f"the tokens of one document must follow each other to have {_WHAT}, got an id in several places of a row "
            f"in {told(mask.predicate)}; give each run of tokens an id of its own, or use a representation that takes "
            "any mask, such as 'plan'"
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


def _cumulative(runs: _Runs) -> Int32[Tensor, " sequences_and_one"]:
    return torch.cat([runs.length.new_zeros(1), runs.length.cumsum(0)]).to(torch.int32)


def _longest(runs: _Runs) -> int:
    return int(runs.length.max()) if len(runs.length) else 0


def _unless_all(numbers: Int[Tensor, " tokens"], total: int) -> Int[Tensor, " tokens"] | None:
    everything = len(numbers) == total and bool((numbers == torch.arange(total, device=numbers.device)).all())
    return None if everything else numbers
