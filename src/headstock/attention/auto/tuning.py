"""`tune`: every entry timed on this machine over a grid of calls, and the coefficients that explain the times."""

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor
from torch.utils.benchmark import Timer

from headstock.attention.auto.costs import Cost, Terms, predicted
from headstock.attention.auto.decisions import figures_for
from headstock.attention.auto.figures import ALL
from headstock.attention.auto.fitting import fitted
from headstock.attention.auto.grid import TimedCall, calls_for
from headstock.attention.auto.measured import DeviceTable, device_name
from headstock.attention.auto.model import PLAIN, Profile, compiles_first, label_of, terms_of, way_of
from headstock.attention.auto.profiles import default_profile
from headstock.attention.auto.ranking import entries_of
from headstock.attention.call import Call, bound_mask
from headstock.attention.choice import Chosen, choose
from headstock.attention.contract import AttentionFunction
from headstock.attention.request import Request, request_of
from headstock.attention.run import run
from headstock.attention.situation import Situation, situation_of
from headstock.errors import HeadstockError
from headstock.masks import PreparedMask

__all__ = ["tune"]

_FEWEST: Final = 3
"""Calls from which a row is fitted; with fewer, the numbers that hold already are better."""

Rows = dict[str, list[tuple[Terms, float]]]
Progress = Callable[[int, int, str], None]


def tune(
    interface: Mapping[str, AttentionFunction],
    *,
    device: str = "cpu",
    quick: bool = False,
    only: Iterable[str] = (),
    seconds: float = 0.02,
    progress: Progress | None = None,
) -> DeviceTable:
    """Time the entries of `interface` on `device`, and fit what each costs.

    Entries whose first call compiles for seconds are left out unless `only` names them. An entry is timed in the calls
    that it can serve. The machine should do nothing else meanwhile.

    Args:
        interface: the table.
        device: a type of device.
        quick: fewer calls.
        only: the names to time; none: all.
        seconds: the least that one call is timed for.
        progress: is told (calls done, calls in all, what is timed).

    Raises:
        UnknownName: the table holds no entry of a name in `only`.
    """
    entries = _entries(interface, device, tuple(only))
    calls = calls_for(device, quick=quick)
    rows: Rows = {}
    for number, call in enumerate(calls):
        for entry in entries:
            if progress is not None:
                progress(number, len(calls), f"{entry.name}: {call}")
            _time(entry, call, device, seconds, rows)
    enough = {words: samples for words, samples in rows.items() if len(samples) >= _FEWEST}
    priors = default_profile(device).rows
    costs = {words: fitted(samples, _prior(priors, words)) for words, samples in enough.items()}
    return DeviceTable(
        name=device_name(device),
        torch_version=torch.__version__,
        threads=torch.get_num_threads(),
        scale=_scale(priors, rows),
        rows={words: cost.to_dict() for words, cost in costs.items()},
        samples={words: len(samples) for words, samples in enough.items()},
        error={words: _error(costs[words], samples) for words, samples in enough.items()},
    )


def _prior(rows: Mapping[str, Cost], words: str) -> Cost | None:
    """The coefficients that hold already for such a row, or for the next more general one."""
    known = words.split()
    while known:
        found = rows.get(" ".join(known))
        if found is not None:
            return replace(found, first_call=0.0)
        known.pop()
    return None


def _entries(interface: Mapping[str, AttentionFunction], device: str, only: tuple[str, ...]) -> list[Chosen]:
    for name in only:
        interface[name]  # refused where it is unknown
    profile = default_profile(device)
    probe = Situation(torch.device(device), torch.float32, 1, 1, 1, 1, 1, 16, 16)
    return [
        entry
        for name, entry in entries_of(interface).items()
        if not isinstance(entry, str)
        and (name in only if only else not compiles_first(profile, name, entry.contract, probe))
    ]


def _time(entry: Chosen, call: TimedCall, device: str, seconds: float, rows: Rows) -> None:
    """Enter the time of one call under the words of its row; a call that the entry cannot serve is passed over."""
    operands, mask = call.operands(device), call.mask_on(device)
    request = request_of(call.head_dim, scaling=None, dropout=call.dropout, softcap=call.softcap)
    with torch.set_grad_enabled(call.training):
        found = _described(entry, call, operands, mask, request)
        if found is None:
            return
        words, terms = found
        try:
            micros = _microseconds(entry, operands, mask, request, seconds)
        except (HeadstockError, NotImplementedError, RuntimeError):
            return
    rows.setdefault(words, []).append((terms, micros))


def _described(
    entry: Chosen, call: TimedCall, operands: tuple[Tensor, Tensor, Tensor], mask: object, request: Request
) -> tuple[str, Terms] | None:
    """The row that the call belongs to and its terms; None for one that another entry's kernel serves."""
    situation, profile = situation_of(*operands, request), default_profile(operands[0].device.type)
    prepared = bound_mask(mask, operands[0], operands[1])  # type: ignore[arg-type]
    is_kept = isinstance(mask, PreparedMask)
    figures = ALL if prepared is None else figures_for(prepared, situation, _looking(profile), is_kept=is_kept)
    label = label_of(entry.name, entry.contract)
    way = way_of(label, situation, request, figures)
    if way.startswith(PLAIN):
        return None
    half = "half" if situation.dtype.itemsize < 4 else ""
    words = " ".join(filter(None, (label, way, half, "training" if call.training else "")))
    threads = torch.get_num_threads() if profile.threads else 1
    terms = terms_of(situation, entry.contract.mask, figures, threads=threads)
    return words, terms._replace(first_call=0.0)


def _looking(profile: Profile) -> Profile:
    """The profile under which every mask is planned, so that its share is known."""
    return Profile(rows=profile.rows, neutral=profile.neutral, rough=0.0, planned=0.0)


def _microseconds(
    entry: Chosen, operands: tuple[Tensor, Tensor, Tensor], mask: object, request: Request, seconds: float
) -> float:
    query, key, value = operands
    chosen = choose({entry.name: entry.function}, entry.name, request, operands, masked=mask is not None)

    def once() -> None:
        bound = bound_mask(mask, query, key)  # type: ignore[arg-type]
        output = run(chosen, None, Call(query, key, value, bound, request)).output
        if query.requires_grad:
            torch.autograd.grad(output.sum(), operands)

    once()
    timer = Timer("once()", globals={"once": once}, num_threads=torch.get_num_threads())
    return float(timer.blocked_autorange(min_run_time=seconds).median * 1e6)


def _scale(priors: Mapping[str, Cost], rows: Rows) -> float:
    """How many times longer than known the calls took, in the median; 1 where nothing is known."""
    ratios = [
        time / predicted(known, terms)
        for words, samples in rows.items()
        for terms, time in samples
        if (known := _prior(priors, words)) is not None
    ]
    return round(statistics.median(ratios), 4) if ratios else 1.0


def _error(cost: Cost, samples: list[tuple[Terms, float]]) -> float:
    return round(statistics.median(_errors(cost, samples)), 3)


def _errors(cost: Cost, samples: list[tuple[Terms, float]]) -> Iterator[float]:
    for terms, time in samples:
        yield abs(predicted(cost, terms) / time - 1.0) if time else math.inf
