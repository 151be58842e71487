"""Interleaved timings of contestants that do the same work, the ratios of their pairs, and the table of them."""

import statistics
import time
import timeit
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.utils.benchmark import Timer

__all__ = ["Contestant", "Result", "Settings", "Target", "agreeing", "compared", "interleaved", "quantity", "table"]

Samples: TypeAlias = Mapping[str, Sequence[float]]
_UNITS = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (0.0, "ns")),
    "B": ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (0, "B")),
}
_SIZES = {"ns": 1e-9, "B": 1.0}


@dataclass(frozen=True)
class Settings:
    """How long to measure: `pairs` measurements of each contestant in turn, each of at least `seconds`.

    `tiny` sizes show that the code runs, and nothing about speed. The `cpu` clock counts what this process computed,
    which is what the wall clock shows on an idle machine; with several threads it is the wall clock all the same.
    """

    pairs: int = 15
    seconds: float = 0.01
    tiny: bool = False
    clock: Literal["wall", "cpu"] = "wall"

    def timer(self, contestant: "Contestant", threads: int) -> Timer:
        """Times one contestant."""
        clock = time.process_time if self.clock == "cpu" and threads == 1 else timeit.default_timer
        return Timer(contestant.statement, globals=dict(contestant.names), num_threads=threads, timer=clock)


@dataclass(frozen=True)
class Contestant:
    """A statement to time and the names that it uses."""

    name: str
    statement: str
    names: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """The most that the ratio to a contestant, or the value itself, may be."""

    most: float
    of: Literal["ratio", "value"] = "ratio"


@dataclass(frozen=True)
class Result:
    """One contestant against another; values are medians, `low` and `high` the quartiles of the pairs' ratios."""

    benchmark: str
    case: str
    threads: int
    unit: Literal["s", "B"]
    ours: str
    value: float
    against: str
    reference: float
    ratio: float
    low: float
    high: float
    pairs: int
    target: Target | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met, None without one."""
        if self.target is None:
            return None
        return (self.ratio if self.target.of == "ratio" else self.value) <= self.target.most


def agreeing(
    runs: Mapping[str, Callable[[], Any]], *, tolerance: float, form: Callable[[Any], Tensor] | None = None
) -> list[Contestant]:
    """Contestants for calls that were seen to give one result; `form` brings results into one layout, untimed."""
    wanted: Tensor | None = None
    for name, run in runs.items():
        found = run() if form is None else form(run())
        wanted = found if wanted is None else wanted
        if not torch.allclose(found, wanted, rtol=tolerance, atol=tolerance):
            raise AssertionError(f"{name} must give what {next(iter(runs))} gives within {tolerance}, and does not")
    return [Contestant(name, "run()", {"run": run}) for name, run in runs.items()]


def interleaved(contestants: Sequence[Contestant], settings: Settings, *, threads: int = 1) -> Samples:
    """Seconds per run of each contestant, measured in turn (A B A B ...): neighbours share what the machine does."""
    timers = {each.name: settings.timer(each, threads) for each in contestants}
    numbers = {name: _repetitions(timer, settings.seconds) for name, timer in timers.items()}
    samples: dict[str, list[float]] = {name: [] for name in timers}
    for _ in range(settings.pairs):
        for name, timer in timers.items():
            samples[name].append(timer.timeit(numbers[name]).median)
    return samples


def _repetitions(timer: Timer, seconds: float) -> int:
    """How many runs take about `seconds`."""
    number = 1
    while (taken := timer.timeit(number).raw_times[0]) < seconds / 4:
        number *= 4
    return max(1, round(number * seconds / taken))


def compared(
    benchmark: str,
    case: str,
    samples: Samples,
    *,
    targets: Mapping[str, Target] | None = None,
    threads: int = 1,
    unit: Literal["s", "B"] = "s",
    note: str = "",
) -> list[Result]:
    """The first contestant against each of the others; `targets` by the name of the other."""
    (ours, own), *others = samples.items()
    results = []
    for against, theirs in others:
        ratios = [a / b for a, b in zip(own, theirs, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
        results.append(
            Result(
                *(benchmark, case, threads, unit),
                *(ours, statistics.median(own), against, statistics.median(theirs)),
                *(middle, low, high, len(ratios)),
                target=(targets or {}).get(against),
                note=note if against == others[0][0] else "",
            )
        )
    return results


def quantity(value: float, unit: str) -> str:
    """A number with the prefix that suits it."""
    size, name = next((size, name) for size, name in _UNITS[unit] if value >= size)
    return f"{value / (size or _SIZES[name]):.3g} {name}"


def table(results: Iterable[Result]) -> str:
    """The results as a Markdown table that reads well as text, with notes below it."""
    kept = list(results)
    header = ("benchmark", "case", "threads", "measured", "", "against", "", "ratio (quartiles)", "target", "")
    rows = [header, *map(_row, kept)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    notes = [f"{each.benchmark}, {each.case}: {each.note}" for each in kept if each.note]
    return "\n".join([*lines, *(["", *notes] if notes else [])])


def _row(result: Result) -> tuple[str, ...]:
    wanted, verdict = "", ""
    if result.target is not None:
        of_ratio = result.target.of == "ratio"
        wanted = f"<= {result.target.most:g}" if of_ratio else f"<= {quantity(result.target.most, result.unit)}"
        verdict = "met" if result.met else "MISSED"
    return (
        *(result.benchmark, result.case, str(result.threads)),
        *(result.ours, quantity(result.value, result.unit)),
        *(result.against, quantity(result.reference, result.unit)),
        f"{result.ratio:.3f} ({result.low:.2f}-{result.high:.2f})",
        *(wanted, verdict),
    )
