"""What `import headstock` costs over `import torch`, in fresh interpreters under `-X importtime`."""

import re
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence

from benchmarks.compare import Result, Settings, Target, compared

__all__ = ["package", "run", "self_times"]

MOST_SECONDS = 0.5
_LINE = re.compile(r"^import time:\s+(\d+) \|\s+\d+ \| ( *)(\S+)$", re.MULTILINE)


def run(
    settings: Settings,
    *,
    base: str = "torch",
    modules: Sequence[str] = ("headstock", "transformers.modeling_utils"),
) -> list[Result]:
    """Seconds of each module over `base`, the median of several interpreters, taken in turn."""
    for module in modules:  # the first run may write bytecode
        self_times(base, module)
    found: dict[str, list[Counter[str]]] = {f"import {module}": [] for module in modules}
    for _ in range(min(settings.pairs, 5)):
        for module in modules:
            found[f"import {module}"].append(self_times(base, module))
    samples = {name: [each.total() / 1e6 for each in runs] for name, runs in found.items()}
    targets = {f"import {modules[1]}": Target(MOST_SECONDS, of="value")}
    note = "; ".join(f"{name}: {_largest(runs)}" for name, runs in found.items())
    return compared("imports", f"over import {base}", samples, targets=targets, note=note)


def self_times(base: str, module: str) -> Counter[str]:
    """Microseconds by package that an interpreter with `base` spends on importing `module`."""
    command = [sys.executable, "-X", "importtime", "-c", f"import {base}\nimport {module}"]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    spent: Counter[str] = Counter()
    started = False
    for micros, indent, name in _LINE.findall(report):
        if started:
            spent[package(name)] += int(micros)
        started = started or (name == base and not indent)
    return spent


def package(name: str) -> str:
    """The package of a module; of headstock, and of torch, most of which is loaded, the sub-package."""
    return ".".join(name.split(".")[: 2 if name.startswith(("headstock.", "torch.")) else 1])


def _largest(runs: Sequence[Counter[str]], count: int = 6) -> str:
    names = set().union(*runs)
    medians = {name: statistics.median(each[name] for each in runs) for name in names}
    largest = sorted(medians.items(), key=lambda item: -item[1])[:count]
    return ", ".join(f"{name} {micros / 1e3:.0f} ms" for name, micros in largest)
