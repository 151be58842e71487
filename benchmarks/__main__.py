"""Runs the benchmarks and prints one table: what was measured, against what, the target, met or missed."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch

from benchmarks import (
    attention,
    auto,
    blocked,
    checkpointing,
    conv1d,
    generate,
    generation,
    imports,
    long_context,
    lookup,
    masks,
    models,
    rotation,
)
from benchmarks.compare import Result, Settings, table
from benchmarks.record import environment, write

BENCHMARKS: dict[str, Callable[[Settings], list[Result]]] = {
    "imports": imports.run,
    "lookup": lookup.run,
    "conv1d": conv1d.run,
    "attention": attention.run,
    "masks": masks.run,
    "blocked": blocked.run,
    "auto": auto.run,
    "checkpointing": checkpointing.run,
    "models": models.run,
    "generation": generation.run,
    "generate": generate.run,
    "rotation": rotation.run,
    "long_context": long_context.run,
}
CLOCKS = {"wall": "wall", "cpu": "processor time on one thread, wall on two"}
RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what was asked for, all by default; progress goes to the standard error."""
    options = _parser().parse_args(arguments)
    settings = Settings(options.pairs, options.seconds, options.tiny, options.clock)
    figures = f"medians of {settings.pairs} measurements (imports 5), taken in turn, and of the ratios of the pairs"
    about = {**environment(), "clock": CLOCKS[settings.clock], "figures": figures}
    results: list[Result] = []
    for name in options.names or BENCHMARKS:
        results += _run(name, settings)
    for key, value in about.items():
        print(f"{key}: {value}")
    print()
    print(table(results))
    missed = [each for each in results if each.met is False]
    print(f"\n{sum(each.met is True for each in results)} targets met, {len(missed)} missed")
    if options.record:
        write(RESULTS, options.record, results, about)


def _run(name: str, settings: Settings) -> list[Result]:
    started = time.monotonic()
    print(f"{name} ...", end=" ", file=sys.stderr, flush=True)
    torch.manual_seed(0)
    results = BENCHMARKS[name](settings)
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)
    return results


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], metavar="name", help=", ".join(BENCHMARKS))
    parser.add_argument("--pairs", type=int, default=Settings.pairs, help="measurements of each (%(default)s)")
    parser.add_argument("--seconds", type=float, default=Settings.seconds, help="the least of each (%(default)s)")
    parser.add_argument("--tiny", action="store_true", help="sizes that show that the code runs, and nothing else")
    parser.add_argument("--clock", choices=CLOCKS, default=Settings.clock, help="cpu: for a machine that others use")
    parser.add_argument("--record", metavar="NAME", help=f"write {RESULTS.name}/NAME.md and .json")
    return parser


if __name__ == "__main__":
    main()
