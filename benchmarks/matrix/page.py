"""docs/attention-matrix.md from its cells, and the cells from it."""

import json
from collections.abc import Mapping
from pathlib import Path

from benchmarks.matrix.calls import KINDS
from benchmarks.matrix.cells import Cells
from benchmarks.matrix.elsewhere import refusals

__all__ = ["PAGE", "STORED", "page", "read_cells", "stored", "write_cells"]

_ROOT = Path(__file__).parent.parent.parent
PAGE = _ROOT / "docs" / "attention-matrix.md"
STORED = _ROOT / "benchmarks" / "results"
OTHERS = ("cuda", "mps")

_HEAD = """# What each attention function does

`make matrix` runs every implementation in every kind of call and writes this page. *exact*: the output, whatever else
was asked for, and the gradients of calls that have any, equal the definition in float64 up to rounding (the bound is
derived, not tuned: `headstock.attention.checking`), compiled and exported ones included; of `torch.func` and dropout,
what `eager` gives, up to some hundred roundings. *refused*: the call raised `UnsupportedFeature` or
`MissingDependency`. Nothing else can stand in a cell: a wrong result is an error of the command.
"""
_ELSEWHERE = """
## Refused elsewhere

On devices that the command did not run on, what the declarations alone refuse, whatever the versions and packages. What
is not named here is decided there: run `make matrix` on such a device, and it gets a table of its own.
"""


def page(cpu: Cells, others: Mapping[str, Cells]) -> str:
    """The whole page; `others` are the tables of further devices by their names."""
    parts = [_HEAD, "\n## cpu\n", _table(cpu)]
    for device, cells in others.items():
        parts += [f"\n## {device}\n", _table(cells)]
    missing = [device for device in OTHERS if not any(name.split(" ")[0] == device for name in others)]
    if missing:
        parts.append(_ELSEWHERE)
    for device in missing:
        rows = [f"| {name} | {', '.join(told) or 'nothing'} |" for name, told in refusals(device).items()]
        parts += [f"\n| on {device} | refused |\n|---|---|\n", "\n".join(rows), "\n"]
    return "".join(parts)


def _table(cells: Cells) -> str:
    columns = list(next(iter(cells.values())))
    lines = [f"| | | {' | '.join(columns)} |", f"|---|---|{'---|' * len(columns)}"]
    above = ""
    for kind in KINDS:
        row = " | ".join(cells[kind.name][name] for name in columns)
        lines.append(f"| {'' if kind.group == above else kind.group} | {kind.name} | {row} |")
        above = kind.group
    return "\n" + "\n".join(lines) + "\n"


def read_cells(text: str) -> Cells:
    """The cells of the table of the CPU on a page."""
    table = text.partition("\n## cpu\n")[2].partition("\n## ")[0].strip().splitlines()
    split = [[part.strip() for part in line.strip("|").split("|")] for line in table]
    columns = split[0][2:]
    return {row[1]: dict(zip(columns, row[2:], strict=True)) for row in split[2:]}


def stored() -> dict[str, Cells]:
    """The tables of further devices that were kept, by the device's type and name."""
    found = {}
    for file in sorted(STORED.glob("attention-matrix-*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        found[content["device"]] = content["cells"]
    return found


def write_cells(kind: str, device: str, cells: Cells) -> None:
    """Keep the table of a device."""
    content = json.dumps({"device": f"{kind} ({device})", "cells": cells}, indent=1)
    (STORED / f"attention-matrix-{kind}.json").write_text(f"{content}\n", encoding="utf-8")
