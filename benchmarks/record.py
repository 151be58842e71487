"""What a run was made on, and its figures in files."""

import dataclasses
import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks.compare import Result, table

__all__ = ["environment", "write"]

PACKAGES = ("headstock", "torch", "transformers")
_CPUINFO = Path("/proc/cpuinfo")


def environment() -> dict[str, str]:
    """Date, device and versions."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "device": f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "load": ", ".join(f"{each:.1f}" for each in os.getloadavg()) + " (1, 5, 15 minutes)",
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "kernels": torch.backends.cpu.get_cpu_capability(),
    }


def _processor() -> str:
    lines = _CPUINFO.read_text(encoding="utf-8").splitlines() if _CPUINFO.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def write(folder: Path, name: str, results: Sequence[Result], about: dict[str, str]) -> None:
    """`NAME.md` to read and `NAME.json` to compare with."""
    figures = [{**dataclasses.asdict(each), "met": each.met} for each in results]
    listed = "\n".join(f"- {key}: {value}" for key, value in about.items())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(f"# {name}\n\n{listed}\n\n{table(results)}\n", encoding="utf-8")
    content = json.dumps({"environment": about, "results": figures}, indent=1)
    (folder / f"{name}.json").write_text(f"{content}\n", encoding="utf-8")
