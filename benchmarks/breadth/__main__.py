"""`python -m benchmarks.breadth`: every language architecture of transformers with headstock and with sdpa."""

import argparse
import os
import warnings
from collections import Counter
from collections.abc import Sequence

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from benchmarks.breadth.cases import Case, cases
from benchmarks.breadth.checking import Verdict, check
from headstock.integrations.transformers import install

__all__ = ["main"]

Row = tuple[Case, dict[str, Verdict]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Check what was asked for, everything by default, and print the table and the counts."""
    options = _parser().parse_args(arguments)
    install()
    warnings.simplefilter("ignore")  # of architectures with attention of their own: the table says so
    chosen = cases(options.tasks, options.kinds)[options.part - 1 :: options.parts]
    rows: list[Row] = []
    print(f"| task | architecture | {' | '.join(options.implementations)} |")
    print(f"|---|---|{'---|' * len(options.implementations)}")
    for case in chosen:
        found = {name: check(case, name) for name in options.implementations}
        rows.append((case, found))
        print(f"| {case.task} | {case.kind} | {' | '.join(map(_cell, found.values()))} |", flush=True)
    print()
    for task in options.tasks:
        for name in options.implementations:
            counts = Counter(found[name].outcome for case, found in rows if case.task == task)
            print(f"{task}, {name}: {', '.join(f'{count} {outcome}' for outcome, count in counts.most_common())}")


def _cell(verdict: Verdict) -> str:
    if verdict.outcome == "equal":
        return f"equal ({verdict.error:.0e}, {verdict.layers} layers)"
    error = f" ({verdict.error:.1e})" if verdict.outcome == "wrong" else ""
    return f"{verdict.outcome}{error}: {verdict.reason}".replace("|", "\\|")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.breadth", description=__doc__)
    parser.add_argument("kinds", nargs="*", help="architectures by their model_type; all by default")
    parser.add_argument("--tasks", nargs="+", default=["causal", "masked", "seq2seq"], help="%(default)s")
    parser.add_argument("--implementations", nargs="+", default=["headstock", "sdpa"], help="%(default)s")
    parser.add_argument("--part", type=int, default=1, help="which of the parts to check (%(default)s)")
    parser.add_argument("--parts", type=int, default=1, help="into how many parts to divide (%(default)s)")
    return parser


if __name__ == "__main__":
    main()
