"""What `import headstock` costs over `import torch`, in fresh interpreters under `-X importtime`."""

import re
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.compare import Result, Settings, Target, compared

__all__ = ["Cost", "cost", "package", "run"]

MOST_SECONDS = 0.5
_LINE = re.compile(r"^import time:\s+(\d+) \|\s+\d+ \| ( *)(\S+)$", re.MULTILINE)


class Cost(NamedTuple):
    """What one interpreter spent on a module: seconds by the settings' clock, wall microseconds by package."""

    seconds: float
    micros: Counter[str]


def run(
    settings: Settings,
    *,
    base: str = "torch",
    modules: Sequence[str] = ("headstock", "transformers.modeling_utils"),
) -> list[Result]:
    """Seconds of each module over `base`, the median of several interpreters, taken in turn."""
    for module in modules:  # the first run may write bytecode
        cost(base, module)
    costs: dict[str, list[Cost]] = {f"import {module}": [] for module in modules}
    for _ in range(min(settings.pairs, 5)):
        for module in modules:
            costs[f"import {module}"].append(cost(base, module, clock=settings.clock))
    samples = {name: [each.seconds for each in runs] for name, runs in costs.items()}
    targets = {f"import {modules[1]}": Target(MOST_SECONDS, of="value")}
    note = "; ".join(f"{name}: {_largest([each.micros for each in runs])}" for name, runs in costs.items())
    return compared("imports", f"over import {base}", samples, targets=targets, note=note)


def cost(base: str, module: str, *, clock: str = "wall") -> Cost:
    """Import `base` and then `module` in a fresh interpreter."""
    # A module's wall time is the sum of the times of all that it brings: what -X importtime reports as cumulative.
    code = f"import time, {base}\nbefore = time.process_time()\nimport {module}\nprint(time.process_time() - before)"
    command = [sys.executable, "-X", "importtime", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    spent: Counter[str] = Counter()
    started = False
    for micros, indent, name in _LINE.findall(done.stderr):
        if started:
            spent[package(name)] += int(micros)
        started = started or (name == base and not indent)
    return Cost(float(done.stdout.splitlines()[-1]) if clock == "cpu" else spent.total() / 1e6, spent)


def package(name: str) -> str:
    """The package of a module; of headstock, and of torch, most of which is loaded, the sub-package."""
    return ".".join(name.split(".")[: 2 if name.startswith(("headstock.", "torch.")) else 1])


def _largest(runs: Sequence[Counter[str]], count: int = 6) -> str:
    names = set().union(*runs)
    medians = {name: statistics.median(each[name] for each in runs) for name in names}
    largest = sorted(medians.items(), key=lambda item: -item[1])[:count]
    return ", ".join(f"{name} {micros / 1e3:.0f} ms" for name, micros in largest)
